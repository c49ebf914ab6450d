from __future__ import annotations

import ast
import base64
import json
import re
import shutil
import subprocess
import time
import zlib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import cv2
import mlflow.pyfunc
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModelContext
from mlflow.pyfunc.scoring_server import InvocationsResponse, invocations
from mlflow_parts import CLASSES, ROOT, constant_model, new_store, random_model, run_python

from nla.data.images import encode_png
from nla.errors import DataError, WeightsError
from nla.evaluation.predict import Views
from nla.io import write_json
from nla.limits import ImageLimits
from nla.models.saved_model import load_model, read_card
from nla.serving import Predictor, logged
from nla.serving.logged import REQUIREMENTS, log_served_model, requirements, shipped_code
from nla.serving.predictor import BATCH
from nla.serving.pyfunc import ServedModel
from nla.tracking import MlflowTracker


def faces(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *shape), np.uint8)


def png_of(width: int, height: int, size: int) -> bytes:
    """A PNG whose header states that size in pixels, of about `size` bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", bytes(size)) + chunk(b"IEND", b"")


class TestPredictor:
    def test_against_the_network_itself(self, tmp_path: Path) -> None:
        images = faces(5, 16, 16)
        prediction = Predictor.load(random_model(tmp_path)).predict(images)
        model, _ = load_model(tmp_path / "model.safetensors")
        with torch.inference_mode():
            views = [torch.from_numpy(x.copy()).reshape(5, 16, 16, 1) for x in (images, images[:, :, ::-1])]
            expected = sum(torch.softmax(model(view), 1) for view in views).numpy() / 2
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)
        for label, p, ambiguity in zip(prediction.label, expected.tolist(), prediction.ambiguity, strict=True):
            first, second, _ = sorted(p, reverse=True)
            assert label == CLASSES[p.index(first)]
            assert ambiguity == pytest.approx(1 - first + second, abs=1e-5)
        assert len(set(prediction.label)) > 1

    def test_the_views_are_those_asked_for_or_of_the_card(self, tmp_path: Path) -> None:
        images = faces(5, 16, 16)
        weights = random_model(tmp_path) / "model.safetensors"
        model, card = load_model(weights)
        with torch.inference_mode():
            expected = torch.softmax(model(torch.from_numpy(images).reshape(5, 16, 16, 1)), 1).numpy()
        bare = Views(mirror=False, shift=0)
        np.testing.assert_allclose(Predictor.load(tmp_path, bare).predict(images).probabilities, expected, atol=1e-5)
        assert np.abs(Predictor.load(tmp_path).predict(images).probabilities - expected).max() > 0.01
        weights.with_suffix(".json").write_text(json.dumps({**card, "views": {"mirror": False, "shift": 0}}))
        np.testing.assert_allclose(Predictor.load(weights).predict(images).probabilities, expected, atol=1e-5)

    def test_encoded_images_are_as_good_as_pixels(self, tmp_path: Path) -> None:
        predictor = Predictor.load(random_model(tmp_path) / "model.safetensors")
        images = faces(3, 16, 16)
        one, other = predictor.predict(images), predictor.predict([encode_png(image) for image in images])
        assert one.label == other.label
        np.testing.assert_array_equal(one.probabilities, other.probabilities)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("shape", [(16, 16), (40, 30), (9, 9, 3), (16, 16, 3)])
    def test_any_size_and_colour_is_fitted(self, tmp_path: Path, channels: int, shape: tuple[int, ...]) -> None:
        prediction = Predictor.load(random_model(tmp_path, channels)).predict(faces(4, *shape))
        np.testing.assert_allclose(prediction.probabilities.sum(1), 1, atol=1e-5)
        assert ((prediction.ambiguity >= 0) & (prediction.ambiguity <= 1)).all()

    def test_more_images_than_a_batch_keep_their_order(self, tmp_path: Path) -> None:
        predictor = Predictor.load(random_model(tmp_path))
        images = faces(BATCH + 3, 16, 16)
        whole = predictor.predict(images)
        tail = predictor.predict(images[-5:])
        assert len(whole.label) == BATCH + 3
        np.testing.assert_allclose(whole.probabilities[-5:], tail.probabilities, atol=1e-5)

    @pytest.mark.parametrize("nothing", [[], np.empty((0, 16, 16), np.uint8)])
    def test_no_images(self, tmp_path: Path, nothing: list[bytes] | np.ndarray) -> None:
        prediction = Predictor.load(random_model(tmp_path)).predict(nothing)
        assert (prediction.label, prediction.probabilities.shape, prediction.ambiguity.shape) == ((), (0, 3), (0,))

    def test_certain_and_undecided(self, tmp_path: Path) -> None:
        predictor = Predictor.load(constant_model(tmp_path, 1))
        with torch.no_grad():
            predictor.model.backbone.fc.bias.copy_(torch.tensor([-50.0, 50, -50]))
        certain = predictor.predict(faces(1, 16, 16))
        assert certain.label == ("happiness",)
        assert certain.ambiguity == pytest.approx(0, abs=1e-6)
        with torch.no_grad():
            predictor.model.backbone.fc.bias.copy_(torch.tensor([3.0, 3, -50]))
        assert predictor.predict(faces(1, 16, 16)).ambiguity == pytest.approx(1, abs=1e-6)

    def test_bad_images_are_named(self, tmp_path: Path) -> None:
        predictor = Predictor.load(random_model(tmp_path))
        good = encode_png(faces(1, 16, 16)[0])
        with pytest.raises(DataError, match="image 2: the PNG is cut off"):
            predictor.predict([good, good, good[:-20]])
        with pytest.raises(DataError, match=f"image {BATCH + 1}: the file is empty"):
            predictor.predict([good] * (BATCH + 1) + [b""])
        with pytest.raises(DataError, match=r"image 1: expected bytes \(got str\)\. Pass"):
            predictor.predict([good, "face.png"])  # type: ignore[list-item]

    @pytest.mark.parametrize(
        "images", [faces(2, 16, 16).astype(np.float32), faces(2, 16), faces(2, 16, 16, 4), faces(2, 0, 16)]
    )
    def test_bad_arrays_say_what_is_wanted(self, tmp_path: Path, images: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"images: expected .* \(got .*\)\. (Convert|Pass image\[None\])"):
            Predictor.load(random_model(tmp_path)).predict(images)

    @pytest.mark.parametrize("shape", [(16, 16, 3), (16, 16), (548, 3)])
    def test_a_single_image_is_not_taken_for_a_batch(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        """As OpenCV reads one: its rows would be 16 grey images, 3 pixels wide."""
        predictor = Predictor.load(random_model(tmp_path))
        image = np.zeros(shape, np.uint8)
        with pytest.raises(DataError, match=re.escape(f"(got uint8 {list(shape)}, a single image). Pass image[None].")):
            predictor.predict(image)
        if shape == (16, 16, 3):
            assert len(predictor.predict(image[None]).label) == 1
        with pytest.raises(DataError, match=r"got one bytes\)\. Pass \[image\]\."):
            predictor.predict(encode_png(image))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "image",
        [
            faces(1, 16, 16)[0] / 255,
            faces(1, 16, 16)[0].astype(np.int64),
            faces(1, 16, 16),
            faces(1, 16, 16, 3),
            faces(1, 16, 16, 4)[0],
            faces(1, 0, 16)[0],
            faces(1, 16)[0],
        ],
        ids=lambda image: f"{image.dtype} {image.shape}",
    )
    def test_arrays_in_a_list_are_checked_like_batches(self, tmp_path: Path, image: np.ndarray) -> None:
        predictor = Predictor.load(random_model(tmp_path))
        good = faces(1, 30, 20, 3)[0]
        assert len(predictor.predict([good, good[:20, :, 0]]).label) == 2
        shape = re.escape(f"(got {image.dtype} {list(image.shape)})")
        with pytest.raises(DataError, match=rf"image 1: expected uint8 \[H, W\] .*{shape}"):
            predictor.predict([good, image])

    def test_a_network_that_answers_with_nan_is_refused(self, tmp_path: Path) -> None:
        predictor = Predictor.load(random_model(tmp_path))
        with torch.no_grad():
            predictor.model.backbone.fc.bias.fill_(torch.nan)
        with pytest.raises(WeightsError, match="probabilities are not finite"):
            predictor.predict(faces(1, 16, 16))

    def test_the_calibration_of_the_card_changes_probabilities_but_no_label(self, tmp_path: Path) -> None:
        images = faces(40, 16, 16)
        plain = Predictor.load(random_model(tmp_path)).predict(images)
        np.testing.assert_array_equal(plain.probabilities, plain.uncalibrated)
        np.testing.assert_array_equal(plain.confidence, plain.probabilities.max(1))
        calibrated = Predictor.load(calibrate(tmp_path, 2.5, 0.1)).predict(images)
        assert calibrated.label == plain.label
        np.testing.assert_array_equal(calibrated.ambiguity, plain.ambiguity)
        np.testing.assert_array_equal(calibrated.uncalibrated, plain.probabilities)
        powers = plain.probabilities.astype(float) ** (1 / 2.5)
        expected = 0.9 * powers / powers.sum(1, keepdims=True) + 0.1 / 3
        np.testing.assert_allclose(calibrated.probabilities, expected, atol=1e-6)
        np.testing.assert_allclose(calibrated.confidence, expected.max(1), atol=1e-6)
        assert np.abs(calibrated.confidence - plain.confidence).max() > 0.1

    def test_missing_files(self, tmp_path: Path) -> None:
        random_model(tmp_path)
        (tmp_path / "model.json").unlink()
        with pytest.raises(WeightsError, match=r"model\.json: file not found"):
            Predictor.load(tmp_path)


def calibrate(models: Path, temperature: float, uniform: float) -> Path:
    """The folder, with a calibration in the card."""
    card = read_card(models / "model.safetensors") | {"calibration": {"temperature": temperature, "uniform": uniform}}
    write_json(models / "model.json", card)
    return models


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """(folder with store and models, URI of the store, URI of the logged model)."""
    root = tmp_path_factory.mktemp("served")
    with pytest.MonkeyPatch.context() as patch:
        uri = new_store(root, patch)
        tracker = MlflowTracker(uri, system_metrics=False)
        run_id = tracker.start("x", {"train": {"lr": 1}}, {})
        tracker.log_epoch({"train_loss": 2.0}, 0)
        tracker.log_epoch({"train_loss": 1.0}, 3)
        tracker.log_metrics({"test": {"accuracy": 0.5}}, 3)
        tracker.finish()
        info = log_served_model(run_id, constant_model(root / "models", 2), ImageLimits(10_000_000, 900_000))
    return root, uri, info.model_uri


class TestServedModel:
    def test_nothing_is_pickled(self, served: tuple[Path, str, str]) -> None:
        files = [path for path in (served[0] / "mlruns").rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"pyfunc.py", "model.safetensors", "model.json", "MLmodel"}
        assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth", ".pyc", ".bin")]
        assert not [path for path in files if path.read_bytes()[:1] == b"\x80"]  # how every binary pickle begins

    def test_metrics_of_its_epoch_are_with_it(self, served: tuple[Path, str, str]) -> None:
        client = mlflow.MlflowClient(served[1])
        logged = client.get_logged_model(served[2].removeprefix("models:/"))
        assert {metric.key: metric.value for metric in logged.metrics} == {"train_loss": 1.0, "test.accuracy": 0.5}
        assert logged.params == {"train.lr": "1"}

    def test_signature_is_enforced(self, served: tuple[Path, str, str]) -> None:
        model = mlflow.pyfunc.load_model(served[2])
        assert model.metadata.metadata == {"classes": list(CLASSES), "source": "synthetic"}
        assert [(c.name, c.type.name) for c in model.metadata.signature.inputs.inputs] == [("image", "binary")]
        with pytest.raises(MlflowException, match="missing inputs"):
            model.predict(pd.DataFrame({"face": [b"x"]}))
        with pytest.raises(MlflowException, match="Incompatible input types"):
            model.predict(pd.DataFrame({"image": [1.5]}))

    def test_table_in_table_out(self, served: tuple[Path, str, str]) -> None:
        model = mlflow.pyfunc.load_model(served[2])
        images = [encode_png(image) for image in faces(3, 20, 20)]
        _, jpeg = cv2.imencode(".jpg", faces(1, 30, 30, 3)[0])
        out = model.predict(pd.DataFrame({"image": [*images, jpeg.tobytes()]}, index=[4, 5, 6, 7]))
        assert list(out.columns) == ["label", "probabilities", "ambiguity", "confidence"]
        assert list(out.index) == [4, 5, 6, 7]
        assert list(out["label"]) == ["surprise"] * 4
        p = [1 / (2 + np.e**2)] * 2 + [np.e**2 / (2 + np.e**2)]  # softmax of (0, 0, 2)
        np.testing.assert_allclose(np.stack(list(out["probabilities"])), [p] * 4, rtol=1e-5)
        np.testing.assert_allclose(out["ambiguity"], 1 - (p[2] - p[0]), rtol=1e-5)
        with pytest.raises(MlflowException, match="image 1: "):
            model.predict(pd.DataFrame({"image": [images[0], b"no image"]}))

    def test_json_requests_carry_base64(self, served: tuple[Path, str, str]) -> None:
        """By the function that MLflow's server calls for each request."""
        model = mlflow.pyfunc.load_model(served[2])

        def ask(data: str) -> InvocationsResponse:
            return invocations(data, "application/json", model, model.metadata.get_input_schema())

        (example,) = (served[0] / "mlruns").rglob("serving_input_example.json")
        answer = ask(example.read_text())
        assert answer.status == 200
        (row,) = json.loads(answer.response)["predictions"]
        assert row["label"] == "surprise"
        assert sum(row["probabilities"]) == pytest.approx(1)
        with pytest.raises(MlflowException, match="image 0: the file is damaged or not an image") as caught:
            ask(json.dumps({"dataframe_split": {"columns": ["image"], "data": [["bm8gaW1hZ2U="]]}}))
        assert caught.value.get_http_status_code() == 400

    def test_every_format_of_a_request_is_decoded(self, served: tuple[Path, str, str]) -> None:
        """MLflow decodes base64 in the two formats of tables only, and hands on the text of the others."""
        model = mlflow.pyfunc.load_model(served[2])
        _, bmp = cv2.imencode(".bmp", faces(1, 20, 20)[0])
        one, two = (base64.b64encode(data).decode() for data in (encode_png(faces(1, 20, 20)[0]), bmp.tobytes()))
        requests: list[dict[str, Any]] = [
            {"dataframe_split": {"columns": ["image"], "data": [[one], [two]]}},
            {"dataframe_records": [{"image": one}, {"image": two}]},
            {"instances": [one, two]},
            {"instances": [{"image": one}, {"image": two}]},
            {"inputs": [one, two]},
            {"inputs": {"image": [one, two]}},
        ]
        for request in requests:
            answer = invocations(json.dumps(request), "application/json", model, model.metadata.get_input_schema())
            assert [row["label"] for row in json.loads(answer.response)["predictions"]] == ["surprise"] * 2, request
        with pytest.raises(MlflowException, match="image 1: the file is damaged or not an image"):
            bad = json.dumps({"instances": [one, "@@"]})
            invocations(bad, "application/json", model, model.metadata.get_input_schema())

    @pytest.mark.parametrize("key", ["instances", "inputs"])
    def test_every_way_to_write_base64_is_read(self, served: tuple[Path, str, str], key: str) -> None:
        """`base64` breaks lines, JavaScript's canvas writes a data: address, tokens have an alphabet of their own."""
        model, png = mlflow.pyfunc.load_model(served[2]), encode_png(faces(1, 40, 41)[0])
        text, url_safe = base64.b64encode(png).decode(), base64.urlsafe_b64encode(png).decode()
        assert text != url_safe
        lines = base64.encodebytes(png).decode()
        ways = [lines, lines.replace("\n", "\r\n"), url_safe, url_safe.rstrip("="), f"data:image/png;base64,{text}"]
        request = json.dumps({key: [*ways, f" {text}\n"]})
        answer = invocations(request, "application/json", model, model.metadata.get_input_schema())
        assert [row["label"] for row in json.loads(answer.response)["predictions"]] == ["surprise"] * 6

    def test_the_documented_request_takes_large_images(self, served: tuple[Path, str, str], tmp_path: Path) -> None:
        """The shell's arguments would be too long from 96 KB on."""
        _, _, block = (ROOT / "docs/pipeline.md").read_text().partition("mlflow models serve")
        (made,) = re.findall(r"\n    (\(printf .*\)) \|\n      curl .*/invocations .* -d @-\n", block)
        (tmp_path / "face.png").write_bytes(encode_png(faces(1, 600, 500)[0]))
        assert (tmp_path / "face.png").stat().st_size > 200_000
        body = subprocess.run(["sh", "-c", made], cwd=tmp_path, capture_output=True, check=True, text=True).stdout
        model = mlflow.pyfunc.load_model(served[2])
        answer = invocations(body, "application/json", model, model.metadata.get_input_schema())
        assert json.loads(answer.response)["predictions"][0]["label"] == "surprise"

    def test_a_small_request_of_a_huge_image_is_refused_at_once(self, served: tuple[Path, str, str]) -> None:
        model = mlflow.pyfunc.load_model(served[2])
        bomb = base64.b64encode(png_of(30_000, 30_000, 875_000)).decode()
        request = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[bomb]]}})
        before, started = psutil.Process().memory_info().rss, time.perf_counter()
        with pytest.raises(
            MlflowException, match=r"image 0: the image has 30,000 x 30,000 pixels, more than"
        ) as caught:
            invocations(request, "application/json", model, model.metadata.get_input_schema())
        assert caught.value.get_http_status_code() == 400
        assert time.perf_counter() - started < 2  # 0.02 s on an idle machine
        assert psutil.Process().memory_info().rss - before < 100e6

    def test_limits_are_those_of_registration(self, served: tuple[Path, str, str]) -> None:
        """In every format of a request: bytes of a table, base64 that MLflow decodes, and base64 that it does not."""
        model = mlflow.pyfunc.load_model(served[2])
        good, long = encode_png(faces(1, 16, 16)[0]), encode_png(faces(1, 1000, 1000)[0])
        cases = {
            long: rf"image 1: the file has {len(long):,} bytes, more than max_image_bytes, 900,000\.",
            png_of(5000, 5000, 100): r"image 1: the image has 5,000 x 5,000 pixels, more than max_pixels, 10,000,000\.",
        }
        for image, message in cases.items():
            with pytest.raises(MlflowException, match=message):
                model.predict(pd.DataFrame({"image": [good, image]}))
            texts = [base64.b64encode(data).decode() for data in (good, image)]
            for request in ({"dataframe_records": [{"image": text} for text in texts]}, {"instances": texts}):
                with pytest.raises(MlflowException, match=message) as caught:
                    invocations(json.dumps(request), "application/json", model, model.metadata.get_input_schema())
                assert caught.value.get_http_status_code() == 400

    def test_damaged_limits_are_no_others(self, served: tuple[Path, str, str], tmp_path: Path) -> None:
        (path,) = (served[0] / "mlruns").rglob("limits.json")
        (tmp_path / "limits.json").write_text(path.read_text().replace("900000", "900001"))
        context = PythonModelContext({"limits": str(tmp_path / "limits.json")}, {})
        with pytest.raises(
            DataError, match=r"limits\.json: checksum: does not match .* Run `dvc repro -sf register`\."
        ):
            ServedModel().load_context(context)

    @pytest.mark.slow
    def test_loads_in_a_fresh_process_elsewhere(self, served: tuple[Path, str, str], tmp_path: Path) -> None:
        root, store, uri = served
        code = f"""
import json, sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model({uri!r})
image = bytes.fromhex({encode_png(faces(1, 16, 16)[0]).hex()!r})
out = model.predict(pd.DataFrame({{"image": [image]}}))
ours = [m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "nla"]
print(json.dumps({{"label": list(out["label"]), "files": ours}}))
"""
        done = run_python(code, tmp_path, MLFLOW_TRACKING_URI=store, PYTHONPATH="")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["label"] == ["surprise"]
        assert said["files"]
        assert all(Path(path).is_relative_to(root / "mlruns") for path in said["files"])
        assert list(tmp_path.iterdir()) == []
        unused = {"pyarrow"}  # by nla.io.write_table, which a served model does not call
        assert third_party(said["files"]) - unused <= set(REQUIREMENTS)

    def test_requirements_are_pinned_without_the_build(self) -> None:
        assert f"torch=={torch.__version__.split('+')[0]}" in requirements("resnet18")
        assert all(line.count("==") == 1 and "+" not in line for line in requirements("resnet18"))


