"""Detectors of faces, with and without YuNet's weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from nla.errors import WeightsError
from nla.faces.choice import open_detector
from nla.faces.detector import Detector
from nla.faces.detector_file import FOLDER

opened = cache(open_detector)


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """YuNet's weights are looked for in this folder, which is missing."""
    monkeypatch.setenv(FOLDER, str(tmp_path / "detectors"))
    return tmp_path / "detectors"


@pytest.fixture(params=["dlib", "yunet"])
def detector(request: pytest.FixtureRequest) -> Detector:
    """Each detector."""
    try:
        return opened(request.param)
    except WeightsError:
        pytest.skip("needs the weights of the detector yunet")
