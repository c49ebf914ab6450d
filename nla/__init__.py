"""Facial expression recognition robust to ambiguous, noisy and imbalanced labels.

from nla import NLALoss, Predictor, fit, naw_weight
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nla.fitting import fit
    from nla.losses.naw import naw_weight
    from nla.losses.nla import NLALoss
    from nla.serving.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["NLALoss", "Predictor", "fit", "naw_weight"]

_HOME = {
    "NLALoss": "nla.losses.nla",
    "Predictor": "nla.serving.predictor",
    "fit": "nla.fitting",
    "naw_weight": "nla.losses.naw",
}


def __getattr__(name: str) -> Any:
    """Loads public names on first use, so that a stage that reads CSV files does not import torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'nla' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
