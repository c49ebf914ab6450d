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
    # A whole number of JSON can be larger than what an array takes: the section has floats instead.
    config = LossConfig.model_validate({name: loss[name] for name in LossConfig.model_fields if name in loss})
    parameters = naw_parameters(config.variant, **{f.name: getattr(config, f.name) for f in fields(NawParameters)})

    def weight(p_GT: np.ndarray, p_NN: np.ndarray, progress: float) -> np.ndarray:
        return weight_at(torch.from_numpy(p_GT), torch.from_numpy(p_NN), progress, parameters).numpy()

    return weight
