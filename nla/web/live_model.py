"""The model in use, and its replacement by a newer version while requests are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nla.errors import is_explained, user_message
from nla.faces import FaceFinder, stated_crop
from nla.models.saved_model import read_card, weights_file
from nla.serving.predictor import Predictor
from nla.text import shown

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInUse:
    """A model, and what finds faces for it. A request keeps the one that it began with."""

    predictor: Predictor
    finder: FaceFinder
    name: str
    version: str | None
    """In the registry; None for a folder."""
    fingerprint: str


class ModelSource(Protocol):
    """Where a model comes from."""

    def version(self) -> str | None:
        """The version that should be in use; None if there are none. Raises NLAError if it cannot be told."""
        ...

    def load(self) -> tuple[Predictor, str, str | None, str]:
        """The predictor, its name, version and fingerprint. Raises NLAError or OSError if it cannot be loaded."""
        ...


class FolderSource:
    """A weights file with its card, or the folder of both. It is loaded once."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        self._path, self._device = path, device

    def version(self) -> None:
        """A folder has no versions."""

    def load(self) -> tuple[Predictor, str, str | None, str]:
        """As `ModelSource.load`; the name is that of the folder. Raises WeightsError as `Predictor.load`."""
        predictor = Predictor.load(self._path, device=self._device)
        weights = weights_file(self._path)
        return predictor, shown(weights.absolute().parent.name), None, read_card(weights)["fingerprint"]


class LiveModel:
    """The model in use; a newer one is loaded beside it, tried, and then put in its place."""

    def __init__(
        self,
        source: ModelSource,
        detector: str,
        *,
        cropped: bool,
        count: Callable[[str], object] = lambda outcome: None,
    ) -> None:
        """Loads the model.

        Args:
            source: where it comes from.
            detector: of faces, as `FaceFinder` takes it.
            cropped: take all images as crops.
            count: called with `loaded` or `failed` after each load of a newer version.

        Raises:
            NLAError: the model cannot be loaded, or there is no detector.
        """
        self._source, self._detector, self._cropped, self._count = source, detector, cropped, count
        self.current = self._load()
        self.problem: str | None = None
        """Why a newer version is not in use."""

    def _load(self) -> ModelInUse:
        predictor, name, version, fingerprint = self._source.load()
        spec = predictor.model.image
        finder = FaceFinder(stated_crop(predictor.crop), spec.size, self._detector, cropped=self._cropped)
        if not self._cropped:
            finder.open()
        predictor.predict(np.zeros((1, spec.size, spec.size), np.uint8))  # the first pass allocates, and may fail
        return ModelInUse(predictor, finder, name, version, fingerprint)

    @property
    def detector(self) -> str | None:
        """Name of the detector of faces; None if all images are taken as crops."""
        return None if self._cropped else self.current.finder.open()[0].name

    def refresh(self) -> None:
        """Replaces the model if its source has another version; what fails is logged once, and the old one stays."""
        try:
            if self._source.version() == self.current.version:
                self.problem = None
                return
            new = self._load()
        except Exception as error:  # whatever is wrong with a new model, the one before answers
            if not is_explained(error):
                log.exception("a newer model cannot be loaded")
            message = user_message(error) if is_explained(error) else f"{type(error).__name__}: see the log"
            self._count("failed")
            if message != self.problem:
                log.warning("version %s stays in use: %s", self.current.version, message)
            self.problem = message
            return
        log.warning("%s: version %s replaces version %s", new.name, new.version, self.current.version)
        self.current, self.problem = new, None
        self._count("loaded")

    async def watch(self, seconds: float) -> None:
        """Refreshes every so many seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.refresh)