@pytest.mark.parametrize(
    ("file", "counts"), [("serving/pyfunc.py", True), ("models/resnet.py", True), ("tuning.py", False)]
)
def test_the_hash_of_the_served_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, counts: bool) -> None:
    before = shipped_code()
    shutil.copytree(ROOT / "nla", tmp_path / "nla")
    monkeypatch.setattr(logged, "PACKAGE", tmp_path / "nla")
    monkeypatch.setattr(logged, "SCRIPT", tmp_path / "nla/serving/pyfunc.py")
    assert shipped_code() == before
    with (tmp_path / "nla" / file).open("a") as code:
        code.write("MENDED = True\n")
    assert (shipped_code() != before) == counts


class AtRunTime(ast.NodeTransformer):
    """Removes the imports that only a type checker sees."""

    def visit_If(self, node: ast.If) -> ast.If | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node


def third_party(files: list[str]) -> set[str]:
    """Installed distributions that the files import, read from their import statements, without TYPE_CHECKING."""
    trees = [AtRunTime().visit(ast.parse(Path(file).read_text())) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    owners = packages_distributions()
    found = {owner for name in names for owner in owners.get(name.split(".")[0], [])}
    return found - {"nla"}


def test_using_a_model_needs_no_mlflow(tmp_path: Path) -> None:
    code = "import sys, nla; from nla.serving import Predictor; from nla import Predictor as P; assert P is Predictor\n"
    code += "print({'mlflow', 'ray', 'albumentations', 'matplotlib'} & set(sys.modules))"
    done = run_python(code, tmp_path)
    assert done.stdout == "set()\n", done.stderr
    assert (ROOT / "nla").is_dir()


def test_a_served_model_is_calibrated_as_the_predictor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = calibrate(random_model(tmp_path / "models"), 3.0, 0.05)
    tracker = MlflowTracker(new_store(tmp_path, monkeypatch), system_metrics=False)
    run_id = tracker.start("x", {}, {})
    tracker.finish()
    (tmp_path / "README.md").write_text("# card")
    model = mlflow.pyfunc.load_model(log_served_model(run_id, models, readme=tmp_path / "README.md").model_uri)
    images = [encode_png(image) for image in faces(5, 16, 16)]
    out, expected = model.predict(pd.DataFrame({"image": images})), Predictor.load(models).predict(images)
    np.testing.assert_allclose(np.stack(list(out["probabilities"])), expected.probabilities, atol=1e-4)
    np.testing.assert_allclose(out["confidence"], expected.confidence, atol=1e-4)
    np.testing.assert_allclose(out["ambiguity"], expected.ambiguity, atol=1e-4)
    assert tuple(out["label"]) == expected.label
    assert next((tmp_path / "mlruns").rglob("README.md")).read_text() == "# card"
