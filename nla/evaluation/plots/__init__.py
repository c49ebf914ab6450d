"""Figures of results: each function takes data and returns a matplotlib Figure for `nla.plotting.write_figure`."""

from __future__ import annotations

from nla.evaluation.plots.confusion import confusion_matrix, recall_bars
from nla.evaluation.plots.gallery import gallery
from nla.evaluation.plots.grad_cam import attention_sheet
from nla.evaluation.plots.probability_triangle import weight_triangle
from nla.evaluation.plots.reliability import reliability_diagram
from nla.evaluation.plots.risk_coverage import risk_coverage_curve
from nla.evaluation.plots.training_curves import training_curves

__all__ = [
    "attention_sheet",
    "confusion_matrix",
    "gallery",
    "recall_bars",
    "reliability_diagram",
    "risk_coverage_curve",
    "training_curves",
    "weight_triangle",
]
