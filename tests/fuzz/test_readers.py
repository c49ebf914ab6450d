"""Damaged files and requests: each reader reads them, or refuses them with a message, and raises nothing else.

`make test` tries a few damages of each; `make fuzz` tries NLA_FUZZ_EXAMPLES, other ones each time.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from damage import FUZZ, damaged
from edited_files import KINDS, Kind
from hypothesis import given
from hypothesis import strategies as st
from mlflow_parts import random_model
from safetensors.torch import save

from nla.config.data import DataConfig
from nla.data.images import decode, encode_png
from nla.data.sources import open_source
from nla.data.sources.base import Findings
from nla.errors import NLAError
from nla.limits import MAX_PIXELS
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.dlib_file import read_layers
from nla.models.weights import start_from
from nla.serving.predictor import Predictor

FACE = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)

DLIB_LAYER = b"".join(
    [
        *(b"\1\1\1\x0dloss_metric_2", 10 * b"\1\2", b"\1\x15input_rgb_image_sized", 8 * b"\1\x60"),
        *(b"\1\7affine_", b"\1\2\1\2" + 3 * b"\1\1" + bytes(8), 10 * b"\1\1", b"\1\0"),
        *(b"110", 3 * (b"\1\2" + 4 * b"\1\0"), b"\1\1"),
    ]
)
"""The header of a file of dlib, and one layer."""


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, FACE)[1].tobytes()


def image(suffix: str) -> Kind:
    name = f"face{suffix}"
    return Kind(name, lambda root: (root / name).write_bytes(encoded(suffix)), lambda root: see(root / name))


def see(path: Path) -> None:
    pixels = decode(path.read_bytes())
    assert pixels.dtype == np.uint8 and pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


def source(name: str, file: str, prepare: Callable[[Path], object]) -> Kind:
    def read(root: Path) -> None:
        findings = Findings()
        for batch in open_source(DataConfig(source=name), root).batches(findings):
            batch.validate(full=True)

    return Kind(file, prepare, read)


def put(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def csv_list(root: Path) -> None:
    lines = b"image,split,label\na.png,train,sad\nb.png,train,glad\na2.png,test,sad\n"
    put(root, {"faces.csv": lines, **{f"{name}.png": encode_png(FACE) for name in ("a", "b", "a2")}})


def ferplus(root: Path) -> None:
    pixels = b" ".join([b"7"] * 48 * 48)
    usages = (b"Training", b"PublicTest", b"PrivateTest")
    faces = b"".join(b"%d,%b,%b\n" % (i, pixels, usage) for i, usage in enumerate(usages))
    votes = b"".join(b"%b,%d.png,%b\n" % (usage, i, b"8,2,0,0,0,0,0,0,0,0") for i, usage in enumerate(usages))
    names = b"Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    put(root, {"fer2013.csv": b"emotion,pixels,Usage\n" + faces, "fer2013new.csv": names + votes})


def rafdb(root: Path) -> None:
    names = [f"{split}_{i}" for split in ("train", "test") for i in range(1, 8)]
    listed = b"".join(f"{name}.jpg {i % 7 + 1}\n".encode() for i, name in enumerate(names))
    images = {f"Image/aligned/{name}_aligned.jpg": encoded(".jpg") for name in names}
    put(root, {"EmoLabel/list_patition_label.txt": listed, **images})


def affectnet(root: Path) -> None:
    for split in ("train_set", "val_set"):
        for i in range(8):
            label = io.BytesIO()
            np.save(label, np.asarray(str(i)))
            put(
                root, {f"{split}/annotations/{i}_exp.npy": label.getvalue(), f"{split}/images/{i}.jpg": encoded(".jpg")}
            )


def start(path: Path) -> None:
    start_from(network(), path)


def network() -> Classifier:
    return Classifier(Architecture("resnet18", 4, "stride2", 0.0, 3), ImageSpec(16, 1, (0.5,), (0.25,)))


def pth() -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": network().backbone.state_dict()}, file)
    return file.getvalue()


TARGETS = {
    **{f"image{suffix}": image(suffix) for suffix in (".png", ".jpg", ".bmp", ".webp")},
    "csv": source("csv", "faces.csv", csv_list),
    "ferplus, pixels": source("ferplus", "fer2013.csv", ferplus),
    "ferplus, votes": source("ferplus", "fer2013new.csv", ferplus),
    "rafdb": source("rafdb", "EmoLabel/list_patition_label.txt", rafdb),
    "affectnet": source("affectnet", "train_set/annotations/3_exp.npy", affectnet),
    "weights.pth": Kind(
        "weights.pth", lambda root: (root / "weights.pth").write_bytes(pth()), lambda root: start(root / "weights.pth")
    ),
    "weights.safetensors": Kind(
        "weights.safetensors",
        lambda root: (root / "weights.safetensors").write_bytes(save(network().backbone.state_dict())),
        lambda root: start(root / "weights.safetensors"),
    ),
    "weights.dat": Kind(
        "weights.dat",
        lambda root: (root / "weights.dat").write_bytes(DLIB_LAYER),
        lambda root: read_layers(root / "weights.dat"),
    ),
    "model.safetensors": Kind("model.safetensors", random_model, Predictor.load),
    **{kind.name: kind for kind in KINDS},
}


@pytest.mark.parametrize("name", TARGETS)
def test_it_is_read_or_refused(tmp_path: Path, name: str) -> None:
    target = TARGETS[name]
    target.write(tmp_path)
    target.read(tmp_path)
    (path,) = [path for path in tmp_path.rglob(Path(target.name).name) if path.as_posix().endswith(target.name)]
    valid = path.read_bytes()

    @FUZZ
    @given(damaged(valid))
    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            target.read(tmp_path)
        except NLAError as error:
            assert str(error).strip()

    read()


@FUZZ
@given(st.lists(damaged(encode_png(FACE)) | damaged(encoded(".jpg")), min_size=1, max_size=3))
def test_a_request_is_answered_or_refused(images: list[bytes]) -> None:
    predictor = Predictor(network(), ("a", "b", "c"), "synthetic")
    try:
        assert np.isfinite(predictor.predict(images).probabilities).all()
    except NLAError as error:
        assert str(error).strip()
