"""The loop of one process: resuming, repeating, stopping early, diverging, and its checkpoints."""

from __future__ import annotations

import contextlib
import json
import math
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_parts import CLASSES, SINGLE, CallRecorder, MakeSamples, Stop, StopAt, checkpoint_of, content, make_job

from nla.data.loader import epoch_order
from nla.data.samples import Samples
from nla.errors import ConfigError, Damaged, Diverged, TrainingError
from nla.evaluation.predict import ONE_VIEW, predict
from nla.seals import sealed_line
from nla.training.callbacks import Callback
from nla.training.checkpoint import Progress, read_progress
from nla.training.checkpoint_store import FolderStore
from nla.training.epoch_report import EpochReport
from nla.training.job import Job
from nla.training.optim import LRSchedule
from nla.training.trainer import Split, Trainer

RECIPES: dict[str, dict[str, Any]] = {
    "elr, a memory of each sample": {"loss": {"name": "elr"}, "recipe": "flip"},
    "forward, a matrix from the memory": {"loss": {"name": "forward", "options": {"start": 0.3}}, "recipe": "flip"},
    "plus, a memory of both views": {"loss": {"name": "plus"}, "recipe": "flip"},
    "sop, parameters of each sample": {
        "loss": {"name": "sop", "options": {"lr_u": 2e4, "lr_v": 2e4}},
        "recipe": "flip",
        "momentum": 0.9,
        "grad_clip": 1.0,
    },
    "ce2, two views": {"loss": {"name": "ce2"}, "recipe": "flip"},
    "ldam, weights from epoch 2, cosine head": {
        "loss": {"name": "ldam", "options": {"defer": 0.3}},
        "model": {"head": "cosine"},
    },
    "mixup, draws of its own": {"loss": {"name": "mixup"}},
    "co_teaching, a second network": {"loss": {"name": "co_teaching", "options": {"ramp": 0.6}}, "ema": 0.9},
    "resup, mixtures of the epoch before": {
        "loss": {"name": "resup"},
        "recipe": "affine",
        "model": {"dropout": 0.5},
        "ema": 0.9,
    },
    "scn, new labels": {"loss": {"name": "scn", "options": {"relabel_margin": 0.0}}, "recipe": "flip"},
    "rul, random pairs": {"loss": {"name": "rul"}, "optimizer": "adamw", "lr": 1e-3},
    "eac, random holes": {"loss": {"name": "eac"}, "model": {"dropout": 0.5}},
    "average, momentum, dropout, clipping, cosine": {
        "model": {"dropout": 0.5},
        "recipe": "affine",
        "momentum": 0.9,
        "ema": 0.9,
        "grad_clip": 1.0,
        "schedule": "cosine",
        "weight_decay": 1e-3,
    },
    "paper, adamw, one cycle": {
        "loss": {"name": "nla", "variant": "paper"},
        "recipe": "released",
        "optimizer": "adamw",
        "schedule": "one_cycle",
        "lr": 1e-2,
    },
    "released, adam, exponential, bf16, contiguous": {
        "loss": {"name": "nla", "variant": "released"},
        "optimizer": "adam",
        "schedule": "exponential",
        "lr": 1e-3,
        "precision": "bf16",
        "channels_last": False,
    },
    "early stopping by mean accuracy": {"select": "mean_accuracy", "patience": 2, "lr": 1e-12, "epochs": 9},
}


@pytest.fixture
def split(tiny_samples: MakeSamples) -> Split:
    return Split(tiny_samples(56), tiny_samples(30, seed=1))


def split_of(tiny_samples: MakeSamples, recipe: dict[str, Any]) -> Split:
    size = recipe.get("size", 16)
    return Split(tiny_samples(56, size=size), tiny_samples(30, seed=1, size=size))


def run(job: Job, split: Split, folder: Path, *callbacks: Callback) -> Progress:
    return Trainer(job, split, SINGLE, FolderStore(folder), callbacks).fit()


