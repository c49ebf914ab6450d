"""Stage `features` of video/: data/frames.parquet and models/ -> features/, of each image and of its mirror image.

A video whose features of this model and these frames exist is not computed again.
"""

from __future__ import annotations

from pathlib import Path

import torch

from nla.config.base import read_params, section
from nla.config.clips import ClipsConfig
from nla.console import bar, say
from nla.models.saved_model import WEIGHTS, load_model, require_same
from nla.video.features import extract
from nla.video.frames import read_frames
from nla.workflow.stage import run_stage

FRAMES, FEATURES, MODEL = Path("data/frames.parquet"), Path("features"), Path("models") / WEIGHTS


def main() -> None:
    """Computes the features of all frames."""
    config = section(ClipsConfig, read_params())
    frames = read_frames(FRAMES)
    model, card = load_model(MODEL)
    require_same((card["source"], card["classes"]), (frames.info.source, frames.info.classes), FRAMES)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    with bar("features", "frames") as progress:
        index = extract(model, card["sha256"], FRAMES, frames, FEATURES, config.image_limits, progress)
    say(f"features: {len(frames):,} frames of {len(index.videos):,} videos, {index.features} of each view")


if __name__ == "__main__":
    run_stage(main)
