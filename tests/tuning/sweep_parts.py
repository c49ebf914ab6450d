"""Small searches; as a program, one whose checkpoints lie at a URL, asked for twice: python sweep_parts.py URL."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nla.config.base import section
from nla.config.ray import RayConfig
from nla.config.tune import TuneConfig
from nla.data.samples import Samples
from nla.models.classifier import ImageSpec
from nla.ray_cluster import Cluster, connected
from nla.training.trainer import Split
from nla.tuning.callbacks import History, Watcher
from nla.tuning.results import Trial
from nla.tuning.search import search
from nla.tuning.space import trial_base
from nla.tuning.storage import Clock
from nla.tuning.trial import Template

EPOCHS = 3
SPACE = {"loss": {"lam": {"uniform": [0.3, 0.7]}, "slope": {"uniform": [0.0, 30.0]}}}
SIDE_BY_SIDE = RayConfig(use_gpu=False)
RAY = SIDE_BY_SIDE.model_copy(update={"max_concurrent_trials": 1})
"""In one process, which takes longer to import than to train a trial."""


class Counts:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.before: dict[str, int] = {}
        self.starts: list[str] = []
        self.epochs: list[tuple[str, int]] = []
        self.ends: list[str] = []
        self.side_by_side = 0

    def known(self, trial: str, history: History) -> None:
        assert trial not in self.before
        self.before[trial] = len(history)

    def started(self, trial: str, values: Mapping[str, Any]) -> None:
        self.starts.append(trial)
        self.side_by_side = max(self.side_by_side, len(set(self.starts) - set(self.ends)))

    def epoch(self, trial: str, row: Mapping[str, float]) -> None:
        self.epochs.append((trial, int(row["epoch"])))

    def ended(self, trial: str) -> None:
        self.ends.append(trial)


def settings(num_samples: int, **others: Any) -> TuneConfig:
    given = {"num_samples": num_samples, "epochs": EPOCHS, "scheduler": "none", "space": SPACE, **others}
    return section(TuneConfig, {"tune": given})


def template(name: str, loss: Mapping[str, Any] | None = None, **train: Any) -> Template:
    params = {
        "loss": loss,
        "model": {"width": 8},
        "augment": {"recipe": "flip"},
        "train": {"epochs": EPOCHS, "batch_size": 16, "lr": 0.01, **train},
    }
    return Template(trial_base(params), 3, ImageSpec(16, 1, (0.4,), (0.2,)), name)


def run(
    cluster: Cluster,
    split: Split,
    storage: Path | str,
    config: TuneConfig,
    ray: RayConfig = RAY,
    watcher: Watcher | None = None,
    now: Callable[[], float] = time.time,
    **train: Any,
) -> tuple[list[Trial], Counts]:
    counts = Counts()
    watchers = [counts] if watcher is None else [counts, watcher]
    mine = template("s" * 16, **train)
    clock = Clock(f"{storage}/{mine.fingerprint}", config.time_budget, now)
    found = search(cluster, mine, split, config, ray, str(storage), watchers, clock)
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
