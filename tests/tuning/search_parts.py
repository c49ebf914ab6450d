"""Small searches. `python search_parts.py URL` runs one twice, with its storage at a URL."""

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
from nla.tuning.results import Trial
from nla.tuning.search import run_search
from nla.tuning.space import trial_base
from nla.tuning.storage import Clock
from nla.tuning.trial import Template
from nla.tuning.trial_callbacks import TrialCallback

EPOCHS = 3
SPACE = {"loss": {"lam": {"uniform": [0.3, 0.7]}, "slope": {"uniform": [0.0, 30.0]}}}
PARALLEL = RayConfig(use_gpu=False)
SEQUENTIAL = PARALLEL.model_copy(update={"max_concurrent_trials": 1})
"""In one process, which takes longer to import than to train a trial."""


class RecordingCallback:
    """Records all events."""

    def __init__(self) -> None:
        self.restored: dict[str, int] = {}
        self.starts: list[str] = []
        self.epochs: list[tuple[str, int]] = []
        self.ends: list[str] = []
        self.failed: list[str] = []
        self.scores: dict[str, float] = {}
        self.most_concurrent = 0

    def on_trial_restored(self, trial: str, epochs: int, score: float) -> None:
        assert trial not in self.restored
        self.restored[trial] = epochs

    def on_trial_start(self, trial: str, values: Mapping[str, Any]) -> None:
        self.starts.append(trial)
        self.most_concurrent = max(self.most_concurrent, len(set(self.starts) - set(self.ends)))

    def on_epoch_end(self, trial: str, row: Mapping[str, float], score: float) -> None:
        self.epochs.append((trial, int(row["epoch"])))
        self.scores[trial] = score

    def on_trial_end(self, trial: str, failed: bool = False) -> None:
        self.ends.append(trial)
        self.failed += [trial] * failed


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
    ray: RayConfig = SEQUENTIAL,
    callback: TrialCallback | None = None,
    elapsed: Callable[[], float] = time.monotonic,
    **train: Any,
) -> tuple[list[Trial], RecordingCallback]:
    events = RecordingCallback()
    callbacks = [events] if callback is None else [events, callback]
    search = template("s" * 16, **train)
    clock = Clock(f"{storage}/{search.fingerprint}", config.time_budget, elapsed=elapsed)
    trials = run_search(cluster, search, split, config, ray, str(storage), callbacks, clock)
    return trials, events


def noise(n: int) -> Samples:
    """Grey noise of three classes, from which nothing can be learned."""
    rng = np.random.default_rng(n)
    images_NHWC = rng.integers(0, 256, (n, 16, 16, 1), dtype=np.uint8)
    return Samples(images_NHWC, rng.integers(0, 3, n), None, np.arange(n), ("a", "b", "c"), "noise")


if __name__ == "__main__":
    with connected(SEQUENTIAL) as local:
        for _ in range(2):
            trials, events = run(local, Split(noise(64), noise(32)), sys.argv[1], settings(2))
            rows = [(trial.id, trial.status, dict(trial.values), trial.score("accuracy")) for trial in trials]
            print(json.dumps({"trials": rows, "epochs": len(events.epochs)}))