def interrupt(job: Job, split: Split, folder: Path, stop: StopAt) -> None:
    """Trains until `stop`, and then advances all global random generators."""
    with pytest.raises(Stop):
        run(job, split, folder, stop)
    torch.manual_seed(999)
    torch.rand(17)
    random.seed(999)
    np.random.seed(999)  # noqa: NPY002


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stop", [StopAt(1), StopAt(2), StopAt(1, 2)], ids=["epoch 1", "epoch 2", "inside of epoch 2"])
def test_interrupted_and_resumed_equals_uninterrupted(
    tmp_path: Path, tiny_samples: MakeSamples, name: str, stop: StopAt
) -> None:
    """Bit for bit: weights, best, moments, average, positions, history."""
    recipe = RECIPES[name]
    split, job = split_of(tiny_samples, recipe), make_job(**{"epochs": 3} | recipe)
    run(job, split, tmp_path / "whole")
    interrupt(job, split, tmp_path / "parts", stop)
    run(job, split, tmp_path / "parts")
    assert content(checkpoint_of(tmp_path / "parts")) == content(checkpoint_of(tmp_path / "whole"))


def test_soft_targets_resume_too(tmp_path: Path, split: Split) -> None:
    soft_NC = np.random.default_rng(0).dirichlet(np.ones(CLASSES), 56).astype(np.float32)
    soft, job = split._replace(train=replace(split.train, target_NC=soft_NC)), make_job(loss={"name": "nla"})
    run(job, soft, tmp_path / "whole")
    interrupt(job, soft, tmp_path / "parts", StopAt(1))
    run(job, soft, tmp_path / "parts")
    whole = content(checkpoint_of(tmp_path / "whole"))
    assert content(checkpoint_of(tmp_path / "parts")) == whole
    run(job, split, tmp_path / "hard")
    assert content(checkpoint_of(tmp_path / "hard")) != whole


def test_the_same_seed_repeats_and_another_does_not(tmp_path: Path, split: Split) -> None:
    for folder, seed in (("one", 3), ("two", 3), ("other", 4)):
        run(make_job(seed=seed, recipe="affine"), split, tmp_path / folder)
    one, two, other = (content(checkpoint_of(tmp_path / folder)) for folder in ("one", "two", "other"))
    assert one == two
    name = "last/fc.weight"
    assert one[name] != other[name]


