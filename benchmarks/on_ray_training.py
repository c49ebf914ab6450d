"""One training for benchmarks/on_ray.py; it prints one line of JSON.

python benchmarks/on_ray_training.py '{"where": "ray", "workers": 1, "threads": 2, "images": 1536, "epochs": 5, ...}'
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from nla.telemetry import disable_telemetry

disable_telemetry()

import numpy as np  # noqa: E402
import torch  # noqa: E402

from nla.config.base import read_params  # noqa: E402
from nla.config.ray import RayConfig  # noqa: E402
from nla.data.samples import Samples  # noqa: E402
from nla.ray_cluster import connected  # noqa: E402
from nla.training.callbacks import Callback  # noqa: E402
from nla.training.checkpoint_store import FolderStore  # noqa: E402
from nla.training.job import (  # noqa: E402
    Job,
    image_spec,
    training_config,
)
from nla.training.process_group import ProcessGroup  # noqa: E402
from nla.training.ray_train import train_on  # noqa: E402
from nla.training.trainer import Split, Trainer  # noqa: E402

CLASSES = tuple("abcdefgh")
VALID = 256
PARAMS = Path("params.yaml")


class Clock(Callback):
    """Records when steps and epochs ended."""

    def __init__(self) -> None:
        self.first_step = 0.0
        self.epoch_ends: list[float] = []
        self.rows: list[dict[str, float]] = []

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        self.first_step = self.first_step or time.time()

    def on_epoch_end(self, row: dict[str, float]) -> None:
        self.epoch_ends.append(time.time())
        self.rows.append(row)


def noise(n: int) -> Samples:
    """Grey noise of 48 px."""
    rng = np.random.default_rng(n)
    images_NHWC = rng.integers(0, 256, (n, 48, 48, 1), dtype=np.uint8)
    return Samples(images_NHWC, rng.integers(0, len(CLASSES), n), None, np.arange(n), CLASSES, "noise")


def main(given: dict[str, Any]) -> None:
    """Trains, and prints the times."""
    marks = [given["began"], time.time()]
    split = Split(noise(given["images"]), noise(VALID))
    params = read_params(PARAMS)
    params["train"] |= {"epochs": given["epochs"]}
    job = Job(
        training_config(params),
        num_classes=len(CLASSES),
        image=image_spec(split.train.images_NHWC),
        fingerprint="f" * 16,
    )
    clock = Clock()
    if given["where"] == "bare":
        torch.set_num_threads(given["threads"])
        Trainer(job, split, ProcessGroup(torch.device("cpu")), FolderStore(Path(given["storage"])), [clock]).fit()
    else:
        config = RayConfig(num_workers=given["workers"], cpus_per_worker=given["threads"], use_gpu=False)
        with connected(config) as cluster:
            marks.append(time.time())
            with train_on(cluster, job, split, config, given["storage"], [clock]):
                marks += [clock.first_step, clock.epoch_ends[-1], time.time()]
        marks.append(time.time())
    names = ("imports", "Ray starts", "up to the first step", "training", "up to the result", "Ray ends")
    phases = {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}
    print(json.dumps({"images": given["images"], "rows": clock.rows, "epoch_ends": clock.epoch_ends, "phases": phases}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
