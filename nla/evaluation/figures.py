"""The figures that `evaluate` draws, by file name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nla.config.evaluate import EvaluateConfig
from nla.config.loss import NLA
from nla.data.positions_table import PositionsTable
from nla.data.samples import Samples
from nla.evaluation import plots
from nla.evaluation.calibration import reliability
from nla.evaluation.confusion import confusion
from nla.evaluation.risk_coverage import selective
from nla.evaluation.uncertainty import most_ambiguous, most_doubted, most_wrong
from nla.evaluation.weight import position_weight

FACES = 24  # on a contact sheet


def figures_of_test(
    test: Samples, p_NC: np.ndarray, calibrated_NC: np.ndarray, metrics: Mapping[str, Any], config: EvaluateConfig
) -> dict[str, Figure]:
    """Errors and calibration on the test split, whose report by `measure` is `metrics`."""
    curve = selective(p_NC, calibrated_NC, test.label_N)
    images, label_N, classes = test.images_NHWC, test.label_N, test.classes
    ambiguous, wrong = most_ambiguous(p_NC, FACES), most_wrong(p_NC, label_N, FACES)
    return {
        "confusion": plots.confusion_matrix(confusion(label_N, p_NC.argmax(1), len(classes)), classes),
        "reliability": plots.reliability_diagram(reliability(p_NC, label_N, config.bins)),
        "reliability_calibrated": plots.reliability_diagram(reliability(calibrated_NC, label_N, config.bins)),
        "risk_coverage": plots.risk_coverage_curve(curve, len(label_N)),
        "recall": plots.recall_bars(metrics["classes"]),
        "ambiguous": plots.gallery(images, label_N, p_NC, classes, ambiguous, "The most ambiguous test faces"),
        "wrong": plots.gallery(
            images, label_N, p_NC, classes, wrong, "Wrongly predicted test faces, most confident first"
        ),
    }


def figures_of_training(
    loss: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    epoch: int,
    positions: PositionsTable,
    is_flipped_N: np.ndarray,
    seed: int,
) -> dict[str, Figure]:
    """Training curves, and the weight over (p_GT, p_NN) with the training samples on it.

    Args:
        loss: section `loss` of the run's parameters.
        history: one row per epoch.
        epoch: the one that validation chose.
        positions: those of the training samples.
        is_flipped_N: mask of the flipped training labels.
        seed: of the draw of the samples that are shown.
    """
    triangle = plots.weight_triangle(
        position_weight(loss),
        positions.positions["early"],
        positions.positions["late"],
        is_flipped_N if is_flipped_N.any() else None,
        epoch_early=positions.moments["early"],
        epoch_late=positions.moments["late"],
        epochs=positions.epochs,
        title="" if loss["name"] == NLA else f"weight of `{loss['variant']}`, not used by {loss['name']}",
        seed=seed,
    )
    return {"curves": plots.training_curves(history, epoch), "triangle": triangle}


def figures_of_label_issues(train: Samples, p_NC: np.ndarray) -> dict[str, Figure]:
    """The training faces with the least probable given label: possible label issues."""
    index = most_doubted(p_NC, train.label_N)[:FACES]
    title = "Possible label issues: training faces with the least probable label"
    return {"suspects": plots.gallery(train.images_NHWC, train.label_N, p_NC, train.classes, index, title)}
