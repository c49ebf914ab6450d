"""A comparison on drawn clips: laws of label noise, seeds, and methods for sequences beside smoothing.

For each condition and seed, clips are drawn, labels get noise, one frame model is trained under it, and each sequence
method is trained on its features. A record holds, per method, the confusion matrix of every test video, so that a
report needs nothing but the records. Validation chooses epochs and the width of the smoothing; test is measured once.

Legend: V test videos, C classes, S seeds, R resamples.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from nla.config.base import Section, merge, read_yaml, section
from nla.config.clips import ClipsConfig
from nla.config.sequence import SequenceConfig
from nla.data.ingest import ingest
from nla.evaluation.metrics import MAIN_METRICS
from nla.evaluation.significance import percentiles
from nla.fitting import fit
from nla.io import read_json_as, sha256, write_json
from nla.training.checkpoint_store import FolderStore
from nla.training.process_group import ProcessGroup
from nla.video.features import extract, in_this_process
from nla.video.frames import FRAMES, read_frames
from nla.video.metrics import bayes, resampled_counts, video_counts
from nla.video.predict import sequence_probabilities
from nla.video.prepare import prepare_clips
from nla.video.sequences import Sequences, read_sequences
from nla.video.smoothing import choose_sigma, smoothed_probabilities
from nla.video.sources.drawn import Drawn
from nla.video.trainer import ClipJob, ClipTrainer
from nla.workflow.provenance import CODE, fingerprint, imported_sources

FRAME, SMOOTHED = "frame model", "smoothed"
FRAME_SECTIONS = ("model", "augment", "loss", "train")
"""Of params.yaml, for the frame model."""
ENTRY = Path("nla/video/study.py")
CPU = torch.device("cpu")


class VideoGrid(Section):
    """grid.yaml."""

    NAME: ClassVar[str] = "grid"

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    """Of clips, noise and trainings."""
    conditions: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> values of `clips.noise`."""
    methods: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    """Name -> values of `sequence` that differ from params.yaml."""


class CellRecord(BaseModel):
    """The result of a condition and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: str
    seed: int
    fingerprint: str
    """Of parameters and code."""
    flipped: int
    """Wrong labels in train."""
    sigma: float
    """Width of the smoothing, chosen on validation, in frames."""
    bayes_accuracy: float
    epochs: dict[str, int]
    """The epoch that validation chose for each method."""
    counts: dict[str, list[list[list[int]]]]
    """Method -> [V, C, C], actual by predicted."""

    def counts_VCC(self, method: str) -> np.ndarray:  # noqa: N802
        """Confusion matrix of each test video."""
        return np.array(self.counts[method])


def read_grid(path: Path) -> VideoGrid:
    """Reads grid.yaml. Raises ConfigError if it is missing, or a value is wrong."""
    return section(VideoGrid, {"grid": read_yaml(path, "Run this from the study's folder.")}, path.name)


def cell_params(params: Mapping[str, Any], noise: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The parameters of a condition and seed."""
    seeds = {
        "clips": {"drawn": {"seed": seed}, "seed": seed, "noise": dict(noise)},
        "train": {"seed": seed},
        "sequence": {"train": {"seed": seed}},
    }
    return merge(params, seeds)


def cells(grid: VideoGrid) -> Iterator[tuple[str, int]]:
    """(condition, seed), seed by seed, so that an interrupted study has all conditions of its first seeds."""
    yield from ((condition, seed) for seed in grid.seeds for condition in grid.conditions)


def record_path(records: Path, condition: str, seed: int) -> Path:
    """File of a record."""
    return records / f"{re.sub('[^a-z0-9]+', '-', condition.lower()).strip('-')}-{seed}.json"


def run_cell(
    grid: VideoGrid, params: Mapping[str, Any], condition: str, seed: int, records: Path, work: Path
) -> CellRecord:
    """The record of a condition and seed: that of `records`, if parameters and code are its, or a new one.

    Args:
        work: folder of this cell for clips, features and checkpoints, from which an interrupted one resumes; removed at
            the end.
    """
    own = cell_params(params, grid.conditions[condition], seed)
    methods = {name: _sequence_config(own, changes) for name, changes in grid.methods.items()}
    content = {"params": own, "methods": {name: config.model_dump(mode="json") for name, config in methods.items()}}
    key = fingerprint(content, imported_sources(ENTRY, CODE), CODE)
    path = record_path(records, condition, seed)
    if path.exists() and (known := read_json_as(path, CellRecord)).fingerprint == key:
        return known
    splits, flipped = _clips(own, work / key)
    sigma, test = choose_sigma(splits["valid"], section(SequenceConfig, own)), splits["test"]
    p = {FRAME: smoothed_probabilities(test, 0.0), SMOOTHED: smoothed_probabilities(test, sigma)}
    epochs: dict[str, int] = {}
    for number, (name, config) in enumerate(methods.items()):
        epochs[name], p[name] = _sequence(config, splits, work / key / f"method-{number}", key)
    record = CellRecord(
        condition=condition,
        seed=seed,
        fingerprint=key,
        flipped=flipped,
        sigma=sigma,
        bayes_accuracy=bayes(test)["bayes_accuracy"],
        epochs=epochs,
        counts={name: video_counts(test, values).tolist() for name, values in p.items()},
    )
    write_json(path, record.model_dump(), sealed=True)
    shutil.rmtree(work / key)
    return record


