"""Options that several commands share: --model, --detector and --device."""

from __future__ import annotations

import argparse
from pathlib import Path

from nla.devices import DEVICES
from nla.faces.choice import NAMES


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds --model, which is None unless it is given: `chosen_model` knows what to take then."""
    text = "a .safetensors file with its .json, or a folder that holds model.safetensors (models, else NLA's own)"
    parser.add_argument("--model", type=Path, help=text)


def add_detector(parser: argparse.ArgumentParser) -> None:
    """Adds --detector."""
    text = "what finds faces; auto: yunet if its weights are there (`nla detector list`), else dlib (%(default)s)"
    parser.add_argument("--detector", choices=NAMES, default=NAMES[0], help=text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds --device. Its value is checked by `find_device`, which knows what is here."""
    text = f"{', '.join(DEVICES)}: where the network computes; auto: a GPU of CUDA if there is one (%(default)s)"
    parser.add_argument("--device", default=DEVICES[0], help=text)
