"""Calibration of a model's probabilities; its card holds the parameters, which `train` fits on validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor  # metrics are computed without importing PyTorch

COLDEST, HOTTEST = 0.1, 10.0
"""Range of temperatures: at its ends the odds of two classes are taken to the power of 10 and of 0.1. Networks of
Guo et al. 2017 need 0.9 to 3."""
MOST_UNIFORM = 0.5
"""Largest share of the uniform distribution: as if every other label were drawn at random."""
FLOOR = float(np.finfo(np.float32).tiny)
"""Probabilities are raised to it before their logarithm; a float32 softmax gives zeros."""


@dataclass(frozen=True)
class Calibration:
    """p -> (1 - uniform) softmax(log(p) / temperature) + uniform / C, with p averaged over the views of an image.

    The temperature is that of Guo et al. 2017, "On calibration of modern neural networks", on the log of the averaged
    probabilities; the uniform part one component of Zhang et al. 2020, "Mix-n-match". The order of an image's classes
    stays, and so does its label. The defaults change nothing.
    """

    temperature: Annotated[float, Field(ge=COLDEST, le=HOTTEST)] = 1.0
    """Above 1: the network is too sure."""
    uniform: Annotated[float, Field(ge=0, le=MOST_UNIFORM)] = 0.0
    """Share of the uniform distribution."""

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> Calibration:
        """That of a card, which holds facts about the fit beside the parameters; the default for an older card."""
        known = card.get("calibration") or {}
        return cls(known.get("temperature", 1.0), known.get("uniform", 0.0))

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.temperature == 1 and self.uniform == 0

    def of_tensor(self, p_NC: Tensor) -> Tensor:
        """The calibrated probabilities, [N, C], in the arithmetic of p_NC."""
        if self.is_identity:
            return p_NC
        tempered_NC = (p_NC.clamp(min=FLOOR).log() / self.temperature).softmax(1)
        return (1 - self.uniform) * tempered_NC + self.uniform / p_NC.shape[1]

    def of_array(self, p_NC: np.ndarray) -> np.ndarray:
        """The calibrated probabilities, [N, C], computed in float64; of the type of p_NC."""
        if self.is_identity:
            return p_NC
        log_NC = np.log(np.maximum(p_NC, FLOOR, dtype=np.float64)) / self.temperature
        tempered_NC = np.exp(log_NC - log_NC.max(1, keepdims=True))
        tempered_NC /= tempered_NC.sum(1, keepdims=True)
        calibrated_NC = (1 - self.uniform) * tempered_NC + self.uniform / p_NC.shape[1]
        return np.asarray(calibrated_NC, p_NC.dtype)
