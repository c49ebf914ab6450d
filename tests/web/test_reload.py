"""A newer version of a model takes the place of the one in use, and one that cannot be loaded does not."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow_parts import constant_model, new_store, registered
from server_parts import Served, faces, serving

from nla import Predictor
from nla.errors import RegistryError, WeightsError
from nla.serving.registry import CHAMPION, Registry
from nla.web.live_model import LiveModel


class Folders:
    """A source whose versions are folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.number, self.is_reachable = root, "1", True

    def version(self) -> str:
        if not self.is_reachable:
            raise RegistryError("MLflow store: cannot be reached.")
        return self.number

    def load(self) -> tuple[Predictor, str, str | None, str]:
        return Predictor.load(self.root / self.number), "nla", self.number, f"f{self.number}"


def test_a_newer_version_is_loaded_and_a_bad_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in (1, 2, 4):
        constant_model(tmp_path / str(number), number % 3)
    constant_model(tmp_path / "3", 0)
    (tmp_path / "3/model.safetensors").write_bytes(b"damaged")
    source, counts = Folders(tmp_path), list[str]()
    model = LiveModel(source, "auto", cropped=True, count=counts.append)
    before = model.current
    model.refresh()
    assert model.current is before and counts == []  # nothing is loaded again
    source.number = "2"
    model.refresh()
    assert (model.current.version, model.current.fingerprint, model.problem) == ("2", "f2", None)
    assert before.predictor.predict([faces(1)[0]]).label == ("happiness",)  # for who has begun with it
    assert model.current.predictor.predict([faces(1)[0]]).label == ("surprise",)
    source.number = "3"
    with caplog.at_level(logging.WARNING):
        model.refresh()
        model.refresh()
    assert model.current.version == "2" and model.problem and "model.safetensors" in model.problem
    assert len([line for line in caplog.messages if "version 2 stays in use" in line]) == 1
    source.is_reachable = False
    model.refresh()
    assert model.current.version == "2" and model.problem == "MLflow store: cannot be reached."
    source.number, source.is_reachable = "4", True
    model.refresh()
    assert (model.current.version, model.problem) == ("4", None)
    assert counts == ["loaded", "failed", "failed", "failed", "loaded"]


def test_a_model_whose_first_pass_fails_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a GPU has no room for a second model: the first one answers."""
    for number in (1, 2):
        constant_model(tmp_path / str(number), number)
    source = Folders(tmp_path)
    model = LiveModel(source, "auto", cropped=True)

    def fails(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate")

    source.number = "2"
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", fails)
        model.refresh()
    assert model.current.version == "1" and model.problem and "not enough memory" in model.problem
    model.refresh()
    assert model.current.version == "2" and model.problem is None


def test_the_first_model_must_load(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        LiveModel(Folders(tmp_path), "auto", cropped=True)


class Clients:
    """Threads that ask without a pause, and keep each answer."""

    def __init__(self, server: Served, count: int) -> None:
        self.server, self.answers = server, list[tuple[int, str, str]]()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _ask(self, number: int) -> None:
        image = faces(1, seed=number)[0]
        while not self._ended.is_set():
            response = self.server.post(image)
            answer = response.json()
            face = answer["images"][0]["faces"][0] if response.ok else {"label": str(answer)}
            version = answer["model"]["version"] if response.ok else "none"
            self.answers.append((response.status_code, version, face["label"]))

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.thorough
def test_a_champion_is_replaced_without_a_lost_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = new_store(tmp_path, monkeypatch)
    registry = Registry(uri, "nla-tiny")
    one, two, three = (
        registered(registry, uri, constant_model(tmp_path / f"models-{n}", n), f"f{n}") for n in range(3)
    )
    client = registry.client
    client.set_registered_model_alias("nla-tiny", CHAMPION, one)
    options = ("--cropped", "--poll", "1")
    with serving("models:/nla-tiny@champion", *options, cwd=tmp_path, MLFLOW_TRACKING_URI=uri) as server:
        assert server.what == f"nla-tiny version {one}"
        clients = Clients(server, 8)
        try:
            client.set_registered_model_alias("nla-tiny", CHAMPION, two)
            server.wait_until(lambda: health(server)["model"]["version"] == two)
            after = len(clients.answers)
            server.wait_until(lambda: len(clients.answers) > after + 16)

            damaged = next((tmp_path / "mlruns").rglob("model.safetensors"))
            for path in (tmp_path / "mlruns").rglob("model.safetensors"):
                if path.read_bytes() == (tmp_path / "models-2/model.safetensors").read_bytes():
                    damaged = path
            shutil.move(damaged, tmp_path / "kept")
            damaged.write_bytes(b"damaged")
            client.set_registered_model_alias("nla-tiny", CHAMPION, three)
            server.wait_until(lambda: health(server)["problem"])
            assert health(server)["model"]["version"] == two and health(server)["ready"]

            shutil.move(tmp_path / "kept", damaged)
            server.wait_until(lambda: health(server)["model"]["version"] == three)
            assert health(server)["problem"] is None and health(server)["model"]["fingerprint"] == "f2"
        finally:
            clients.end()
        labels = {one: "neutral", two: "happiness", three: "surprise"}
        assert {status for status, *_ in clients.answers} == {200}
        assert all(labels[version] == label for _, version, label in clients.answers)
        assert {one, two} <= {version for _, version, _ in clients.answers}
        assert f"version {two} stays in use" in server.log()


def health(server: Served) -> dict[str, Any]:
    answer: dict[str, Any] = server.get("/health").json()
    return answer