def test_learns(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    job = make_job(epochs=6, optimizer="adamw", lr=1e-2, schedule="one_cycle", loss={"name": "nla", "variant": "paper"})
    progress = run(job, Split(tiny_samples(160), tiny_samples(60, seed=1)), tmp_path)
    assert progress.history[-1]["valid_accuracy"] > 0.9
    assert progress.history[-1]["train_loss"] < 0.5 * progress.history[0]["train_loss"]


def test_a_finished_run_is_returned_as_it_is(tmp_path: Path, split: Split) -> None:
    before = run(make_job(), split, tmp_path)
    checkpoint, calls = content(checkpoint_of(tmp_path)), CallRecorder()
    assert run(make_job(), split, tmp_path, calls) == before
    assert content(checkpoint_of(tmp_path)) == checkpoint
    assert calls.steps == calls.rows == []


def test_patience_counts_epochs_without_a_better_one(tmp_path: Path, split: Split) -> None:
    progress = run(make_job(epochs=9, patience=2, lr=1e-12, freeze_batchnorm=True), split, tmp_path)
    assert (progress.epochs_done, progress.best_epoch) == (3, 1)


def test_stopping_before_the_early_epoch_makes_the_last_one_early(tmp_path: Path, split: Split) -> None:
    progress = run(make_job(epochs=40, patience=2, lr=1e-12, freeze_batchnorm=True), split, tmp_path)
    assert (progress.epochs_done, progress.early_epoch) == (3, 2)
    assert read_progress(checkpoint_of(tmp_path)).early_epoch == 2
    positions = load_file(checkpoint_of(tmp_path) / "positions.safetensors")
    assert not positions["early"].isnan().all()
    torch.testing.assert_close(positions["early"], positions["late"], rtol=0, atol=0, equal_nan=True)


class KeepsAll(Callback):
    """The `last` weights of every epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_epoch_end(self, row: dict[str, float]) -> None:
        self.weights.append(load_file(checkpoint_of(self.folder) / "last.safetensors"))


@pytest.mark.parametrize("select", ["accuracy", "mean_accuracy", "macro_f1"])
def test_the_best_epoch_is_the_first_highest_on_validation(tmp_path: Path, split: Split, select: str) -> None:
    seen = KeepsAll(tmp_path)
    progress = run(make_job(epochs=5, lr=0.1, select=select), split, tmp_path, seen)
    metrics = [row[f"valid_{select}"] for row in progress.history]
    assert progress.best_epoch == metrics.index(max(metrics)) + 1
    assert progress.best_metric == max(metrics)
    best = load_file(checkpoint_of(tmp_path) / "best.safetensors")
    torch.testing.assert_close(best, seen.weights[progress.best_epoch - 1], rtol=0, atol=0)
    assert not torch.equal(seen.weights[0]["fc.weight"], seen.weights[1]["fc.weight"])


class KeepsReports(FolderStore):
    """What the loop reports of each epoch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reports: list[EpochReport] = []

    def save(self, write: Callable[[Path], None] | None, report: EpochReport) -> None:
        self.reports.append(report)
        super().save(write, report)


def test_each_report_has_the_epoch_that_would_be_kept(tmp_path: Path, split: Split) -> None:
    """For every epoch, as if training ended there; by accuracy, whatever the other metrics."""
    store = KeepsReports(tmp_path)
    history = Trainer(make_job(epochs=5, lr=0.1), split, SINGLE, store).fit().history
    for epoch, report in enumerate(store.reports, start=1):
        best = max(history[:epoch], key=lambda row: row["valid_accuracy"])
        assert (report.row, report.kept_row, report.is_last) == (history[epoch - 1], best, epoch == 5)
        assert report.metrics["valid_nll"] == history[epoch - 1]["valid_nll"]
        assert report.metrics["kept_mean_accuracy"] == best["valid_mean_accuracy"]
        assert report.metrics["is_last"] is report.is_last


def test_the_report_of_an_epoch_says_that_patience_ends_it(tmp_path: Path, split: Split) -> None:
    store = KeepsReports(tmp_path)
    Trainer(make_job(epochs=9, patience=2, lr=1e-12, freeze_batchnorm=True), split, SINGLE, store).fit()
    assert [report.is_last for report in store.reports] == [False, False, True]


def test_callbacks_are_called_after_every_step_and_epoch(tmp_path: Path, split: Split) -> None:
    calls = CallRecorder()
    job = make_job(epochs=2, schedule="cosine")
    progress = run(job, split, tmp_path, calls)
    assert calls.steps == [
        (epoch, step, 3, 16) for epoch in (0, 1) for step in (1, 2, 3)
    ]  # 56 samples: 3 batches of 16
    assert calls.rows == progress.history
    assert [row["epoch"] for row in calls.rows] == [1, 2]
    assert [row["lr"] for row in calls.rows] == [LRSchedule(job.config.train, 3)(step) for step in (2, 5)]
    assert all(row["images_per_second"] > 0 and row["seconds"] > 0 for row in calls.rows)


class Rates(Callback):
    """Records the optimizer's learning rate of every step."""

    def __init__(self) -> None:
        self.trainer: Trainer | None = None
        self.seen: list[float] = []

    def on_step_end(self, *arguments: Any) -> None:
        assert self.trainer is not None
        self.seen += {group["lr"] for group in self.trainer.optimizer.param_groups}


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "exponential", "constant"])
def test_each_step_has_the_rate_of_the_schedule_also_after_a_resume(
    tmp_path: Path, split: Split, schedule: str
) -> None:
    job, rates = make_job(epochs=4, schedule=schedule), Rates()
    for stop in (StopAt(2), Callback()):
        trainer = rates.trainer = Trainer(job, split, SINGLE, FolderStore(tmp_path), [rates, stop])
        with contextlib.suppress(Stop):
            trainer.fit()
    assert rates.seen == [LRSchedule(job.config.train, 3)(step) for step in range(12)]
    assert [row["lr"] for row in trainer.progress.history] == rates.seen[2::3]


def frozen(**changes: Any) -> Job:
    """A job with steps too small to change a weight, and fixed statistics: the network stays as initialised."""
    return make_job(lr=1e-30, momentum=0.0, freeze_batchnorm=True, **changes)


