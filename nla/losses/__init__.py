"""Losses on tensors, which need only torch: one file per loss.

Names are imported on first use. Modules of this project import from the modules below, so that a pipeline stage that
uses one loss depends on the file of that loss only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nla.losses.ce import CrossEntropyLoss
    from nla.losses.class_balanced import ClassBalancedLoss
    from nla.losses.focal import FocalLoss
    from nla.losses.frames import FrameCrossEntropyLoss, FrameNLALoss
    from nla.losses.gce import GeneralisedCrossEntropyLoss
    from nla.losses.label_smoothing import LabelSmoothingLoss
    from nla.losses.logit_adjustment import LogitAdjustedLoss
    from nla.losses.naw import naw_weight
    from nla.losses.nla import NLALoss
    from nla.losses.sce import SymmetricCrossEntropyLoss

__all__ = [
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "FrameCrossEntropyLoss",
    "FrameNLALoss",
    "GeneralisedCrossEntropyLoss",
    "LabelSmoothingLoss",
    "LogitAdjustedLoss",
    "NLALoss",
    "SymmetricCrossEntropyLoss",
    "naw_weight",
]

_MODULES = {
    "ClassBalancedLoss": "class_balanced",
    "CrossEntropyLoss": "ce",
    "FocalLoss": "focal",
    "FrameCrossEntropyLoss": "frames",
    "FrameNLALoss": "frames",
    "GeneralisedCrossEntropyLoss": "gce",
    "LabelSmoothingLoss": "label_smoothing",
    "LogitAdjustedLoss": "logit_adjustment",
    "NLALoss": "nla",
    "SymmetricCrossEntropyLoss": "sce",
    "naw_weight": "naw",
}


def __getattr__(name: str) -> Any:
    """Imports a public name from its module on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'nla.losses' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nla.losses.{_MODULES[name]}"), name)
