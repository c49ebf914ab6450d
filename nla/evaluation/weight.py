"""The NAW weight as a function of NumPy arrays, for figures and audits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from nla.losses.naw import naw_parameters, of_the_weight, weight_at


def position_weight(loss: Mapping[str, Any]) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """weight(p_GT, p_NN, progress) for the section `loss` of params.yaml; other losses get that of its variant."""
    parameters = naw_parameters(loss["variant"], **of_the_weight(loss))

    def weight(p_GT: np.ndarray, p_NN: np.ndarray, progress: float) -> np.ndarray:
        return weight_at(torch.from_numpy(p_GT), torch.from_numpy(p_NN), progress, parameters).numpy()

    return weight
