"""Losses on tensors that depend only on torch: one file per loss, one line per loss here."""

from __future__ import annotations

from nla.losses.ce import CrossEntropyLoss
from nla.losses.class_balanced import ClassBalancedLoss, class_weights
from nla.losses.co_teaching import mean_of_kept
from nla.losses.eac import attention_consistency
from nla.losses.elr import early_learning
from nla.losses.focal import FocalLoss
from nla.losses.gce import GeneralisedCrossEntropyLoss
from nla.losses.label_smoothing import LabelSmoothingLoss
from nla.losses.ldam import margin_losses
from nla.losses.logit_adjustment import LogitAdjustedLoss
from nla.losses.mixup import mixed_cross_entropy
from nla.losses.naw import naw_weight
from nla.losses.nla import NLALoss
from nla.losses.plus import mixed_target
from nla.losses.rul import add_up
from nla.losses.sce import SymmetricCrossEntropyLoss
from nla.losses.scn import rank_regularisation, weighted_cross_entropy
from nla.losses.selection import places

__all__ = [
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "GeneralisedCrossEntropyLoss",
    "LabelSmoothingLoss",
    "LogitAdjustedLoss",
    "NLALoss",
    "SymmetricCrossEntropyLoss",
    "add_up",
    "attention_consistency",
    "class_weights",
    "early_learning",
    "margin_losses",
    "mean_of_kept",
    "mixed_cross_entropy",
    "mixed_target",
    "naw_weight",
    "places",
    "rank_regularisation",
    "weighted_cross_entropy",
]
