"""`nla.fit`: what it trains, what it leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import functools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow_parts import run_python, write_samples
from torch import nn
from training_parts import SINGLE, MakeSamples, Stop, StopAt

from nla import Predictor, fit
from nla.commands.main import main as nla_command
from nla.data.images import encode_png
from nla.data.samples import Samples, load_samples
from nla.errors import ConfigError, DataError, NLAError, TrainingError
from nla.fitting import FitResult
from nla.losses.ce import CrossEntropyLoss
from nla.methods import Context, Method
from nla.methods.elr import EarlyLearning
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job, image_spec, training_config
from nla.training.trainer import Split, Trainer

PARAMS = {"model": {"width": 4}, "train": {"precision": "fp32"}, "augment": {"recipe": "none"}}
"""The smallest network, in float32 on every machine."""
CLASSES = ("a", "b", "c")


@pytest.fixture
def data(tiny_samples: MakeSamples) -> tuple[np.ndarray, np.ndarray]:
    """48 images with a bright bar, whose height is their class."""
    return pair(tiny_samples(48))


@pytest.fixture
def quick(data: tuple[np.ndarray, np.ndarray]) -> Callable[..., FitResult]:
    """quick(**options): two epochs on `data`."""

    def run(**options: Any) -> FitResult:
        given = {"params": PARAMS, "classes": CLASSES, "epochs": 2, "batch_size": 16, "device": "cpu"}
        return fit(data, **{**given, "progress": False, **options})

    return run


def pair(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    return samples.images_NHWC, samples.label_N


def weights(result: FitResult) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in result.predictor.model.backbone.state_dict().items()}


def shown(result: FitResult) -> list[dict[str, float]]:
    """The history without times."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in result.history]


def with_loss(**loss: Any) -> dict[str, Any]:
    return {"params": {**PARAMS, "loss": loss}}


