"""The NAW weight as a function of NumPy arrays, for figures and audits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from nla.config.loss import LossConfig
from nla.losses.naw import NawParameters, naw_parameters, weight_at


def position_weight(loss: Mapping[str, Any]) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """weight(p_GT, p_NN, progress) for a section `loss`, null or missing fields being the variant's published defaults.

    For another method than nla it is the weight of the section's variant, for comparison.
    """
    given = {field.name: loss.get(field.name) for field in fields(NawParameters)}
    parameters = naw_parameters(loss.get("variant", LossConfig().variant), **given)

    def weight(p_GT: np.ndarray, p_NN: np.ndarray, progress: float) -> np.ndarray:
        return weight_at(torch.from_numpy(p_GT), torch.from_numpy(p_NN), progress, parameters).numpy()

    return weight
