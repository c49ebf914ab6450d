"""Losses: tensors in, tensors out, and nothing imported but torch. One file a loss, one line here."""

from __future__ import annotations

from nla.losses.ce import CrossEntropyLoss
from nla.losses.elr import early_learning
from nla.losses.naw import naw_weight
from nla.losses.nla import NLALoss

__all__ = ["CrossEntropyLoss", "NLALoss", "early_learning", "naw_weight"]
