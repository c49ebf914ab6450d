"""Whether a sequence model becomes champion: the rule of nla.serving.promotion, over videos.

Frames of a video are alike, so that the 95 % CI of the difference in macro-F1 is from resampling the validation
videos, and the exact test is a sign test: on how many videos each of the two is the more accurate one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nla.config.register import RegisterConfig
from nla.data.schema import SPLITS
from nla.errors import DataError
from nla.evaluation.confusion import accuracy, confusion, macro_f1
from nla.evaluation.significance import mcnemar, percentiles
from nla.serving.promotion import Verdict, by_difference, judged
from nla.serving.registry import FINGERPRINT, SHA256, downloaded
from nla.video.features import by_video
from nla.video.frames import NO_LABEL, Frames, read_frames
from nla.video.metrics import resampled_counts
from nla.video.model_pair import FRAME_MODEL, SEQUENCE_MODEL
from nla.video.streaming import StreamPredictor

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

FRAME_SHA256 = "nla.frame_model_sha256"
"""Tag of a version: of the weights of its frame model."""
VALID = SPLITS.index("valid")


def judge_sequences(
    candidate: StreamPredictor,
    version: ModelVersion,
    champion: ModelVersion | None,
    table: Path,
    config: RegisterConfig,
) -> Verdict:
    """Decides whether `version`, which serves `candidate`, becomes champion.

    Args:
        candidate: the new model.
        version: its registered version.
        champion: the present champion, if there is one.
        table: path of the table of frames, whose validation videos decide.
        config: settings of the comparison.
    """
    return judged(
        version,
        champion,
        (FINGERPRINT, SHA256, FRAME_SHA256),
        load_sequence_version,
        lambda other: _obstacle(candidate, other),
        lambda other, new, old: _compare(candidate, other, new, old, table, config),
    )


def load_sequence_version(version: ModelVersion) -> StreamPredictor:
    """The version's models under the current code; no code stored with it is executed."""
    with downloaded(version) as folder:
        return StreamPredictor.load(folder / FRAME_MODEL, folder / SEQUENCE_MODEL)


def _obstacle(candidate: StreamPredictor, champion: StreamPredictor) -> str | None:
    """Why the two cannot be compared; None if they can."""
    if champion.card.source != candidate.card.source:
        return f"was trained on {champion.card.source}"
    if champion.classes != candidate.classes:
        return f"knows the classes {', '.join(champion.classes)}, not {', '.join(candidate.classes)}"
    return None


def _compare(
    candidate: StreamPredictor, champion: StreamPredictor, new: str, old: str, table: Path, config: RegisterConfig
) -> Verdict:
    """The verdict on two models that can be compared; `new` and `old` name them."""
    frames = read_frames(table)
    new_VCC, old_VCC = (counts_of_videos(model, table, frames) for model in (candidate, champion))
    one, other = float(macro_f1(new_VCC.sum(0))), float(macro_f1(old_VCC.sum(0)))
    drawn = [macro_f1(resampled_counts(counts, config.bootstrap, config.seed)) for counts in (new_VCC, old_VCC)]
    low, high = percentiles(drawn[0] - drawn[1])
    better_V = np.sign(accuracy(new_VCC) - accuracy(old_VCC))
    p = mcnemar(int((better_V > 0).sum()), int((better_V < 0).sum()))
    numbers = (
        f"{new} has a macro-F1 of {one:.4f} on the {len(new_VCC):,} validation videos and the champion, {old}, of "
        f"{other:.4f}: a difference of {one - other:+.4f}, 95 % CI over videos {low:+.4f} to {high:+.4f} (sign test "
        f"over videos p {p:.3f})"
    )
    return by_difference(numbers, old, one - other, low, high, p)


def counts_of_videos(predictor: StreamPredictor, table: Path, frames: Frames) -> np.ndarray:
    """Confusion matrix of each validation video that has annotated frames, [V, C, C], by its labels before noise.

    Raises:
        DataError: an image cannot be decoded, or no validation frame is annotated.
    """
    found = []
    for _, images in by_video(table, frames):
        row, first = next(images)
        if frames.split_N[row] != VALID:
            continue
        crops = [first, *(data for _, data in images)]
        own_rows = slice(row, row + len(crops))
        label_T = frames.label_N[own_rows]
        own = label_T != NO_LABEL
        if own.any():
            p_TC = predictor.predict_clip(crops, frames.frame_N[own_rows].tolist()).uncalibrated
            found.append(confusion(label_T[own], p_TC[own].argmax(1), len(frames.info.classes)))
    if not found:
        raise DataError(f"{table}: no validation frame is annotated, so that no two models can be compared.")
    return np.stack(found)
