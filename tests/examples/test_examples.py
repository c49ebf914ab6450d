"""Every script of examples/ runs, small, and does what it says."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow_parts import new_store

from nla.data.sources.synthetic import CLASSES
from nla.methods import Context, Minibatch

EXAMPLES = Path(__file__).parents[2] / "examples"


def main_of(name: str) -> Callable[..., Any]:
    """The function `main` of a script."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def test_every_example_is_run() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tested


def test_own_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_of("own_loop")(faces=800, epochs=3) > 2 / len(CLASSES)
    assert "epoch 3/3: loss of the last batch" in capsys.readouterr().out


def test_fit(capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = main_of("fit")(faces=120, epochs=1)
    assert 0 <= accuracy <= 1
    out = capsys.readouterr().out
    assert "best epoch: 1" in out and f"accuracy on other faces: {accuracy:.1%}" in out


def test_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = main_of("own_data")
    result = main(faces=120, epochs=1)
    assert "120 images of 8 classes" in capsys.readouterr().out
    assert result.predictor.classes == tuple(sorted(CLASSES))
    main.__globals__["write_faces"](tmp_path, 80)
    again = main(tmp_path, epochs=1)
    assert (len(again.history), len([*tmp_path.glob("*/*.png")])) == (1, 80)


def test_own_method() -> None:
    accuracy = main_of("own_method")(faces=120, epochs=2)
    assert accuracy.keys() == {"ce", "bootstrapping"}


def test_the_loss_of_own_method() -> None:
    """Its formula, against cross-entropy with the target that it describes."""
    names = main_of("own_method").__globals__
    logits_NC, label_N = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    method = names["SoftBootstrapping"](Context(label_N, 3, None, None), beta=0.7, warm_up=0.5)  # type: ignore[arg-type]

    def loss(progress: float) -> float:
        batch = Minibatch(torch.zeros(6), label_N, torch.arange(6), progress)
        return method(lambda images: logits_NC, batch).loss.item()

    one_hot_NC, p_NC = torch.nn.functional.one_hot(label_N, 3), logits_NC.softmax(1)
    mixed = torch.nn.functional.cross_entropy(logits_NC, 0.7 * one_hot_NC + 0.3 * p_NC).item()
    assert loss(0.0) == pytest.approx(torch.nn.functional.cross_entropy(logits_NC, label_N).item(), rel=1e-5)
    assert loss(0.5) == pytest.approx(mixed, rel=1e-5) and mixed != pytest.approx(loss(0.0), rel=1e-3)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.usefixtures("ray_cluster")
def test_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    best = main_of("sweep")(faces=120, epochs=1)
    assert 1e-3 <= best.config["lr"] <= 1e-2 and 0.2 <= best.config["lam"] <= 0.9
    assert best.metrics["epoch"] == 1
    assert "best: lr" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.thorough
def test_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    uri = new_store(tmp_path, monkeypatch)
    served = main_of("serving")(tmp_path, faces=120, epochs=1)
    lines = capsys.readouterr().out.splitlines()
    labels = {line.split(":")[0]: line.split()[1:] for line in lines if line.startswith(("Predictor:", "MLflow:"))}
    assert labels["Predictor"] == labels["MLflow"] == list(served["label"])
    np.testing.assert_allclose([sum(p) for p in served["probabilities"]], 1, atol=1e-5)
    assert lines[-1].startswith(f"MLFLOW_TRACKING_URI={uri} mlflow models serve -m models:/")
