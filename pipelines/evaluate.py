"""Stage `evaluate`: models/ and data/ -> reports/: metrics.json, figures, DVC's plots, and tables of all images.

This stage is the first to use the test split, which selects nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nla.config.base import read_params, section
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.console import say
from nla.data.positions_table import read_positions
from nla.data.samples import Annotations, Samples, load_annotations, load_samples
from nla.data.schema import corrected
from nla.errors import DataError
from nla.evaluation.calibration import reliability
from nla.evaluation.confusion import confusion
from nla.evaluation.figures import figures_of_label_issues, figures_of_test, figures_of_training
from nla.evaluation.metrics import main_metrics, measure, summary
from nla.evaluation.predict import ONE_VIEW, Views, predict
from nla.evaluation.risk_coverage import selective, write_risk_coverage
from nla.evaluation.tables import predictions, suspects, write_confusion, write_reliability
from nla.io import read_json_as, write_json, write_table
from nla.models.calibration import Calibration
from nla.models.saved_model import load_model, require_same
from nla.plotting import write_figure
from nla.tracking import MlflowTracker, configure
from nla.tracking.run_record import MeasuredRun, RunRecord
from nla.workflow.paths import project_root
from nla.workflow.runs import IMAGES
from nla.workflow.stage import run_stage

DATA, MODELS, REPORTS = Path("data"), Path("models"), Path("reports")
TRAIN = DATA / "train.parquet"
MEASURED = ("valid", "test")
PROTOCOL = "both splits are measured by clean labels; the checkpoint is chosen on validation; test selects nothing"


def main() -> None:
    """Measures both models on both splits, draws the figures, and logs to MLflow."""
    params = read_params()
    config, run = section(EvaluateConfig, params), read_run(Path("run.json"))
    limit, folder = section(RayConfig, params).image_bytes, project_root() / IMAGES
    splits = {name: load_samples(split_path(name), limit, folder) for name in (*MEASURED, "train")}
    annotations = {name: load_annotations(split_path(name)) for name in MEASURED}
    measured = {name: with_clean_labels(splits[name], annotations[name]) for name in MEASURED}
    best, card = probabilities("model", measured)
    check_views(card, config)
    last, last_card = probabilities("last", measured)
    one_view, _ = probabilities("model", splits, ONE_VIEW)

    metrics: dict[str, Any] = {"protocol": protocol(split_path("test"))}
    metrics |= {name: card[name] for name in ("views", "precision", "epoch", "sha256")}
    calibration = Calibration.of_card(card)
    metrics["calibration"] = asdict(calibration)
    metrics |= measure_splits(best, measured, annotations, config, calibration)
    metrics["last"] = measure_splits(last, measured, annotations, config, Calibration.of_card(last_card))
    metrics["one_view"] = {name: main_metrics(counts(one_view[name], measured[name]), config) for name in MEASURED}
    calibrated_NC = calibration.of_array(best["test"].astype(np.float64))
    write_tables(best, calibrated_NC, one_view["train"], splits, config)
    drawn = figures_of_test(splits["test"], best["test"], calibrated_NC, metrics["test"], config)
    positions = read_positions(MODELS / "positions.parquet", card.get("positions_sha256"))
    is_flipped_N = load_annotations(TRAIN).is_flipped_N
    loss = run.params["loss"]
    drawn |= figures_of_training(loss, run.history, card["epoch"], positions, is_flipped_N, config.seed)
    drawn |= figures_of_label_issues(splits["train"], one_view["train"])
    for name, figure in drawn.items():
        write_figure(figure, REPORTS / f"figures/{name}.png")
    write_json(REPORTS / "metrics.json", metrics)  # before logging to MLflow, which may be unreachable
    track(metrics, run, card["epoch"])
    for line in summary_lines(metrics):
        say(line)


def read_run(path: Path) -> RunRecord:
    """The record of the run that trained the model. Raises DataError if a field that is read here is wrong."""
    read_json_as(path, MeasuredRun)
    return read_json_as(path, RunRecord)


def split_path(name: str) -> Path:
    """Path of the table of a split."""
    return DATA / f"{name}.parquet"


def protocol(test: Path) -> str:
    """How the result came about, and whether labels of the table `test` were corrected by hand."""
    changed = corrected(test).changed
    return PROTOCOL + (f"; {changed:,} rows of test were corrected by hand (data.correct_test)" if changed else "")


def with_clean_labels(samples: Samples, annotations: Annotations) -> Samples:
    """`samples` labelled by what they are measured with; under `data.label_rule: fer2013`, validation has others."""
    return replace(samples, label_N=annotations.clean_label_N)


def check_views(card: Mapping[str, Any], config: EvaluateConfig) -> None:
    """Raises DataError if params.yaml asks for other views than those of the card, as after `dvc repro -s`."""
    asked, known = Views(config.mirror, config.shift), Views(**card["views"])
    if asked != known:
        raise DataError(
            f"{MODELS}/model.json: views: params.yaml asks for mirror {asked.mirror}, shift {asked.shift} (got "
            f"{known.mirror}, {known.shift}). Run `dvc repro`."
        )


def probabilities(
    stem: str, splits: Mapping[str, Samples], views: Views | None = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """p_NC per split by the model `stem`, on a GPU if there is one; and the model's card.

    In float32 and over the card's views, as wherever the model is used, unless other `views` are given.

    Raises:
        DataError: a split is of another source, or has other classes.
    """
    model, card = load_model(MODELS / f"{stem}.safetensors")
    for name, samples in splits.items():
        require_same((card["source"], card["classes"]), (samples.source, samples.classes), split_path(name))
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    views = views or Views(**card["views"])
    p = {name: predict(model, samples.images_NHWC, views) for name, samples in splits.items()}
    return p, card


def measure_splits(
    p: Mapping[str, np.ndarray],
    splits: Mapping[str, Samples],
    annotations: Mapping[str, Annotations],
    config: EvaluateConfig,
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """The metrics of each split, of p_NC before `calibration`; those after it are under `calibrated`."""
    return {
        name: measure(
            p[name],
            samples.label_N,
            samples.classes,
            config,
            votes_NC=annotations[name].votes_NC,
            posterior_NC=annotations[name].posterior_NC,
            calibration=calibration,
        )
        for name, samples in splits.items()
    }


def write_tables(
    best: Mapping[str, np.ndarray],
    calibrated_NC: np.ndarray,
    train_NC: np.ndarray,
    splits: Mapping[str, Samples],
    config: EvaluateConfig,
) -> None:
    """Writes the predictions, the label issues of train, and the data of DVC's plots.

    Args:
        best: p_NC of each measured split, before calibration.
        calibrated_NC: those of test after it.
        train_NC: those of train, with one view.
        splits: the samples.
        config: the bins of confidence.
    """
    test, plots = splits["test"], REPORTS / "plots"
    write_confusion(plots / "confusion.csv", test.label_N, best["test"].argmax(1), test.classes)
    for name, p_NC in (("reliability", best["test"]), ("reliability_calibrated", calibrated_NC)):
        write_reliability(plots / f"{name}.csv", reliability(p_NC, test.label_N, config.bins))
    write_risk_coverage(plots / "risk_coverage.csv", selective(best["test"], calibrated_NC, test.label_N))
    for name in MEASURED:
        table = predictions(split_path(name), best[name], splits[name].classes)
        write_table(REPORTS / f"predictions/{name}.parquet", table)
    write_table(REPORTS / "suspects.parquet", suspects(TRAIN, train_NC, splits["train"].classes))


def counts(p_NC: np.ndarray, samples: Samples) -> np.ndarray:
    """Confusion matrix of labels and predictions, [C, C]."""
    return confusion(samples.label_N, p_NC.argmax(1), len(samples.classes))


def track(metrics: Mapping[str, Any], run: RunRecord, epoch: int) -> None:
    """Logs metrics and figures to the run that trained the model."""
    tracker = MlflowTracker(configure(project_root()), system_metrics=False)
    tracker.reopen(run)
    with tracker.closing():
        tracker.log_result(metrics, epoch)
        for path in sorted((REPORTS / "figures").glob("*.png")):
            tracker.log_artifact(path, "figures")


def summary_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The result in a few lines, with the Bayes accuracy if it is known."""
    test, views = metrics["test"], Views(**metrics["views"])
    yield f"test {summary(test)}; epoch {metrics['epoch']} by validation"
    if views.count > 1:
        yield f"over {views.count} views per image; {metrics['one_view']['test']['accuracy']:.2%} with one"
    if "calibrated" in test:
        before, after = (f"ECE {report['ece']:.4f}, NLL {report['nll']:.4f}" for report in (test, test["calibrated"]))
        yield f"confidence on test: {before}; {after} calibrated on validation"
    recalls = [f"{name} {row['recall']:.1%}" for name, row in test["classes"].items()]
    yield f"recall {', '.join(recalls)}"
    if further := metrics.get("protocol", PROTOCOL).removeprefix(PROTOCOL):
        yield f"note: {further.removeprefix('; ')}"
    if "bayes_accuracy" in test:
        yield f"Bayes accuracy {test['bayes_accuracy']:.2%}: the model reaches {test['bayes_ratio']:.1%} of it"


if __name__ == "__main__":
    run_stage(main)
