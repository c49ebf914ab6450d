"""Features and sequence training on Ray: as in this process, resumed, and with the errors of the tasks."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from clip_parts import read, write_frames, write_list
from safetensors.torch import load_file
from sequence_parts import config, make_sequences
from torch import Tensor

from nla.config.model import ModelConfig
from nla.config.ray import RayConfig
from nla.errors import ConfigError, DataError
from nla.io import write_table
from nla.limits import ImageLimits
from nla.models.base import Architecture, ImageSpec
from nla.models.classifier import Classifier
from nla.ray_cluster import Cluster
from nla.training.checkpoint import read_progress
from nla.training.checkpoint_store import FolderStore
from nla.training.process_group import ProcessGroup
from nla.training.ray_train import run_on
from nla.video import ray_features
from nla.video.features import Compute, extract, file_of, in_this_process, read_features
from nla.video.frames import read_frames
from nla.video.ray_features import bundles
from nla.video.sequences import check_workers
from nla.video.trainer import ClipJob, ClipTrainer, clip_trainer

VIDEOS = 5
TWO = RayConfig(num_workers=2, use_gpu=False)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Videos of 2 to 6 frames; the others are for the splits."""
    for number in range(VIDEOS):
        write_frames(tmp_path / f"clips/v{number}", range(1, number + 3), number)
        write_list(tmp_path / f"clips/v{number}.csv", {frame: "ab"[frame % 2] for frame in range(1, number + 3)})
    read(tmp_path / "clips", tmp_path / "frames.parquet", "clips")
    return tmp_path / "frames.parquet"


def network() -> Classifier:
    torch.manual_seed(0)
    return Classifier(Architecture.of(ModelConfig(width=4), 2), ImageSpec(16, 1, (0.4,), (0.25,))).eval()


def test_a_task_has_whole_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_features, "FRAMES_PER_TASK", 7)
    videos = [(number, [(row, b"x") for row in range(frames)]) for number, frames in enumerate([3, 3, 3, 20, 1])]
    found = list(bundles(iter(videos)))
    assert [[number for number, _ in bundle] for bundle in found] == [[0, 1, 2], [3], [4]]
    assert [video for bundle in found for video in bundle] == videos


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.thorough
def test_features_are_those_of_this_process(
    table: Path, tmp_path: Path, ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_features, "FRAMES_PER_TASK", 6)  # three tasks
    here, there, model, told = tmp_path / "here", tmp_path / "there", network(), []

    def run(compute: Compute, out: Path) -> None:
        extract(compute, "m", table, read_frames(table), out, lambda done, total: told.append((done, total)))

    run(in_this_process(model, ImageLimits()), here)
    told.clear()
    on_ray = ray_features.on_ray(ray_cluster, TWO, model, ImageLimits())
    run(on_ray, there)
    assert told[0] == (0, 20) and told[-1] == (20, 20) and len(told) == 1 + VIDEOS
    for one, other in zip(read_features(here)[1], read_features(there)[1], strict=True):
        np.testing.assert_allclose(one.features_T2F, other.features_T2F, rtol=2e-3, atol=1e-3)
        np.testing.assert_allclose(one.logits_T2C, other.logits_T2C, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(one.row_T, other.row_T)

    before = {path.name: path.stat().st_mtime_ns for path in there.glob("*.safetensors")}
    file_of(there, 3).unlink()
    run(on_ray, there)
    after = {path.name: path.stat().st_mtime_ns for path in there.glob("*.safetensors")}
    assert [name for name in after if after[name] != before[name]] == ["000003.safetensors"]

    damaged = pq.read_table(table)
    images = damaged["image"].to_pylist()
    images[7]["bytes"] = b"no image"
    column = damaged.schema.get_field_index("image")
    write_table(table, damaged.set_column(column, damaged.schema.field("image"), [images]))
    with pytest.raises(DataError, match=r"row 7 of the table of frames: .*Run `dvc repro -f clips`"):
        run(on_ray, there)


def without_key_bias(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the bias of attention's keys: softmax does not depend on it, so that its gradient is rounding."""
    kept = {name: tensor.clone() for name, tensor in state.items()}
    for name in (name for name in kept if name.endswith("in_proj_bias")):
        kept[name].view(3, -1)[1] = 0
    return kept


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.ray
def test_two_workers_train_as_one_does(tmp_path: Path, ray_cluster: Cluster) -> None:
    train, valid = make_sequences(0), make_sequences(1)

    def job(epochs: int) -> ClipJob:
        """Without dropout, at a constant rate: these jobs differ only in length."""
        rate = {"epochs": epochs, "schedule": "constant", "batch_size": 6}
        return ClipJob(config(model={"dropout": 0.0}, train=rate), fingerprint="c" * 16)

    for epochs in (2, 3):  # the second resumes
        make = functools.partial(clip_trainer, job(epochs))
        with run_on(ray_cluster, make, (train, valid), "c" * 16, TWO, str(tmp_path / "runs")) as folder:
            progress, weights = read_progress(folder), load_file(folder / "last.safetensors")
    assert [row["epoch"] for row in progress.history] == [1, 2, 3] and progress.facts["workers"] == 2

    alone = ClipTrainer(job(3), train, valid, ProcessGroup(torch.device("cpu")), FolderStore(tmp_path / "one"))
    expected = alone.fit()
    torch.testing.assert_close(
        without_key_bias(weights), without_key_bias(alone.eval_network.backbone.state_dict()), rtol=1e-3, atol=1e-4
    )
    for row, other in zip(progress.history, expected.history, strict=True):
        assert row["valid_macro_f1"] == pytest.approx(other["valid_macro_f1"], abs=0.02)
        assert row["valid_nll"] == pytest.approx(other["valid_nll"], rel=1e-3)
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)


def test_a_last_batch_that_is_too_small_is_told_before_training() -> None:
    sequences = make_sequences(0)
    clips = sum(-(-len(video) // 12) for video in sequences.videos)
    check_workers(sequences, config(train={"batch_size": 4}), 1)
    size = next(size for size in range(2, clips, 2) if clips % size == 1)
    with pytest.raises(
        ConfigError, match=rf"batch_size: {size} leaves 1 of {clips} clips for the last batch, .* 2 worke"
    ):
        check_workers(sequences, config(train={"batch_size": size}), 2)
