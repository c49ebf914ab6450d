"""Which model answers where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow_parts import CLASSES, constant_model
from photo_parts import drawn_face, write_photo

from nla import Predictor
from nla.commands.predict import main as predict
from nla.errors import WeightsError
from nla.models import default_model


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package's model: one that always says `happiness`. The current folder is an empty one."""
    folder = constant_model(tmp_path / "package", CLASSES.index("happiness"), source="faces")
    monkeypatch.setattr(default_model, "SHIPPED", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def label(predictor: Predictor) -> str:
    return predictor.predict([drawn_face(0, 16)]).label[0]


def test_the_projects_own_model_comes_first(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    constant_model(Path("models"), CLASSES.index("surprise"))
    assert label(Predictor.load()) == "surprise" and capsys.readouterr().err == ""
    constant_model(Path("other"), CLASSES.index("neutral"))
    assert label(Predictor.load("other")) == "neutral" and capsys.readouterr().err == ""


@pytest.mark.parametrize("has_folder", [False, True])
def test_the_packages_model_says_in_one_line_that_it_answers(
    shipped: Path, capsys: pytest.CaptureFixture[str], has_folder: bool
) -> None:
    if has_folder:  # of photos of fashion models, say
        Path("models").mkdir()
    assert label(Predictor.load()) == "happiness"
    assert capsys.readouterr().err == (
        f"models/ has no model, so the one that comes with NLA answers: {shipped / 'README.md'}\n"
    )


def test_the_command_without_a_model(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photo("face.jpg", drawn_face(0, 64))
    predict(["face.jpg", "--cropped", "--out", "-"])
    said = capsys.readouterr()
    assert ",happiness," in said.out and said.err.count("comes with NLA") == 1


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_half_a_model_of_ones_own_is_an_error(shipped: Path, name: str) -> None:
    """Not a reason to answer with another one."""
    constant_model(Path("models"), 0)
    Path("models", name).unlink()
    with pytest.raises(WeightsError, match=rf"models/{name}"):
        Predictor.load()


def test_a_named_model_that_is_missing_is_an_error(shipped: Path) -> None:
    with pytest.raises(WeightsError, match="models: no such"):
        Predictor.load("models")


def test_without_any_model_the_message_says_what_to_do(shipped: Path) -> None:
    for file in shipped.iterdir():
        file.unlink()
    with pytest.raises(
        WeightsError, match=r"^models: no model is here, and none comes .*`make repro`.* --model FOLDER"
    ):
        Predictor.load()
