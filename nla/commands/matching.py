"""Matches the classes of a data set with those of a model by name.

Legend: N images, C classes of the model, S of the set, M that metrics cover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nla.config.base import nearest
from nla.errors import DataError

NONE = -1


@dataclass(frozen=True)
class Matching:
    """Correspondence between the classes of the set and those of the model."""

    classes: tuple[str, ...]
    """Names of the M classes, in the model's order."""
    place_S: np.ndarray
    """Index in `classes` of each class of the set, [S]; NONE if the model does not have it."""
    chosen_M: np.ndarray
    """Indices of `classes` among the model's classes, [M]."""

    def among(self, p_NC: np.ndarray) -> np.ndarray:
        """The model's probabilities, renormalised over `classes`, [N, M]; uniform where all of them are 0."""
        p_NM = p_NC[:, self.chosen_M].astype(np.float64)
        total_N1 = p_NM.sum(axis=1, keepdims=True)
        return np.divide(p_NM, total_N1, out=np.full_like(p_NM, 1 / p_NM.shape[1]), where=total_N1 > 0)


def match(of_set: Sequence[str], of_model: Sequence[str], renamed: Mapping[str, str], shared: bool) -> Matching:
    """Matches each class of the set with the model's class of its name, or of the name that `renamed` gives it.

    With `shared`, metrics cover only the classes that both have, else all classes of the model.

    Raises:
        DataError: `renamed` names a class that does not exist.
    """
    _check(of_set, of_model, renamed)
    names = [renamed.get(name, name) for name in of_set]
    chosen = [c for c, name in enumerate(of_model) if name in names or not shared]
    classes = tuple(of_model[c] for c in chosen)
    place_S = np.array([classes.index(name) if name in classes else NONE for name in names])
    return Matching(classes, place_S, np.array(chosen, np.int64))


def _check(of_set: Sequence[str], of_model: Sequence[str], renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        if old not in of_set:
            raise DataError(f"--map {old}={new}: the set has no class '{old}'{nearest(old, of_set)}")
        if new not in of_model:
            raise DataError(f"--map {old}={new}: the model has no class '{new}'{nearest(new, of_model)}")
