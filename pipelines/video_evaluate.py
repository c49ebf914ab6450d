"""Stage `evaluate` of video/: the sequence model beside the frame model and its smoothing -> reports/metrics.json.

All three are measured on all annotated frames. Validation chooses the width of the smoothing; test is looked at here
alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from nla.config.base import read_params, section
from nla.config.evaluate import EvaluateConfig
from nla.config.loss import NLA
from nla.config.sequence import SequenceConfig
from nla.console import say
from nla.data.positions_table import read_positions
from nla.errors import DataError
from nla.io import read_json_as, sha256, write_json, write_table
from nla.losses.naw import NawParameters, naw_parameters, weight_at
from nla.plotting import write_figure
from nla.tracking import MlflowTracker, configure
from nla.tracking.run_record import RunRecord
from nla.video.features import INDEX, FeatureIndex
from nla.video.metrics import SEQUENCE, headlines, measure_videos
from nla.video.plots import ClipView, clip_figure
from nla.video.predict import frame_probabilities, sequence_probabilities
from nla.video.saved_model import load_sequence_model
from nla.video.sequences import Sequences, read_sequences
from nla.video.smoothing import choose_sigma, smoothed_probabilities
from nla.workflow.paths import project_root
from nla.workflow.stage import run_stage

LABELS, FEATURES = Path("data/labels.parquet"), Path("features")
MODEL, RUN = Path("sequence/model.safetensors"), Path("sequence.json")
REPORTS = Path("reports")
FIGURE = REPORTS / "figures/clip.png"
SOME = (0.2, 0.6)
"""Share of wrong labels of the training video in the figure, if there is one."""
FRAME, SMOOTHED = "frame_model", "smoothed"
Predictions = dict[str, list[np.ndarray]]
"""Method -> probabilities [T, C] of each video."""


def main() -> None:
    """Measures the three on validation and test."""
    params = read_params()
    config, sequence = section(EvaluateConfig, params), section(SequenceConfig, params)
    splits, index, run = read_sequences(LABELS, FEATURES), read_json_as(FEATURES / INDEX, FeatureIndex), read_run()
    sigma = choose_sigma(splits["valid"], sequence)
    p = {split: predictions(splits[split], index, sigma) for split in ("valid", "test")}
    reports = {split: measure_videos(splits[split], p[split], config, SMOOTHED) for split in p}
    metrics = {"sha256": sha256(MODEL), "smoothing_sigma": sigma, "clean": "measured on labels before noise", **reports}
    for split, probabilities in p.items():
        write_table(REPORTS / f"predictions/{split}.parquet", predictions_table(splits[split], probabilities))
    write_figure(clip_figure(clip_view(splits, index, sigma, run)), FIGURE)
    write_json(REPORTS / "metrics.json", metrics)
    track(metrics, run)
    for line in summary(metrics):
        say(line)


def read_run() -> RunRecord:
    """The record of the run that trained the sequence model."""
    return read_json_as(RUN, RunRecord)


def predictions(sequences: Sequences, index: FeatureIndex, sigma: float) -> Predictions:
    """Probabilities by each of the three. Raises DataError if the sequence model is of another frame model."""
    model, card = load_sequence_model(MODEL)
    if card.frame_model_sha256 != index.model_sha256:
        raise DataError(f"{MODEL}: takes features of another frame model than {FEATURES} has. Run `dvc repro`.")
    return {
        FRAME: [frame_probabilities(video.logits_T2C) for video in sequences.videos],
        SMOOTHED: smoothed_probabilities(sequences, sigma),
        SEQUENCE: [
            sequence_probabilities(model, video.features_T2F, video.frame_T, card.window, card.overlap)
            for video in sequences.videos
        ],
    }


def clip_view(splits: Mapping[str, Sequences], index: FeatureIndex, sigma: float, run: RunRecord) -> ClipView:
    """The video with the most changes of label: of the training videos with wrong labels, or without noise of test.

    Training videos with SOME wrong labels come first, as one with all of them wrong shows little.
    """
    wrong = [float((video.label_T != video.clean_T).mean()) for video in splits["train"].videos]
    is_noisy = any(wrong)
    split = "train" if is_noisy else "test"
    shares = wrong if is_noisy else [0.0] * len(splits[split].videos)
    video, _ = max(
        zip(splits[split].videos, shares, strict=True),
        key=lambda pair: (SOME[0] <= pair[1] <= SOME[1], pair[1] > 0, np.count_nonzero(np.diff(pair[0].clean_T))),
    )
    one = predictions(replace(splits[split], videos=(video,)), index, sigma)
    titles = {FRAME: "frame model", SMOOTHED: f"smoothed, sigma {sigma:g} frames", SEQUENCE: "sequence model"}
    p = {} if video.posterior_TC is None else {"true posterior": video.posterior_TC}
    p |= {title: one[name][0] for name, title in titles.items()}
    weight_T = late_weights(video.row_T, run) if is_noisy else None
    name = f"{split} video {video.name}"
    return ClipView(name, splits[split].classes, video.frame_T, video.label_T, video.clean_T, p, weight_T)


def late_weights(row_T: np.ndarray, run: RunRecord) -> np.ndarray | None:
    """NAW's weight of these training frames in the last epoch; None if the sequence model has another loss."""
    loss = section(SequenceConfig, {"sequence": run.params["sequence"]}, str(RUN)).loss
    if loss.name != NLA:
        return None
    table = read_positions(MODEL.with_name("positions.parquet"))
    place = {int(row): i for i, row in enumerate(table.row_N)}
    position_T2 = torch.from_numpy(table.positions["late"][[place[int(row)] for row in row_T]])
    names = {field.name for field in fields(NawParameters)}
    given = {name: value for name, value in loss.given_options.items() if name in names}
    parameters = naw_parameters(loss.variant, **given)
    weights: np.ndarray = weight_at(position_T2[:, 0], position_T2[:, 1], table.progress("late"), parameters).numpy()
    return weights


