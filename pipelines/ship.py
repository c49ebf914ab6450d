"""Stage `ship` of pretrained/: models/, data/ and run.json -> ../nla/pretrained/, the package's model; metrics.json.

The weights are rounded to half precision, which halves the file. Everything after that is of the rounded weights: the
calibration on validation, the figures on both splits, and the card. Computation stays in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nla.config.base import read_params, section
from nla.config.data import DataConfig
from nla.config.evaluate import EvaluateConfig
from nla.console import say
from nla.data.samples import Samples, load_annotations, load_samples
from nla.errors import ConfigError
from nla.evaluation.metrics import measure, summary
from nla.evaluation.predict import Views, predict
from nla.io import atomic_write, read_json_as, write_json
from nla.models.calibration import Calibration
from nla.models.saved_model import WEIGHTS, load_model, require_same, save_model
from nla.serving.card_texts import HALF, LEAKS, SHIPPED
from nla.serving.model_card import README, Results, model_card
from nla.tracking.run_record import RunRecord
from nla.training.artifacts import calibration
from nla.workflow.stage import run_stage

MODELS, DATA, RUN, METRICS = Path("models"), Path("data"), Path("run.json"), Path("metrics.json")
OUT = Path("../nla/pretrained")
MEASURED = ("valid", "test")
LARGEST = 2_900_000
"""Bytes of the weights: with the two cards, what every installation carries stays below 3 MB."""
PROTOCOL = (
    "both splits are measured by clean labels; validation chose the epoch and the calibration; test selects nothing"
)
LICENCE_NAME = "nla-research"
"""The section on terms says what it means."""


def main() -> None:
    """Writes the package's model, its card for readers, and its figures."""
    params = read_params()
    config, run = section(EvaluateConfig, params), read_json_as(RUN, RunRecord)
    splits = {name: load_samples(DATA / f"{name}.parquet") for name in MEASURED}
    before, card = probabilities(MODELS / WEIGHTS, splits)
    state = in_half(load_model(MODELS / WEIGHTS)[0].backbone.state_dict())
    check_size(state)
    facts = {name: fact for name, fact in card.items() if name != "positions_sha256"}  # a file that is not shipped
    facts |= {"stored": "float16", "calibration": calibration(card, state, splits["valid"])}
    save_model(OUT / WEIGHTS, state, facts)
    after, card = probabilities(OUT / WEIGHTS, splits)
    metrics = measured(after, splits, card, config)
    metrics["half_precision"] = compared(before, after, splits)
    write_json(METRICS, metrics)
    text = model_card(card, Results.model_validate(metrics), run, licence_name=LICENCE_NAME)
    with atomic_write(OUT / README) as part:
        part.write_text(f"{text}\n{closing(metrics, section(DataConfig, params))}", encoding="utf-8")
    say(f"{OUT}: test {summary(metrics['test'])}; ECE {ece(metrics['test'])}")


def in_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, those of fractions rounded to float16."""
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def check_size(state: Mapping[str, Tensor]) -> None:
    """Raises ConfigError if the package would become too large."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if size > LARGEST:
        raise ConfigError(
            f"model.width: the weights must have {LARGEST:,} bytes at most, as each installation of the package has "
            f"them (got {size:,}). Choose a smaller width."
        )


def probabilities(weights: Path, splits: Mapping[str, Samples]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """p_NC per split by a model, over the views of its card and before calibration; and the card.

    Raises:
        DataError: a split is of another source, or has other classes.
    """
    model, card = load_model(weights)
    for name, samples in splits.items():
        require_same((card["source"], card["classes"]), (samples.source, samples.classes), DATA / f"{name}.parquet")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    views = Views(**card["views"])
    return {name: predict(model, samples.images_NHWC, views) for name, samples in splits.items()}, card


def measured(
    p: Mapping[str, np.ndarray], splits: Mapping[str, Samples], card: Mapping[str, Any], config: EvaluateConfig
) -> dict[str, Any]:
    """The metrics of each split, and which model they are of."""
    metrics: dict[str, Any] = {"protocol": PROTOCOL}
    metrics |= {name: card[name] for name in ("views", "precision", "epoch", "sha256", "calibration")}
    for name, samples in splits.items():
        known = load_annotations(DATA / f"{name}.parquet")
        metrics[name] = measure(
            p[name],
            known.clean_label_N,
            samples.classes,
            config,
            votes_NC=known.votes_NC,
            posterior_NC=known.posterior_NC,
            calibration=Calibration.of_card(card),
        )
    return metrics


def compared(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], splits: Mapping[str, Samples]
) -> dict[str, float]:
    """What rounding changes on test: accuracy before, share of equal labels, largest difference of a probability."""
    p_NC, rounded_NC = before["test"], after["test"]
    label_N = load_annotations(DATA / "test.parquet").clean_label_N
    return {
        "float32_accuracy": float((p_NC.argmax(1) == label_N).mean()),
        "same_labels": float((p_NC.argmax(1) == rounded_NC.argmax(1)).mean()),
        "largest_difference": float(np.abs(p_NC - rounded_NC).max()),
    }


def closing(metrics: Mapping[str, Any], data: DataConfig) -> str:
    """The end of the card: of these weights alone."""
    half = metrics["half_precision"]
    numbers = {**half, "accuracy": metrics["test"]["accuracy"]}
    lines = ["## Terms", "", SHIPPED, "", "## This file", "", HALF.format(**numbers)]
    if data.drop_leaks:
        lines += ["", LEAKS]
    return "\n".join([*lines, "", f"Confidence on test, calibrated: ECE {ece(metrics['test'])}.", ""])


def ece(test: Mapping[str, Any]) -> str:
    """ECE before and after calibration."""
    return f"{test['ece']:.4f} before, {test['calibrated']['ece']:.4f} after"


if __name__ == "__main__":
    run_stage(main)
