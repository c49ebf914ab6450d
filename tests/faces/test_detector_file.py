"""Where YuNet's weights are looked for, that no other file is used, and which detector is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.errors import CommandError, WeightsError
from nla.faces import choice, detector_file, dlib_hog
from nla.faces.choice import available, open_detector
from nla.faces.detector_file import FILE, install, weights_path


def test_the_folder_is_the_users_own_and_can_be_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    for name in (detector_file.FOLDER, "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert weights_path() == Path("/home/anna/.local/share/nla/detectors") / FILE
    monkeypatch.setenv("XDG_DATA_HOME", "/data/anna")
    assert weights_path() == Path("/data/anna/nla/detectors") / FILE
    monkeypatch.setenv(detector_file.FOLDER, "~/own")
    assert weights_path() == Path("/home/anna/own") / FILE


def test_another_file_is_never_used(no_weights: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"x\.onnx: not face_detection_yunet_2023mar\.onnx \(its sha256 is d9298a10d1b0"
    ):
        install(b"other", "x.onnx")
    assert not no_weights.exists()
    no_weights.mkdir()
    (no_weights / FILE).write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"its sha256 is .* Run `nla detector get`\."):
        open_detector("yunet")
    assert [found.is_ready for found in available() if found.name == "yunet"] == [False]
    with pytest.raises(WeightsError):  # there is a file, so that the user expects it to be used
        open_detector()


def test_without_weights_dlib_is_taken(no_weights: Path) -> None:
    assert open_detector().name == "dlib"
    with pytest.raises(WeightsError, match=r"the weights of the detector yunet are missing. Run `nla detector get`\."):
        open_detector("yunet")
    assert [(found.name, found.is_ready) for found in available()] == [("yunet", False), ("dlib", True)]


def test_without_any_both_remedies_are_named(no_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dlib_hog.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CommandError, match=r"`nla detector get`.*`pip install -e \.\[faces\]`.*--cropped"):
        open_detector()
    assert [found.remedy for found in available()] == ["Run `nla detector get`.", "Run `pip install -e .[faces]`."]


def test_a_dlib_that_cannot_be_imported_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise ImportError("libX.so is missing")

    monkeypatch.setattr(dlib_hog.importlib, "import_module", fails)
    with pytest.raises(CommandError, match=r"dlib is not installed \(libX.so is missing\)\. Run `pip install -e"):
        open_detector("dlib")


def test_the_right_file_is_installed(no_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    monkeypatch.setattr(detector_file, "SHA256", hashlib.sha256(b"weights").hexdigest())
    assert install(b"weights", "x") == no_weights / FILE
    assert detector_file.read_weights() == b"weights"
    assert [path.name for path in no_weights.iterdir()] == [FILE]
    assert choice.available()[0].is_ready
