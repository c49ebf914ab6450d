"""Small searches; as a program, one whose checkpoints lie at a URL, asked for twice: python sweep_parts.py URL."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nla.cluster import Cluster, connected
from nla.config.base import section
from nla.config.ray import RayConfig
from nla.config.tune import TuneConfig
from nla.data.loader import Samples
from nla.models.classifier import ImageSpec
from nla.training.loop import Split
from nla.tuning.space import trial_base
from nla.tuning.sweep import search
from nla.tuning.trial import Study
from nla.tuning.trials import Trial
from nla.tuning.watch import Hooks, Watcher

EPOCHS = 3
SPACE = {"loss": {"lam": {"uniform": [0.3, 0.7]}, "slope": {"uniform": [0.0, 30.0]}}}
RAY = RayConfig(use_gpu=False)


class Counts:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.epochs: list[tuple[str, int]] = []
        self.ends: list[str] = []

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        self.starts.append(trial)

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        self.epochs.append((trial, int(row["epoch"])))

    def ended(self, trial: str) -> None:
        self.ends.append(trial)


def settings(num_samples: int, **others: Any) -> TuneConfig:
    given = {"num_samples": num_samples, "epochs": EPOCHS, "scheduler": "none", "space": SPACE, **others}
    return section(TuneConfig, {"tune": given})


def study(name: str, **train: Any) -> Study:
    params = {
        "model": {"width": 8},
        "augment": {"recipe": "flip"},
        "train": {"epochs": EPOCHS, "batch_size": 16, "lr": 0.01, **train},
    }
    return Study(trial_base(params), 3, ImageSpec(16, 1, (0.4,), (0.2,)), name)


def run(
    cluster: Cluster,
    split: Split,
    storage: Path | str,
    config: TuneConfig,
    ray: RayConfig = RAY,
    watcher: Watcher | None = None,
    **train: Any,
) -> tuple[list[Trial], Counts]:
    counts = Counts()
    hooks = Hooks([counts] if watcher is None else [counts, watcher])
    found = search(cluster, study("s" * 16, **train), split, config, ray, str(storage), hooks)
    return found, counts


def noise(n: int) -> Samples:
    """Grey noise of three classes: nothing to be learned."""
    rng = np.random.default_rng(n)
    images_NHWC = rng.integers(0, 256, (n, 16, 16, 1), dtype=np.uint8)
    return Samples(images_NHWC, rng.integers(0, 3, n), None, np.arange(n), ("a", "b", "c"), "noise")


if __name__ == "__main__":
    with connected(RAY) as here:
        for _ in range(2):
            trials, counts = run(here, Split(noise(64), noise(32)), sys.argv[1], settings(2))
            told = [(trial.id, trial.status, dict(trial.values), trial.score("accuracy")) for trial in trials]
            print(json.dumps({"trials": told, "epochs": len(counts.epochs)}))