def test_the_loss_of_an_epoch_is_the_mean_over_what_it_saw(tmp_path: Path, split: Split) -> None:
    progress = run(frozen(epochs=1), split, tmp_path)
    p_NC = first_predictions(split.train, tmp_path)
    seen = epoch_order(56, 0, 0)[:48]
    expected = -np.log(p_NC[seen, split.train.label_N[seen]]).mean()
    assert progress.history[0]["train_loss"] == pytest.approx(expected, rel=1e-5)


def first_predictions(samples: Samples, folder: Path) -> np.ndarray:
    model = frozen().build()
    model.backbone.load_state_dict(load_file(checkpoint_of(folder) / "last.safetensors"))
    return predict(model, samples.images_NHWC, ONE_VIEW)


@pytest.mark.parametrize(("epochs", "early"), [(1, 0), (2, 1), (7, 1)])
def test_early_is_not_the_first_epoch_where_there_are_more(
    tmp_path: Path, split: Split, epochs: int, early: int
) -> None:
    assert run(frozen(epochs=epochs), split, tmp_path).early_epoch == early


def test_positions_are_where_each_sample_was_seen_last(tmp_path: Path, split: Split) -> None:
    progress = run(frozen(epochs=16), split, tmp_path)
    assert progress.early_epoch == 2
    positions = load_file(checkpoint_of(tmp_path) / "positions.safetensors")
    p_NC, label_N = first_predictions(split.train, tmp_path), split.train.label_N
    expected = [[p[label], np.delete(p, label).max()] for p, label in zip(p_NC, label_N, strict=True)]
    for name, epochs in (("early", 3), ("late", 16)):
        seen = sorted({int(i) for epoch in range(epochs) for i in epoch_order(56, 0, epoch)[:48]})
        np.testing.assert_allclose(positions[name].numpy()[seen], np.array(expected)[seen], rtol=1e-4, atol=1e-6)
    assert len(seen) == 56  # over 16 epochs every sample has its turn


def test_a_sample_that_no_batch_held_has_no_position(tmp_path: Path, split: Split) -> None:
    run(make_job(epochs=1), split, tmp_path)
    late = load_file(checkpoint_of(tmp_path) / "positions.safetensors")["late"]
    assert sorted(late.isnan().any(1).nonzero().flatten().tolist()) == sorted(epoch_order(56, 0, 0)[48:].tolist())


def test_divergence_names_the_step_and_keeps_the_previous_checkpoint(tmp_path: Path, split: Split) -> None:
    good = make_job()
    run(good, split, tmp_path / "whole")
    interrupt(good, split, tmp_path / "parts", StopAt(1))
    checkpoint, calls = content(checkpoint_of(tmp_path / "parts")), CallRecorder()
    with pytest.raises(Diverged) as error:
        run(make_job(lr=1e38), split, tmp_path / "parts", calls)
    epoch, step, steps, _ = calls.steps[-1]  # the last one that went well
    when = f"at epoch {epoch + 1}, step {step + 1}" if step < steps else f"at epoch {epoch + 2}, step 1"
    assert epoch == 1 and when in str(error.value)
    assert "Lower train.lr" in str(error.value)
    assert content(checkpoint_of(tmp_path / "parts")) == checkpoint
    run(good, split, tmp_path / "parts")
    assert content(checkpoint_of(tmp_path / "parts")) == content(checkpoint_of(tmp_path / "whole"))