def _sequence_config(params: Mapping[str, Any], changes: Mapping[str, Any]) -> SequenceConfig:
    return section(SequenceConfig, {"sequence": merge(params.get("sequence") or {}, changes)}, "grid.yaml")


def _clips(params: Mapping[str, Any], work: Path) -> tuple[dict[str, Sequences], int]:
    """The sequences of each split, with features of a frame model that is trained on them; and the wrong labels."""
    config, frames = section(ClipsConfig, params), work / "frames.parquet"
    if not frames.exists():
        ingest(Drawn(config, work), frames, on_bad="error", schema=FRAMES)
    report = prepare_clips(frames, work / "data", config)
    sections = {name: params[name] for name in FRAME_SECTIONS if params.get(name)}
    result = fit(
        work / "data/train.parquet",
        work / "data/valid.parquet",
        params=sections,
        device="cpu",
        checkpoint_dir=work / "frame-model",
        progress=False,
    )
    weights = result.save(work / "models")
    table = read_frames(frames)
    compute = in_this_process(result.predictor.model, config.image_limits)
    extract(compute, sha256(weights), frames, table, work / "features")
    return read_sequences(work / "data/labels.parquet", work / "features"), report["noise"]["flipped"]


def _sequence(
    config: SequenceConfig, splits: Mapping[str, Sequences], folder: Path, key: str
) -> tuple[int, list[np.ndarray]]:
    """(chosen epoch, predictions on test) of a method."""
    group, store = ProcessGroup(CPU), FolderStore(folder)
    trainer = ClipTrainer(ClipJob(config, key), splits["train"], splits["valid"], group, store)
    progress = trainer.fit()
    trainer.network.backbone.load_state_dict(trainer.best)
    p = [
        sequence_probabilities(trainer.network, video.features_T2F, video.frame_T, config.window, config.overlap)
        for video in splits["test"].videos
    ]
    return progress.best_epoch, p


# --- report ----------------------------------------------------------------------------------------------------------


def methods_of(records: Sequence[CellRecord]) -> list[str]:
    """Methods that all records have, in their order."""
    return [name for name in records[0].counts if all(name in record.counts for record in records)]


def difference(
    records: Sequence[CellRecord], one: str, other: str, metric: str, resamples: int, seed: int
) -> tuple[float, float, float]:
    """(mean over seeds of one - other, low, high): paired, with a 95 % interval of resampled videos in each seed."""
    statistic = MAIN_METRICS[metric]
    estimate, drawn = [], []
    for record in records:
        pair = [record.counts_VCC(name) for name in (one, other)]
        first, second = (statistic(resampled_counts(counts, resamples, seed + record.seed)) for counts in pair)
        estimate.append(float(statistic(pair[0].sum(0))) - float(statistic(pair[1].sum(0))))
        drawn.append(first - second)
    low, high = percentiles(np.mean(drawn, axis=0))
    return float(np.mean(estimate)), low, high


def report_lines(records: Sequence[CellRecord], resamples: int, seed: int) -> Iterator[str]:
    """A table per condition, in Markdown: means and standard deviations over seeds, and differences from smoothing."""
    for condition in dict.fromkeys(record.condition for record in records):
        own = [record for record in records if record.condition == condition]
        limit = np.mean([record.bayes_accuracy for record in own])
        wrong = np.mean([record.flipped for record in own])
        yield f"## {condition}"
        yield ""
        yield f"{len(own)} seeds; {wrong:,.0f} wrong labels in train; frame-wise Bayes accuracy {limit:.2%}."
        yield ""
        yield f"| method | macro-F1 | accuracy | macro-F1 minus that of {SMOOTHED} (95 % interval over videos) |"
        yield "|---|---|---|---|"
        for name in methods_of(own):
            cells = [_mean(own, name, metric) for metric in ("macro_f1", "accuracy")]
            last = "-" if name == SMOOTHED else _interval(difference(own, name, SMOOTHED, "macro_f1", resamples, seed))
            yield f"| {name} | {cells[0]} | {cells[1]} | {last} |"
        yield ""


def _mean(records: Sequence[CellRecord], method: str, metric: str) -> str:
    values = [float(MAIN_METRICS[metric](record.counts_VCC(method).sum(0))) for record in records]
    spread = f" +- {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def _interval(values: tuple[float, float, float]) -> str:
    return "{:+.4f} ({:+.4f} to {:+.4f})".format(*values)
