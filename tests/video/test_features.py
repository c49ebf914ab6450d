"""Features: those of the model for each image and its mirror, resumed video by video, and never those of another."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_parts import read, write_frames, write_list

from nla.config.model import ModelConfig
from nla.data.images import decode
from nla.errors import DataError
from nla.limits import ImageLimits
from nla.models.base import Architecture, ImageSpec
from nla.models.classifier import Classifier
from nla.video.features import extract, file_of, in_this_process, read_features
from nla.video.frames import read_frames


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Three videos of 2, 3 and 4 frames; the others are for the splits."""
    for number in range(3):
        write_frames(tmp_path / f"clips/v{number}", range(1, number + 3), number)
        write_list(tmp_path / f"clips/v{number}.csv", {frame: "ab"[frame % 2] for frame in range(1, number + 3)})
    read(tmp_path / "clips", tmp_path / "frames.parquet", "clips")
    return tmp_path / "frames.parquet"


def network(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    architecture = Architecture.of(ModelConfig(width=4), 2)
    return Classifier(architecture, ImageSpec(16, 1, (0.4,), (0.25,))).eval()


def run(table: Path, out: Path, model: Classifier, sha: str = "m") -> list[int]:
    """Extracts; returns the progress."""
    told: list[int] = []
    compute = in_this_process(model, ImageLimits())
    extract(compute, sha, table, read_frames(table), out, lambda done, total: told.append(done))
    return told


def test_features_and_logits_are_those_of_the_model(table: Path, tmp_path: Path) -> None:
    model = network()
    assert run(table, tmp_path / "out", model) == [0, 2, 5, 9]
    index, videos = read_features(tmp_path / "out")
    images = pq.read_table(table)["image"].to_pylist()
    assert index.videos == ["v0", "v1", "v2"] and index.features == 32
    for video in videos:
        for t, row in enumerate(video.row_T):
            pixels = cv2.resize(decode(images[row]["bytes"]), (16, 16), interpolation=cv2.INTER_AREA)
            for view, image in enumerate((pixels, pixels[:, ::-1].copy())):
                x = torch.from_numpy(image[None, :, :, None].copy())
                with torch.inference_mode():
                    np.testing.assert_allclose(video.logits_T2C[t, view], model(x)[0], rtol=1e-3, atol=1e-4)
                    feature = model.maps(x).mean((2, 3))[0]
                np.testing.assert_allclose(video.features_T2F[t, view], feature, rtol=2e-3, atol=1e-3)
        assert video.features_T2F.dtype == np.float16


def test_what_is_complete_is_not_computed_again(table: Path, tmp_path: Path) -> None:
    out, model = tmp_path / "out", network()
    run(table, out, model)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    file_of(out, 1).unlink()
    (out / "index.json").unlink()
    (out / "000002.safetensors").write_bytes(b"torn")
    run(table, out, model)
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*.safetensors")}
    assert after["000000.safetensors"] == before["000000.safetensors"]
    assert all(after[name] > before[name] for name in ("000001.safetensors", "000002.safetensors"))
    assert [len(video.row_T) for video in read_features(out)[1]] == [2, 3, 4]


def test_another_model_replaces_them(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(table, out, network())
    first = next(iter(read_features(out)[1])).features_T2F
    run(table, out, network(1), "other")
    assert not np.array_equal(first, next(iter(read_features(out)[1])).features_T2F)


def test_damage_is_found_when_they_are_read(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(table, out, network())
    content = bytearray(file_of(out, 1).read_bytes())
    content[-1] ^= 1
    file_of(out, 1).write_bytes(content)
    with pytest.raises(DataError, match=r"000001\.safetensors: missing, or not what was written"):
        list(read_features(out)[1])
    file_of(out, 1).unlink()
    with pytest.raises(DataError, match=r"000001\.safetensors: missing"):
        list(read_features(out)[1])
