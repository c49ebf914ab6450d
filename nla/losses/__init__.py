"""Losses on tensors that depend only on torch: one file per loss.

The terms that methods in nla.methods are made of are functions of the same modules.
"""

from __future__ import annotations

from nla.losses.ce import CrossEntropyLoss
from nla.losses.class_balanced import ClassBalancedLoss
from nla.losses.focal import FocalLoss
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
    "GeneralisedCrossEntropyLoss",
    "LabelSmoothingLoss",
    "LogitAdjustedLoss",
    "NLALoss",
    "SymmetricCrossEntropyLoss",
    "naw_weight",
]
