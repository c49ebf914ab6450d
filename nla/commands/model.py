"""The option --model, which several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from nla.serving.predictor import WEIGHTS


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds --model."""
    what = "a .safetensors file with its .json, or the folder of a training (%(default)s)"
    parser.add_argument("--model", type=Path, default="models", help=what)


def weights_of(model: Path) -> Path:
    """The weights file that --model refers to."""
    return model / WEIGHTS if model.is_dir() else model
