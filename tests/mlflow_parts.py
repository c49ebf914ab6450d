"""Real stores and real models, small and quick to make, for the tests of tracking, serving and registry."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from patience import PATIENCE

from nla.data.images import encode_png
from nla.data.schema import SAMPLES, Preparation, TableInfo, with_info
from nla.io import write_table
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import save_model
from nla.serving.logged import log_served_model
from nla.serving.registry import FINGERPRINT, Registry
from nla.tracking import MlflowTracker, configure
from nla.tracking.database import create_tables

CLASSES = ("neutral", "happiness", "surprise")
ROOT = Path(__file__).parents[1]


@functools.cache
def migrated() -> bytes:
    """An SQLite file with MLflow's tables."""
    with tempfile.TemporaryDirectory() as folder:
        create_tables(Path(folder, "mlflow.db"))
        return Path(folder, "mlflow.db").read_bytes()


def new_store(root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty store in `root`, which exists."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)
    (root / "mlflow.db").write_bytes(migrated())
    return configure(root)


def constant_model(
    models: Path,
    answer: int,
    *,
    classes: Sequence[str] = CLASSES,
    source: str = "synthetic",
    size: int = 16,
    rgb: bool = False,
) -> Path:
    """A folder with a real, tiny network that gives class `answer` to every image."""
    channels = 3 if rgb else 1
    spec = ImageSpec(size, channels, (0.5,) * channels, (0.25,) * channels)
    torch.manual_seed(answer)
    model = Classifier(Architecture("resnet18", 4, "stride2", 0.0, len(classes)), spec)
    with torch.no_grad():
        model.backbone.fc.weight.zero_()
        model.backbone.fc.bias.copy_(torch.nn.functional.one_hot(torch.tensor(answer), len(classes)) * 2.0)
    facts = {"classes": list(classes), "source": source, "fingerprint": "f0", "epoch": 3}
    save_model(models / "model.safetensors", model.backbone.state_dict(), {**model.describe(), **facts})
    return models


def random_model(folder: Path, channels: int = 1, size: int = 16, source: str = "synthetic") -> Path:
    """A model whose answers depend on the image."""
    torch.manual_seed(0)
    spec = ImageSpec(size, channels, (0.5,) * channels, (0.25,) * channels)
    model = Classifier(Architecture("resnet18", 4, "stride1", 0.0, 3), spec)
    with torch.no_grad():
        model.backbone.fc.weight.mul_(20)
    card = {**model.describe(), "classes": CLASSES, "source": source, "fingerprint": "f0", "epoch": 0}
    save_model(folder / "model.safetensors", model.backbone.state_dict(), card)
    return folder


def registered(registry: Registry, uri: str, models: Path, fingerprint: str) -> str:
    """A new version of the model; its number."""
    tracker = MlflowTracker(uri, system_metrics=False)
    run_id = tracker.start(fingerprint, {"train": {"lr": 1}}, {})
    tracker.finish()
    info = log_served_model(run_id, models)
    return str(registry.add(info, run_id, {FINGERPRINT: fingerprint}).version)


def write_samples(
    path: Path,
    labels: Sequence[int],
    *,
    classes: Sequence[str] = CLASSES,
    source: str = "synthetic",
    size: int = 16,
    preparation: Preparation | None = None,
    targets: Sequence[Sequence[float] | None] | None = None,
    given: Sequence[int] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """A samples table with those labels and random grey images; `given` are noisy labels, `extra` further facts."""
    rng = np.random.default_rng((0, len(labels)))
    images = rng.integers(0, 256, (len(labels), size, size), np.uint8)
    table = {
        "row": range(len(labels)),
        "label": given or labels,
        "clean_label": labels,
        "is_flipped": [a != b for a, b in zip(given or labels, labels, strict=True)],
        "is_corrected": [False] * len(labels),
        "target": targets or [None] * len(labels),
        **{name: [None] * len(labels) for name in ("votes", "posterior")},
        "image": [{"bytes": encode_png(image), "path": f"{i}.png"} for i, image in enumerate(images)],
    }
    info = TableInfo(source, tuple(classes), (), {"image_size": size, "channels": 1, **(extra or {})}, preparation)
    write_table(path, pa.table(table, with_info(SAMPLES, info)))
    return path


def run_python(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh process that sees neither this one's settings nor pytest; the project is importable."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=clean_env() | env, capture_output=True, text=True, timeout=PATIENCE)


def clean_env() -> dict[str, str]:
    """The environment of a user who has set nothing."""
    ours = ("MLFLOW", "PYTEST", "DVC", "RAY", "NO_ALBUMENTATIONS")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {"PYTHONPATH": str(ROOT)}


@contextlib.contextmanager
def mlflow_server(root: Path, store: str | None = None) -> Iterator[str]:
    """URI of `mlflow server` over the SQLite `store`, or over a new one in `root`."""
    port = free_port()
    if store is None:
        (root / "server.db").write_bytes(migrated())
        store = f"sqlite:///{root / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(root / "artifacts")]
    # its job queue, for judging language models, would start a dozen more processes
    env = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with started_server(command, port, root, env) as uri:
        yield uri


@contextlib.contextmanager
def started_server(command: Sequence[str], port: int, root: Path, env: Mapping[str, str]) -> Iterator[str]:
    """URI of the MLflow server that `command` starts on `port`, with its log in `root`."""
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=root, env=clean_env() | dict(env), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server, root / "server.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)  # with its worker; a polite end takes ten seconds
        server.wait()


def free_port() -> int:
    """A port that nobody listens on now and that the system gives to nobody who asks for any.

    Between this answer and its use, Ray's processes of another test might get one from the system: those start at
    32,768 on Linux and 49,152 on macOS. Ray's workers have those from 10,002 to 19,999.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("none of 100 ports is free")


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"no MLflow server: {log.read_text()}")
