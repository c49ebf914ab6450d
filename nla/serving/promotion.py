"""The rule by which a new version of a model becomes champion.

A version becomes champion if there is none, or if it is significantly more accurate on the current validation images.
The champion is evaluated on them again, and each of the two with its own views of an image: the paired 95 % CI of
the difference in accuracy must lie above zero, and McNemar's exact p below ALPHA. The champion may have been trained on
some of these images, which only favours the champion. A version with the champion's own weights and views, but changed
code, limits of images or calibration, which changes no label, replaces it without a comparison, so that these reach
whoever loads the champion.

Refused whatever the numbers: a champion with other classes, of another source, or that takes larger images than the
current ones, or colour where they are grey. The images lack what it was trained to see, so its score would be
meaningless. For a champion that takes smaller or grey images they are fitted, as any served image is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nla.config.register import RegisterConfig
from nla.errors import NLAError
from nla.evaluation.significance import mcnemar, paired_difference
from nla.io import read_batches
from nla.serving.predictor import Predictor
from nla.serving.registry import CHAMPION, FINGERPRINT, SHA256, VIEWS, load_version
from nla.tracking.store import STORE_ERRORS, brief

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

P = TypeVar("P")
ALPHA = 0.05
ROWS = 1024  # rows of the table read at a time


@dataclass(frozen=True)
class Verdict:
    """Decision on the new version, and its reason."""

    decision: str
    """champion: it has the alias now; kept: the old champion stays; refused: the two cannot be compared."""
    reason: str
    """A sentence for the user."""
    difference: float | None = None
    """Difference in accuracy (for clips: macro-F1) on the current validation data, new - champion, in [-1, 1]; None if
    not compared."""
    low: float | None = None
    high: float | None = None


def judge(
    candidate: Predictor, version: ModelVersion, champion: ModelVersion | None, valid: Path, config: RegisterConfig
) -> Verdict:
    """Decides whether `version`, which serves `candidate`, becomes champion.

    Args:
        candidate: the new model.
        version: its registered version.
        champion: the present champion, if there is one.
        valid: path of valid.parquet.
        config: settings of the comparison.
    """
    return judged(
        version,
        champion,
        (FINGERPRINT, SHA256, VIEWS),
        load_version,
        lambda other: _obstacle(candidate, other),
        lambda other, new, old: _compare(candidate, other, new, old, valid, config),
    )


def judged(
    version: ModelVersion,
    champion: ModelVersion | None,
    same: Sequence[str],
    load: Callable[[ModelVersion], P],
    obstacle: Callable[[P], str | None],
    compare: Callable[[P, str, str], Verdict],
) -> Verdict:
    """The rule, for models of any kind.

    Args:
        version: the new version.
        champion: the present champion, if there is one.
        same: tags by which two versions have the same weights, and answer alike.
        load: loads the champion.
        obstacle: why the champion cannot be compared; None if it can.
        compare: the verdict on the champion, given the names of the new version and of the old one.
    """
    new = f"{version.name} version {version.version}"
    if champion is None:
        return Verdict(CHAMPION, f"{new} is champion: there was none")
    old = f"version {champion.version}"
    if champion.version == version.version:
        return Verdict(CHAMPION, f"{new} is champion already")
    if all(champion.tags.get(tag) == version.tags[tag] for tag in same):
        return Verdict(CHAMPION, f"{new} is champion now: the model of {old}, served by the current code and limits")
    try:
        other = load(champion)
        reason = obstacle(other)
    except (*STORE_ERRORS, NLAError, OSError) as error:
        reason = f"cannot be loaded ({brief(error)})"
    if reason:
        by_hand = f"To prefer {new} nonetheless, give it the alias {CHAMPION} in the MLflow UI"
        return Verdict("refused", f"{new} is not compared: the champion, {old}, {reason}. {by_hand}")
    return compare(other, new, old)


def _compare(
    candidate: Predictor, champion: Predictor, new: str, old: str, valid: Path, config: RegisterConfig
) -> Verdict:
    """The verdict on two models that can be compared; `new` and `old` name them."""
    new_N, old_N = _is_right(candidate, valid), _is_right(champion, valid)
    difference, low, high = paired_difference(new_N, old_N, config.bootstrap, config.seed)
    # With few discordant images the bootstrap is too optimistic; the exact test is not.
    p = mcnemar(int((new_N & ~old_N).sum()), int((old_N & ~new_N).sum()))
    numbers = (
        f"{new} is right on {new_N.mean():.2%} of the {len(new_N):,} validation images and the champion, {old}, on "
        f"{old_N.mean():.2%}: a difference of {100 * difference:+.2f} points, 95 % CI {100 * low:+.2f} to "
        f"{100 * high:+.2f} (McNemar's exact p {p:.3f})"
    )
    return by_difference(numbers, old, difference, low, high, p)


def by_difference(numbers: str, old: str, difference: float, low: float, high: float, p: float) -> Verdict:
    """The verdict by a difference, new - champion, with its 95 % CI and the p of an exact test; `numbers` says both."""
    if low > 0 and p < ALPHA:
        return Verdict(CHAMPION, f"{numbers}; it is champion now", difference, low, high)
    return Verdict("kept", f"{numbers}, which is not significant; {old} stays champion", difference, low, high)


def _obstacle(candidate: Predictor, champion: Predictor) -> str | None:
    """Why the two cannot be compared on the candidate's images; None if they can."""
    if champion.source != candidate.source:
        return f"was trained on {champion.source}"
    if champion.classes != candidate.classes:
        return f"knows the classes {', '.join(champion.classes)}, not {', '.join(candidate.classes)}"
    present, wanted = candidate.model.image, champion.model.image
    if wanted.size > present.size or wanted.channels > present.channels:
        return f"takes {wanted.color} images of {wanted.size} pixels, the data hold {present.color} of {present.size}"
    return None


def _is_right(predictor: Predictor, valid: Path) -> np.ndarray:
    """Mask of the validation images that the model classifies correctly, bool [N]."""
    number = {name: c for c, name in enumerate(predictor.classes)}
    right: list[bool] = []
    for batch in read_batches(valid, ["clean_label", "image"], ROWS, "Run `dvc repro -f prepare`."):
        images = [image["bytes"] for image in batch.column("image").to_pylist()]
        labels = batch.column("clean_label").to_pylist()
        predicted = predictor.predict(images).label
        right += [number[name] == label for name, label in zip(predicted, labels, strict=True)]
    return np.array(right, bool)
