"""What the server answers, as JSON: classes by their names, never by their positions."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from nla.faces import Face
from nla.serving.predictor import Prediction
from nla.web.analysis import Prepared
from nla.web.live_model import ModelInUse


class ModelFacts(BaseModel):
    """Which model answers."""

    name: str
    version: str | None
    """In the registry; null for a folder."""
    fingerprint: str
    """Of the run that trained it."""
    source: str
    """Name of the data set that it was trained on."""
    classes: list[str]
    caution: str
    """What to know of all its answers on photos, as of a model that has seen drawn faces only; empty if nothing."""


class Box(BaseModel):
    """Of a face, in pixels of the upright image; it can reach beyond the image."""

    left: float
    top: float
    width: float
    height: float


class FaceAnswer(BaseModel):
    """One face."""

    label: str
    """Name of the most probable class."""
    confidence: float
    """Its probability."""
    probabilities: dict[str, float]
    """Of each class, by its name."""
    ambiguity: float
    """1 - (p1 - p2), with the two largest probabilities; 0: certain, 1: a tie."""
    box: Box
    score: float | None
    """Of the detector; null for an image that is a crop itself."""


class ImageAnswer(BaseModel):
    """One image, with its faces, those that the detector is surest of first."""

    width: int
    height: int
    note: str
    """Why there is no face, or why the image was taken as a crop; empty otherwise."""
    faces: list[FaceAnswer]


class Answer(BaseModel):
    """To a request: one entry per image, in the order of the request."""

    model: ModelFacts
    images: list[ImageAnswer]


class Health(BaseModel):
    """The state of the server; to those without a token it says only whether it is ready."""

    ready: bool
    token: bool
    """Whether a token is needed."""
    model: ModelFacts | None = None
    detector: str | None = None
    """Of faces; null if all images are taken as crops."""
    problem: str | None = None
    """Why a newer version is not in use; the version before is."""


class Problem(BaseModel):
    """Of a request that is refused."""

    error: str
    """What is wrong and what to do, in one line."""


def facts(model: ModelInUse) -> ModelFacts:
    """What a client is told about a model."""
    predictor = model.predictor
    return ModelFacts(
        name=model.name,
        version=model.version,
        fingerprint=model.fingerprint,
        source=predictor.source,
        classes=list(predictor.classes),
        caution=predictor.caution,
    )


def answer(model: ModelInUse, images: Sequence[Prepared], prediction: Prediction) -> Answer:
    """The answer for images whose faces, one image after the other, have this prediction."""
    classes = model.predictor.classes
    faces = (
        (label, dict(zip(classes, p_C, strict=True)), ambiguity)
        for label, p_C, ambiguity in zip(
            prediction.label, prediction.probabilities.tolist(), prediction.ambiguity.tolist(), strict=True
        )
    )
    answered = []
    for image in images:
        whole = Box(left=0, top=0, width=image.width, height=image.height)
        answered.append(
            ImageAnswer(
                width=image.width,
                height=image.height,
                note=image.found.note,
                faces=[_face(whole, face, *next(faces)) for face in image.found.faces],
            )
        )
    return Answer(model=facts(model), images=answered)


def _face(whole: Box, face: Face | None, label: str, probabilities: dict[str, float], ambiguity: float) -> FaceAnswer:
    box = whole
    if face is not None:
        box = Box(left=face.left, top=face.top, width=face.width, height=face.height)
    return FaceAnswer(
        label=label,
        confidence=probabilities[label],
        probabilities=probabilities,
        ambiguity=ambiguity,
        box=box,
        score=None if face is None else face.score,
    )
