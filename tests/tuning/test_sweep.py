"""A search on a real Ray: its trials, going on, being extended, and trials that fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nla.cluster import Cluster
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
from nla.tuning.watch import Hooks

pytestmark = [pytest.mark.slow, pytest.mark.ray]
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


@pytest.fixture(scope="module")
def split(tiny_samples: Callable[..., Samples]) -> Split:
    return Split(tiny_samples(64), tiny_samples(48, seed=1))


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


def run(cluster: Cluster, split: Split, folder: Path, config: TuneConfig, name: str = "s" * 16, **train: Any) -> Any:
    counts = Counts()
    found = search(cluster, study(name, **train), split, config, RAY, str(folder), Hooks([counts]))
    return found, counts


def numbers(trials: list[Trial]) -> list[int]:
    return [trial.number for trial in trials]


@pytest.mark.parametrize("searcher", ["random", "optuna"])
def test_a_search_ends_is_handed_over_and_extended(
    tmp_path: Path, ray_cluster: Cluster, split: Split, searcher: str
) -> None:
    found, counts = run(ray_cluster, split, tmp_path, settings(2, searcher=searcher))
    assert numbers(found) == [0, 1] and {trial.status for trial in found} == {"finished"}
    assert found[0].values == {"loss.lam": 0.5, "loss.slope": 15.0}, "the published values come first"
    assert all([int(row["epoch"]) for row in trial.history] == [1, 2, 3] for trial in found)
    assert sorted(counts.epochs) == sorted((trial.id, epoch) for trial in found for epoch in (1, 2, 3))
    assert sorted(counts.ends) == sorted(trial.id for trial in found)

    again, counts = run(ray_cluster, split, tmp_path, settings(2, searcher=searcher))
    assert [(trial.id, trial.values, trial.history) for trial in again] == [
        (trial.id, trial.values, trial.history) for trial in found
    ]
    assert not counts.epochs, "nothing is trained again"

    more, counts = run(ray_cluster, split, tmp_path, settings(3, searcher=searcher))
    assert numbers(more) == [0, 1, 2]
    assert [trial.id for trial in more[:2]] == [trial.id for trial in found]
    assert {trial for trial, _ in counts.epochs} == {more[2].id}
    assert more[2].values not in [trial.values for trial in found]


def test_trials_that_diverge_are_told_and_the_search_goes_on(
    tmp_path: Path, ray_cluster: Cluster, split: Split
) -> None:
    space = {"train": {"lr": {"choice": [0.01, 1e38]}}}
    found, _ = run(ray_cluster, split, tmp_path, settings(6, space=space, seed=1), schedule="constant")
    failed = [trial for trial in found if trial.status == "failed"]
    assert {trial.values["train.lr"] for trial in failed} == {1e38}
    assert {trial.values["train.lr"] for trial in found if trial.status == "finished"} == {0.01}
    assert all("not finite" in trial.reason for trial in failed)


def test_asha_stops_trials(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    config = settings(6, scheduler="asha", epochs=EPOCHS, reduction=3.0)
    found, _ = run(ray_cluster, split, tmp_path, config)
    stopped = [trial for trial in found if trial.status == "stopped"]
    assert stopped and all(trial.reason.startswith("asha, after epoch") for trial in stopped)
    assert all(len(trial.history) < EPOCHS for trial in stopped)
    assert [trial for trial in found if trial.status == "finished"]


@pytest.mark.parametrize("scheduler", ["median", "pbt"])
def test_other_schedulers_run(tmp_path: Path, ray_cluster: Cluster, split: Split, scheduler: str) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(3, scheduler=scheduler))
    assert len(found) == 3 and all(trial.history for trial in found)


def test_a_front_of_two_metrics(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    found, _ = run(ray_cluster, split, tmp_path, settings(2, objective="both", searcher="optuna"))
    assert all(trial.score("both") > 0 for trial in found)


def test_a_grid_is_gone_through(tmp_path: Path, ray_cluster: Cluster, split: Split) -> None:
    space = {"loss": {"lam": {"grid": [0.4, 0.5]}}}
    found, _ = run(ray_cluster, split, tmp_path, settings(1, space=space))
    assert {trial.values["loss.lam"] for trial in found} >= {0.5}
