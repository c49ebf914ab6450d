"""Features of all frames by a trained frame model, computed once: of each image and of its mirror image, in float16.

    FOLDER/index.json             what they were made of, and the SHA-256 of each file
    FOLDER/000000.safetensors     of a video, in the order of the table: features [T, 2, F], logits [T, 2, C], row [T]

A video that has its file is not computed again, if model and frames are the same. The authors of V-NAW train the image
encoder together with the model of sequences; here it stays as it is.

Legend: T frames of a video, F features, C classes; the views of a frame are the image and its mirror image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from nla.data.images import decode, fit
from nla.errors import DataError
from nla.evaluation.predict import evaluating
from nla.io import atomic_write, read_batches, read_json_as, sha256, write_json
from nla.limits import ImageLimits
from nla.models.classifier import Classifier
from nla.models.saved_model import write_tensors
from nla.video.frames import Frames

INDEX = "index.json"
AGAIN = "Run `dvc repro -f features`."
Images = Iterable[tuple[int, bytes]]
"""(row, encoded image) of the frames of a video."""
Compute = Callable[[Iterable[tuple[int, Images]]], Iterable[tuple[int, dict[str, Tensor]]]]
"""(number of a video, its images) -> (number, tensors of its file), of each in any order."""
READ = 256
"""Encoded images in memory, and images in a pass of the network."""
KEY = "key"


class FeatureIndex(BaseModel):
    """index.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    """Hash of the frame model, the table and the size of the images."""
    model_sha256: str
    """Of the frame model's weights."""
    features: Annotated[int, Field(ge=1)]
    """F."""
    videos: list[str]
    files: list[str]
    """SHA-256 of the file of each video."""


@dataclass(frozen=True)
class VideoFeatures:
    """Of the T frames of a video."""

    features_T2F: np.ndarray
    """float16."""
    logits_T2C: np.ndarray
    """float32, of the frame model."""
    row_T: np.ndarray
    """Row in the table of frames, int64."""


def feature_key(model_sha256: str, frames: Path) -> str:
    """Hash of what features are made of."""
    return hashlib.sha256(f"{model_sha256} {sha256(frames)}".encode()).hexdigest()[:16]


def extract(
    compute: Compute,
    model_sha256: str,
    table: Path,
    frames: Frames,
    out: Path,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureIndex:
    """Writes the features of all videos into the folder `out`, those that it lacks; returns its index.

    Args:
        compute: `in_this_process`, or nla.video.ray_features.on_ray.
        model_sha256: hash of the weights of the frame model.
        table: path of the table of frames.
        frames: the same table without its images.
        out: folder; files of other models or tables in it are replaced.
        progress: called with (done, total) frames.

    Raises:
        DataError: an image cannot be decoded.
        ConfigError: the network has no features (nla.models.classifier.Classifier.feature_backbone).
    """
    key, frames_V = feature_key(model_sha256, table), np.bincount(frames.video_N)
    out.mkdir(parents=True, exist_ok=True)
    complete = {number for number in range(len(frames.videos)) if _has_key(file_of(out, number), key)}
    done = sum(int(frames_V[number]) for number in complete)
    if progress:
        progress(done, len(frames))
    missing = (video for video in by_video(table, frames) if video[0] not in complete)
    for number, tensors in compute(missing):
        _write(file_of(out, number), tensors, key)
        done += int(frames_V[number])
        if progress:
            progress(done, len(frames))
    files = [file_of(out, number) for number in range(len(frames.videos))]
    features = load_file(files[0])["features"].shape[2]
    index = FeatureIndex(
        key=key,
        model_sha256=model_sha256,
        features=features,
        videos=list(frames.videos),
        files=[sha256(path) for path in files],
    )
    write_json(out / INDEX, index.model_dump(), sealed=True)
    return index


def read_features(folder: Path) -> tuple[FeatureIndex, Iterator[VideoFeatures]]:
    """The index, and the features of each video in its order.

    Raises:
        DataError: a file is missing or damaged.
    """
    index = read_json_as(folder / INDEX, FeatureIndex, AGAIN)
    return index, (_read(file_of(folder, number), digest) for number, digest in enumerate(index.files))


def file_of(folder: Path, number: int) -> Path:
    """File of a video, by its number in the table."""
    return folder / f"{number:06d}.safetensors"


def _read(path: Path, digest: str) -> VideoFeatures:
    if not path.is_file() or sha256(path) != digest:
        raise DataError(f"{path}: missing, or not what was written. {AGAIN}")
    tensors = load_file(path)
    return VideoFeatures(tensors["features"].numpy(), tensors["logits"].numpy(), tensors["row"].numpy())


def by_video(table: Path, frames: Frames) -> Iterator[tuple[int, Iterator[tuple[int, bytes]]]]:
    """Yields (number of the video, its (row, encoded image) pairs), which are there until the next one is asked for."""

    def images() -> Iterator[tuple[int, bytes]]:
        at = 0
        for batch in read_batches(table, ["row", "image"], READ, AGAIN):
            rows = zip(range(at, at + len(batch)), batch["image"].to_pylist(), strict=True)
            yield from ((row, image["bytes"] or b"") for row, image in rows)
            at += len(batch)

    yield from groupby(images(), key=lambda pair: int(frames.video_N[pair[0]]))


def in_this_process(model: Classifier, limits: ImageLimits) -> Compute:
    """Computes one video after the other, by a model in eval mode, on its device. Images are at most `limits` large."""
    return lambda videos: ((number, video_tensors(model, images, limits)) for number, images in videos)


def video_tensors(model: Classifier, images: Images, limits: ImageLimits) -> dict[str, Tensor]:
    """Features and logits of both views of the images of a video, and their rows. Raises DataError as `extract`."""
    parts: list[tuple[Tensor, Tensor]] = []
    rows: list[int] = []
    waiting: list[np.ndarray] = []
    for row, data in images:
        rows.append(row)
        waiting.append(_pixels(data, row, model, limits))
        if len(waiting) == READ:
            parts.append(both_views(model, np.stack(waiting)))
            waiting = []
    if waiting:
        parts.append(both_views(model, np.stack(waiting)))
    features, logits = (torch.cat(column) for column in zip(*parts, strict=True))
    return {"features": features.half(), "logits": logits, "row": torch.tensor(rows)}


def _pixels(data: bytes, row: int, model: Classifier, limits: ImageLimits) -> np.ndarray:
    spec = model.image
    try:
        pixels = fit(decode(data, limits), spec.size, spec.color)
    except DataError as error:
        raise DataError(f"row {row} of the table of frames: {error}. Run `dvc repro -f clips`.") from None
    return pixels.reshape(spec.size, spec.size, spec.channels)


def both_views(model: Classifier, images_NHWC: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features [N, 2, F] and logits [N, 2, C] of images and of their mirror images, float32 on the CPU."""
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        maps = model.maps(torch.from_numpy(images_NHWC).to(device), mirrored=True)
        features = maps.float().mean(dim=(2, 3))
        logits = model.feature_backbone.classify(features)
        views = [torch.stack(value.chunk(2), dim=1).cpu() for value in (features, logits)]
    return views[0].clone(), views[1].clone()


def _write(path: Path, tensors: dict[str, Tensor], key: str) -> None:
    with atomic_write(path) as part:
        write_tensors(part, tensors, {KEY: key})


def _has_key(path: Path, key: str) -> bool:
    """Whether the file is complete, and was made of the same model and frames."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            return bool(metadata.get(KEY) == key)
    except (SafetensorError, OSError):
        return False