class TestResult:
    def test_it_learns(self, tiny_samples: MakeSamples) -> None:
        valid = pair(tiny_samples(60, seed=1))
        params = {**PARAMS, "train": {"precision": "fp32", "schedule": "constant"}}
        result = fit(
            pair(tiny_samples(96)), valid, classes=CLASSES, epochs=6, batch_size=16, params=params, progress=False
        )
        prediction = result.predictor.predict(valid[0][..., 0])
        truth = [CLASSES[label] for label in valid[1]]
        assert np.mean([ours == given for ours, given in zip(prediction.label, truth, strict=True)]) > 0.9
        best = max(row["valid_accuracy"] for row in result.history)
        assert [row["epoch"] for row in result.history] == [1, 2, 3, 4, 5, 6]
        assert result.history[result.best_epoch - 1]["valid_accuracy"] == best

    def test_it_is_the_result_of_the_loop(self, tiny_samples: MakeSamples, tmp_path: Path) -> None:
        train, valid = tiny_samples(48), tiny_samples(24, seed=1)
        config = training_config({**PARAMS, "train": {**PARAMS["train"], "epochs": 2, "batch_size": 16, "lr": 0.01}})
        job = Job(config, num_classes=3, image=image_spec(train.images_NHWC))
        trainer = Trainer(job, Split(train, valid), SINGLE, FolderStore(tmp_path))
        trainer.fit()
        ours = {"classes": CLASSES, "epochs": 2, "batch_size": 16, "lr": 0.01, "device": "cpu", "progress": False}
        result = fit(pair(train), pair(valid), params=PARAMS, **ours)
        assert weights(result) == {name: tensor.numpy().tobytes() for name, tensor in trainer.best.items()}

    def test_a_saved_model_is_the_predictor(
        self, quick: Callable[..., FitResult], data: tuple[np.ndarray, np.ndarray], tmp_path: Path
    ) -> None:
        result, images = quick(), data[0][:5, ..., 0]
        path = result.save(tmp_path / "models")
        expected = result.predictor.predict(images)
        loaded = Predictor.load(tmp_path / "models")
        np.testing.assert_array_equal(loaded.predict(images).probabilities, expected.probabilities)
        assert (path, loaded.classes, loaded.source) == (tmp_path / "models/model.safetensors", CLASSES, "custom")
        (tmp_path / "face.png").write_bytes(encode_png(images[0]))
        table = tmp_path / "predictions.csv"
        nla_command(["predict", str(tmp_path / "face.png"), "--model", str(path.parent), "--out", str(table)])
        (row,) = csv.DictReader(table.read_text().splitlines())
        assert row["label"] == expected.label[0]
        assert [row[f"p_{name}"] for name in CLASSES] == [f"{p:.6f}" for p in expected.probabilities[0]]

    def test_it_is_calibrated_on_validation(self, tiny_samples: MakeSamples, tmp_path: Path) -> None:
        """By the parameters that a search over a grid would find, too; and the file says so."""
        train, valid = pair(tiny_samples(96)), pair(tiny_samples(80, seed=1))
        wrong_N = np.where(np.arange(80) % 2, valid[1], (valid[1] + 1) % 3)  # half of the labels: too sure a network
        params = {**PARAMS, "train": {"precision": "fp32", "schedule": "constant"}}
        options = {"params": params, "classes": CLASSES, "epochs": 6, "batch_size": 16, "device": "cpu"}
        result = fit(train, (valid[0], wrong_N), progress=False, **options)
        found = result.predictor.predict(valid[0][..., 0])
        log_NC = np.log(np.maximum(found.uncalibrated, 1e-30).astype(float))

        def nll(temperature: float, uniform: float) -> float:
            p_NC = np.exp(log_NC / temperature - (log_NC / temperature).max(1, keepdims=True))
            p_NC = (1 - uniform) * p_NC / p_NC.sum(1, keepdims=True) + uniform / 3
            return float(-np.log(p_NC[np.arange(80), wrong_N]).mean())

        used = result.predictor.calibration
        assert not used.is_identity and result.card["calibration"]["rows"] == 80
        shares = np.linspace(0, 0.9, 91) if used.uniform else [0.0]
        grid = min(nll(t, u) for t in np.geomspace(0.1, 10, 81) for u in shares)
        assert nll(used.temperature, used.uniform) <= grid + 1e-4
        p_N = -np.log(found.probabilities[np.arange(80), wrong_N])
        assert p_N.mean() == pytest.approx(nll(used.temperature, used.uniform), abs=1e-4)
        assert Predictor.load(result.save(tmp_path).parent).calibration == used

    def test_the_card_records_the_run(self, quick: Callable[..., FitResult]) -> None:
        result = quick(lr=0.01)
        assert result.card["metrics"] == result.history[result.best_epoch - 1]
        params = result.card["facts"]["params"]
        assert (params["train"]["lr"], params["train"]["epochs"], params["model"]["width"]) == (0.01, 2, 4)

    def test_keywords_are_short_for_params(self, quick: Callable[..., FitResult]) -> None:
        params = {**PARAMS, "train": {**PARAMS["train"], "lr": 0.01, "seed": 3}, "loss": {"name": "focal"}}
        assert weights(quick(lr=0.01, seed=3, loss="focal")) == weights(quick(params=params))
        assert weights(quick(lr=0.01)) != weights(quick(lr=0.02))

    def test_names_are_as_good_as_indices(
        self, quick: Callable[..., FitResult], data: tuple[np.ndarray, np.ndarray]
    ) -> None:
        images, label_N = data
        named = fit(
            ([encode_png(image) for image in images[..., 0]], [CLASSES[label] for label in label_N]),
            params=PARAMS,
            epochs=2,
            batch_size=16,
            device="cpu",
            progress=False,
        )
        assert weights(named) == weights(quick()) and named.predictor.classes == CLASSES

    def test_distributions_are_learned(
        self, quick: Callable[..., FitResult], data: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Certain ones as labels are, uncertain ones not."""
        images, label_N = data
        certain, options = np.eye(3)[label_N], {"params": PARAMS, "epochs": 2, "batch_size": 16, "progress": False}
        results = [
            fit((images, target), loss="ce", device="cpu", **options) for target in (certain, 0.7 * certain + 0.1)
        ]
        losses = [result.history[0]["train_loss"] for result in (quick(loss="ce"), *results)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        assert losses[2] != pytest.approx(losses[0], rel=1e-2)

    def test_tables(self, tmp_path: Path) -> None:
        paths = [write_samples(tmp_path / f"{name}.parquet", [0, 1, 2] * n) for name, n in (("t", 12), ("v", 4))]
        options: dict[str, Any] = {"params": PARAMS, "epochs": 1, "batch_size": 16, "device": "cpu", "progress": False}
        result = fit(*paths, **options)
        train, valid = (load_samples(path) for path in paths)
        arrays = fit(pair(train), pair(valid), classes=train.classes, **options)
        assert weights(result) == weights(arrays)
        assert (result.predictor.classes, result.predictor.source) == (train.classes, "synthetic")
        assert fit(paths[0], **options).history[0]["epoch"] == 1


class TestLoss:
    """A loss that is not in METHODS trains exactly as one that is."""

    @pytest.mark.parametrize(
        ("loss", "named"),
        [
            (CrossEntropyLoss(), {"name": "ce"}),
            (EarlyLearning, {"name": "elr"}),
            (functools.partial(EarlyLearning, lam=1.0), {"name": "elr", "options": {"lam": 1.0}}),
        ],
    )
    def test_by_itself_or_by_name(self, quick: Callable[..., FitResult], loss: Any, named: dict[str, Any]) -> None:
        ours, theirs = quick(loss=loss), quick(**with_loss(**named))
        assert weights(ours) == weights(theirs) and shown(ours) == shown(theirs)

    def test_a_module_is_trained_as_a_copy(self, quick: Callable[..., FitResult]) -> None:
        class Scaled(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.tensor(1.0))

            def forward(self, logits_NC: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
                return nn.functional.cross_entropy(self.scale * logits_NC.float(), target)

        loss = Scaled()
        first, second = quick(loss=loss), quick(loss=loss)
        assert weights(first) == weights(second) and loss.scale.item() == 1
        assert "Scaled" in first.card["facts"]["params"]["loss"]["name"]

    def test_a_function_that_returns_no_method(self, quick: Callable[..., FitResult]) -> None:
        def mine(context: Context) -> Method:
            return nn.CrossEntropyLoss()  # type: ignore[return-value]

        with pytest.raises(ConfigError, match=r"mine must return a nla\.methods\.Method \(got CrossEntropyLoss\)"):
            quick(loss=mine)

    def test_options_beside_a_loss_of_its_own(self, quick: Callable[..., FitResult]) -> None:
        with pytest.raises(ConfigError, match=r"params: section loss has options .*EarlyLearning.*functools\.partial"):
            quick(loss=EarlyLearning, **with_loss(lam=0.3))


class TestResume:
    def test_an_interrupted_run_ends_with_the_same_weights(
        self, quick: Callable[..., FitResult], tmp_path: Path
    ) -> None:
        whole = quick(epochs=3)
        with pytest.raises(Stop):
            quick(epochs=3, checkpoint_dir=tmp_path, callbacks=[StopAt(2)])
        resumed = quick(epochs=3, checkpoint_dir=tmp_path)
        assert weights(resumed) == weights(whole) and shown(resumed) == shown(whole)

    def test_a_finished_run_is_read(self, quick: Callable[..., FitResult], tmp_path: Path) -> None:
        first = quick(checkpoint_dir=tmp_path)
        again = quick(checkpoint_dir=tmp_path, callbacks=[StopAt(1)])
        assert again.history == first.history and weights(again) == weights(first)

    @pytest.mark.parametrize("change", [{"lr": 0.02}, {"loss": EarlyLearning}, {"classes": ("a", "b", "d")}])
    def test_another_run_is_refused(
        self, quick: Callable[..., FitResult], tmp_path: Path, change: dict[str, Any]
    ) -> None:
        quick(checkpoint_dir=tmp_path)
        with pytest.raises(TrainingError, match="is a checkpoint of another run"):
            quick(checkpoint_dir=tmp_path, **change)

    def test_a_temporary_folder_is_removed(
        self, quick: Callable[..., FitResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        quick()
        assert not [*tmp_path.iterdir()]


def test_the_process_is_left_as_it_was(quick: Callable[..., FitResult]) -> None:
    def state() -> list[Any]:
        return [
            torch.get_rng_state().tolist(),
            random.getstate(),
            str(np.random.get_state()),  # noqa: NPY002
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
            torch.is_grad_enabled(),
        ]

    before = state()
    quick(loss="mixup")  # which draws random numbers
    assert state() == before


def test_ray_mlflow_and_dvc_are_not_imported(tmp_path: Path) -> None:
    code = """
import sys
import numpy as np
from nla import fit
rng = np.random.default_rng(0)
data = rng.integers(0, 256, (40, 16, 16), np.uint8), np.arange(40) % 2
result = fit(data, epochs=1, batch_size=16, params={"model": {"width": 4}})
result.predictor.predict(data[0][:2])
result.save("models")
print("loaded:", *[name for name in ("ray", "mlflow", "dvc") if name in sys.modules])
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"
    assert "epoch   1/1" in done.stdout, "the progress of the run"


GOOD = np.zeros((4, 16, 16), np.uint8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"params": {"train": {"soften": True}}}, ConfigError, r"params: train\.soften: needs the audit of a project"),
        ({"params": {"trian": {}}}, ConfigError, r"params: unknown section 'trian': did you mean 'train'\?"),
        ({"params": {"train": {"lrr": 1.0}}}, ConfigError, r"unknown key 'train\.lrr': did you mean 'lr'\?"),
        ({"params": {"train": 3}}, ConfigError, r"section train must be a mapping \(got 3\)"),
        (
            {"params": {"train": {"lr": 0.1}}, "lr": 0.2},
            ConfigError,
            r"lr: given as a keyword and in params \(got 0\.2",
        ),
        ({"epochs": 0}, ConfigError, r"train\.epochs: .* \(got 0\)"),
        ({"loss": "fokal"}, ConfigError, r"unknown method 'fokal': did you mean 'focal'\?"),
        ({"batch_size": 64}, ConfigError, r"train\.batch_size: larger than the \d+ training samples \(got 64\)"),
        ({"device": "gpu"}, TrainingError, r"device: unknown \(got 'gpu'\)"),
        ({"device": "meta"}, TrainingError, r"only cpu and cuda are supported \(got meta\)"),
        ({"device": "cuda:99"}, TrainingError, r"device: PyTorch finds \d+ GPUs \(got cuda:99\)"),
        ({"valid": (GOOD, [0, 1, 2])}, DataError, r"valid labels: expected one per image, 4 \(got shape \[3\]\)"),
        ({"valid": GOOD}, DataError, r"valid: expected \(images, labels\) or the path of a table \(got ndarray\)"),
        ({"valid": (np.zeros((2, 20, 20), np.uint8), [0, 1])}, DataError, r"expected \[16, 16, 1\] .*\[20, 20, 1\]"),
        ({"classes": ("a", "b", "c", "d")}, DataError, r"train: no image of d\. Add some, or leave it out of classes"),
        ({"valid": "no.parquet"}, DataError, r"no\.parquet is missing"),
    ],
)
def test_what_is_wrong_is_named(
    quick: Callable[..., FitResult], options: dict[str, Any], error: type[NLAError], message: str
) -> None:
    with pytest.raises(error, match=message):
        quick(**options)


def test_tables_of_other_classes_or_with_options(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "t.parquet", [0, 1, 2] * 8)
    other = write_samples(tmp_path / "v.parquet", [0, 1, 0], classes=("x", "y"))
    with pytest.raises(DataError, match=r"valid: expected the classes neutral, .* \(got x, y in"):
        fit(path, other)
    with pytest.raises(DataError, match=r"image_size: not for tables, .* \(got 32 for"):
        fit(path, image_size=32)