@pytest.mark.parametrize("epochs", [1, 2])
def test_weights_that_the_last_step_breaks_are_not_saved(tmp_path: Path, split: Split, epochs: int) -> None:
    """One step an epoch: its loss is that of the weights before it."""
    if epochs == 2:
        interrupt(make_job(batch_size=56, epochs=2), split, tmp_path, StopAt(1))
    with pytest.raises(Diverged, match=rf"the validation loss is not finite after epoch {epochs}\. Lower train\.lr"):
        run(make_job(batch_size=56, epochs=epochs, lr=1e38), split, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001"] * (epochs - 1)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, split: Split) -> None:
    run(make_job(fingerprint="one", epochs=1), split, tmp_path)
    with pytest.raises(TrainingError, match=r"epoch-00001 is a checkpoint of another run \(one, not two\)\. Remove it"):
        run(make_job(fingerprint="two", epochs=1), split, tmp_path)


def test_only_a_damaged_checkpoint_is_an_error(tmp_path: Path, split: Split) -> None:
    run(make_job(epochs=1), split, tmp_path)
    (checkpoint_of(tmp_path) / "state.json").write_text("{")
    with pytest.raises(Damaged, match=r"state\.json: "):
        run(make_job(), split, tmp_path)


def test_a_run_with_a_damaged_checkpoint_ends_with_the_same_weights(
    tmp_path: Path, split: Split, caplog: pytest.LogCaptureFixture
) -> None:
    run(make_job(), split, tmp_path / "whole")
    interrupt(make_job(), split, tmp_path / "parts", StopAt(2))
    best = checkpoint_of(tmp_path / "parts") / "best.safetensors"
    flipped = bytearray(best.read_bytes())
    flipped[-1] ^= 1
    best.write_bytes(flipped)
    run(make_job(), split, tmp_path / "parts")
    assert content(checkpoint_of(tmp_path / "parts")) == content(checkpoint_of(tmp_path / "whole"))
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{best}: the file is damaged") and said.endswith("epoch-00001.")


def test_a_batch_larger_than_the_data(tmp_path: Path, split: Split) -> None:
    with pytest.raises(ConfigError, match=r"train\.batch_size: larger than the 56 training samples \(got 64\)\. Lower"):
        run(make_job(batch_size=64), split, tmp_path)
    assert not list(tmp_path.iterdir())


def test_first_weights_are_those_given(tmp_path: Path, split: Split) -> None:
    torch.manual_seed(42)
    state = make_job().build().backbone.state_dict()
    run(replace(frozen(epochs=1), first_weights=state, facts={"first_weights": "x"}), split, tmp_path)
    torch.testing.assert_close(load_file(checkpoint_of(tmp_path) / "last.safetensors"), state, rtol=0, atol=1e-20)
    facts = read_progress(checkpoint_of(tmp_path)).facts
    assert facts["first_weights"] == "x"
    assert (facts["precision"], facts["workers"], facts["device"], facts["tf32"]) == ("fp32", 1, "cpu", False)
    assert facts["device_name"] and "before" not in facts


def test_facts_that_changed_with_a_resume_are_recorded(tmp_path: Path, split: Split) -> None:
    """The fingerprint is that of parameters, data and code: the same run can resume on another machine."""
    interrupt(make_job(), split, tmp_path, StopAt(1))
    state = checkpoint_of(tmp_path) / "state.json"
    written = json.loads(state.read_text())
    written["facts"] |= {"first_weights": "x", "precision": "bf16", "workers": 2}
    del written["sha256"]
    state.write_bytes(sealed_line(written))
    facts = run(make_job(), split, tmp_path).facts
    assert (facts["first_weights"], facts["precision"], facts["workers"]) == ("x", "fp32", 1)
    assert facts["before"] == [{"epochs_done": 1, "precision": "bf16", "workers": 2}]


def test_the_average_is_saved_and_validated(tmp_path: Path, split: Split) -> None:
    progress = run(make_job(ema=0.9, epochs=2), split, tmp_path)
    folder = checkpoint_of(tmp_path)
    last, average = load_file(folder / "last.safetensors"), load_file(folder / "average.safetensors")
    raw = load_file(folder / "trained.safetensors")
    assert torch.equal(last["fc.weight"], average["module.backbone.fc.weight"])
    assert not torch.equal(last["fc.weight"], raw["network.backbone.fc.weight"])
    hits = first_predictions(split.valid, tmp_path).argmax(1) == split.valid.label_N
    assert progress.history[-1]["valid_accuracy"] == pytest.approx(hits.mean())
    assert not math.isnan(progress.history[-1]["valid_nll"])


def test_a_copy_of_the_folder_resumes(tmp_path: Path, split: Split) -> None:
    interrupt(make_job(), split, tmp_path / "original", StopAt(1))
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    for name in ("original", "copy"):
        run(make_job(), split, tmp_path / name)
    assert content(checkpoint_of(tmp_path / "original")) == content(checkpoint_of(tmp_path / "copy"))
