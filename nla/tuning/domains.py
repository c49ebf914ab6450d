"""Converts the distributions of a space to Ray Tune's search space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

from nla.config.tune import Distribution


def param_space(distributions: Mapping[str, Distribution]) -> dict[str, Any]:
    """Ray's domain of each searched parameter, by dotted name."""
    return {name: _domain(distribution) for name, distribution in distributions.items()}


def _domain(distribution: Distribution) -> Any:
    if distribution.kind == "grid":
        return tune.grid_search(distribution.arguments)
    make = getattr(tune, distribution.kind)
    return make(distribution.arguments) if distribution.kind == "choice" else make(*distribution.arguments)
