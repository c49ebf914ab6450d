"""The NAW weight over positions given as arrays, for pictures and audits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch

from nla.losses.naw import NawParameters, naw_parameters, weight_at


def position_weight(loss: Mapping[str, Any]) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """weight(p_GT, p_NN, progress) of the section `loss` of params.yaml; for other losses, that of its variant."""
    names = {field.name for field in fields(NawParameters)}
    parameters = naw_parameters(loss["variant"], **{name: value for name, value in loss.items() if name in names})

    def weight(p_GT: np.ndarray, p_NN: np.ndarray, progress: float) -> np.ndarray:
        return weight_at(torch.from_numpy(p_GT), torch.from_numpy(p_NN), progress, parameters).numpy()

    return weight