def predictions_table(sequences: Sequences, p: Predictions) -> pa.Table:
    """A row per frame: video, frame, label, and the probabilities by each method."""
    videos = sequences.videos
    columns: dict[str, Any] = {
        "row": np.concatenate([video.row_T for video in videos]),
        "video": [video.name for video in videos for _ in range(len(video))],
        "frame": np.concatenate([video.frame_T for video in videos]),
        "label": np.concatenate([video.clean_T for video in videos]).astype(np.int8),
    }
    for name, values in p.items():
        flat = np.concatenate(values).astype(np.float32)
        columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    return pa.table(columns)


def track(metrics: Mapping[str, Any], run: RunRecord) -> None:
    """Logs the metrics of all methods to the run that trained the sequence model."""
    tracker = MlflowTracker(configure(project_root()), system_metrics=False)
    tracker.reopen(run)
    epochs = max(row["epoch"] or 0 for row in run.history)
    with tracker.closing():
        tracker.log_metrics(headlines(metrics), int(epochs))


def summary(metrics: Mapping[str, Any]) -> Iterator[str]:
    """A line per method on test."""
    test = metrics["test"]
    for name, report in test["methods"].items():
        width = f" (sigma {metrics['smoothing_sigma']:g} frames, by validation)" if name == SMOOTHED else ""
        interval = f"95 % CI over videos {report['macro_f1_low']:.4f} to {report['macro_f1_high']:.4f}"
        yield f"test, {name}{width}: macro-F1 {report['macro_f1']:.4f} ({interval}), accuracy {report['accuracy']:.2%}"
    if "bayes_accuracy" in test:
        yield f"Bayes accuracy, frame by frame: {test['bayes_accuracy']:.2%}"


if __name__ == "__main__":
    run_stage(main)
