"""Stage `features` of video/: data/frames.parquet and models/ -> features/, of each image and of its mirror image.

A video whose features of this model and these frames exist is not computed again. With `ray.num_workers` above 0 the
videos are computed on Ray, several at once, each task with the resources of a trial.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch

from nla.config.base import read_params, section
from nla.config.clips import ClipsConfig
from nla.config.ray import RayConfig
from nla.console import bar, say
from nla.limits import ImageLimits
from nla.models.classifier import Classifier
from nla.models.saved_model import WEIGHTS, load_model, require_same
from nla.video.features import Compute, extract, in_this_process
from nla.video.frames import read_frames
from nla.workflow.stage import run_stage

FRAMES, FEATURES, MODEL = Path("data/frames.parquet"), Path("features"), Path("models") / WEIGHTS


def main() -> None:
    """Computes the features of all frames."""
    params = read_params()
    config, ray = section(ClipsConfig, params), section(RayConfig, params)
    frames = read_frames(FRAMES)
    model, card = load_model(MODEL)
    require_same((card["source"], card["classes"]), (frames.info.source, frames.info.classes), FRAMES)
    with bar("features", "frames") as progress, computing(ray, model, config.image_limits) as compute:
        index = extract(compute, card["sha256"], FRAMES, frames, FEATURES, progress)
    say(f"features: {len(frames):,} frames of {len(index.videos):,} videos, {index.features} of each view")


@contextlib.contextmanager
def computing(ray: RayConfig, model: Classifier, limits: ImageLimits) -> Iterator[Compute]:
    """Computes features in this process, on a cluster, or on a Ray that is started for this stage."""
    if ray.in_process:
        is_gpu = torch.cuda.is_available() and ray.use_gpu is not False
        yield in_this_process(model.to("cuda" if is_gpu else "cpu"), limits)
        return
    from nla.ray_cluster import connected  # importing Ray is slow, and only needed here
    from nla.video.ray_features import on_ray

    with connected(ray) as cluster:
        yield on_ray(cluster, ray, model, limits)


if __name__ == "__main__":
    run_stage(main)
