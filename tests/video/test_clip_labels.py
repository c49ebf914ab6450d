"""Labels of all frames and images of the frame model: the same noise, in train alone, and no label moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_parts import read, write_frames, write_list
from hypothesis import given
from hypothesis import strategies as st

from nla.config.clips import ClipsConfig
from nla.data.samples import load_annotations, load_samples
from nla.data.schema import read_info
from nla.errors import ConfigError, DataError
from nla.video.frames import read_frames
from nla.video.prepare import every, prepare_clips

DRAWN: dict[str, Any] = {"train": 8, "valid": 3, "test": 3, "frames": 60}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drawn") / "frames.parquet"
    read(Path(), path, "drawn", drawn={**DRAWN, "train": 24})
    return path


def prepared(frames: Path, out: Path, **config: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    report = prepare_clips(frames, out, ClipsConfig(**config))
    return pq.read_table(out / "labels.parquet").to_pylist(), report


@pytest.mark.parametrize("law", ["frame", "segment"])
def test_noise_is_exact_and_in_train_alone(frames: Path, tmp_path: Path, law: str) -> None:
    rows, report = prepared(frames, tmp_path, noise={"law": law, "rate": 0.3})
    train = [row for row in rows if row["split"] == "train"]
    flipped = [row for row in rows if row["label"] != row["clean_label"]]
    assert len(flipped) == round(0.3 * len(train)) == report["noise"]["flipped"]
    assert {row["split"] for row in flipped} == {"train"}
    assert [row["is_flipped"] for row in rows] == [row["label"] != row["clean_label"] for row in rows]
    assert read_info(tmp_path / "labels.parquet").extra["noise"]["law"] == law


def test_the_frame_model_has_the_same_labels(frames: Path, tmp_path: Path) -> None:
    rows, report = prepared(frames, tmp_path, noise={"law": "segment", "rate": 0.4}, step=5)
    for split in ("train", "valid", "test"):
        samples, annotations = (
            load_samples(tmp_path / f"{split}.parquet"),
            load_annotations(tmp_path / f"{split}.parquet"),
        )
        assert len(samples) == report["images"][split] == report["splits"][split]["frames"] // 5
        for row, label, clean in zip(samples.row_N, samples.label_N, annotations.clean_label_N, strict=True):
            assert (rows[row]["label"], rows[row]["clean_label"], rows[row]["split"]) == (label, clean, split)
            assert rows[row]["frame"] % 5 == 1
    made = read_info(tmp_path / "train.parquet").preparation
    assert made is not None and made.noise.kind == "symmetric per segment"


def test_labels_follow_the_seed(frames: Path, tmp_path: Path) -> None:
    first, _ = prepared(frames, tmp_path, noise={"rate": 0.3})
    again, _ = prepared(frames, tmp_path, noise={"rate": 0.3})
    other, _ = prepared(frames, tmp_path, noise={"rate": 0.3}, seed=1)
    assert first == again
    assert [row["label"] for row in first] != [row["label"] for row in other]


def test_the_table_is_in_the_order_of_the_frames(frames: Path, tmp_path: Path) -> None:
    rows, _ = prepared(frames, tmp_path)
    table = read_frames(frames)
    assert [row["row"] for row in rows] == list(range(len(table)))
    assert [row["video"] for row in rows] == [table.videos[v] for v in table.video_N]
    assert [row["frame"] for row in rows] == table.frame_N.tolist()
    np.testing.assert_array_equal([row["posterior"] for row in rows], table.posterior_NC)


def clips_with_gaps(root: Path, labels: dict[int, str]) -> None:
    for number in range(5):
        write_frames(root / f"v{number}", labels, number)
        write_list(root / f"v{number}.csv", labels)


def test_frames_without_annotation_keep_none(tmp_path: Path) -> None:
    labels = {1: "joy", 2: "", 3: "anger", 4: "joy", 5: "", 6: "anger"}
    clips_with_gaps(tmp_path / "clips", labels)
    read(tmp_path / "clips", tmp_path / "frames.parquet", "clips")
    config: dict[str, Any] = {"noise": {"rate": 0.5}, "step": 2, "image_size": 16}
    rows, report = prepared(tmp_path / "frames.parquet", tmp_path / "out", **config)
    assert [row["clean_label"] is None for row in rows] == [row["frame"] in (2, 5) for row in rows]
    assert all(row["label"] is None and not row["is_flipped"] for row in rows if row["frame"] in (2, 5))
    assert report["splits"]["train"]["annotated"] == 4 * report["splits"]["train"]["videos"]
    samples = load_samples(tmp_path / "out/train.parquet")
    assert [rows[row]["frame"] for row in samples.row_N] == [1, 4] * report["splits"]["train"]["videos"]


def test_votes_become_targets(tmp_path: Path) -> None:
    clips_with_gaps(tmp_path / "clips", {1: "", 2: ""})
    lines = [f"v{n},{n + 1},{6 - n}" for n in range(5)]
    (tmp_path / "clips/clips.csv").write_text("\n".join(["video,joy,anger", *lines]))
    read(tmp_path / "clips", tmp_path / "frames.parquet", "clips", seed=1)
    rows, _ = prepared(tmp_path / "frames.parquet", tmp_path / "out", votes=True, image_size=16)
    for row in rows:
        number = int(row["video"][1])
        np.testing.assert_allclose(row["target"], [(number + 1) / 7, (6 - number) / 7], rtol=1e-6)


@given(st.integers(0, 2**32), st.integers(1, 7))
def test_every_takes_each_nth_annotated_frame_of_a_video(seed: int, step: int) -> None:
    rng = np.random.default_rng(seed)
    video_N, is_annotated_N = np.sort(rng.integers(0, 4, 50)), rng.random(50) < 0.7
    expected = np.concatenate([np.flatnonzero((video_N == v) & is_annotated_N)[::step] for v in range(4)])
    assert np.flatnonzero(every(is_annotated_N, video_N, step)).tolist() == expected.tolist()


def test_impossible_requests_name_key_and_remedy(frames: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"clips\.noise\.mapping: unknown class feer: did you mean 'fear'"):
        prepared(frames, tmp_path, noise={"kind": "asymmetric", "rate": 0.1, "mapping": {"feer": "anger"}})
    with pytest.raises(ConfigError, match=r"clips\.votes: drawn has no votes"):
        prepared(frames, tmp_path, votes=True)
    with pytest.raises(DataError, match=r"clips\.noise\.rate: no training label of .*Lower it"):
        config = {"kind": "asymmetric", "rate": 0.999, "mapping": {"fear": "anger"}, "law": "segment"}
        prepared(frames, tmp_path, noise=config)
    assert not (tmp_path / "labels.parquet").exists()


def test_train_needs_every_class(tmp_path: Path) -> None:
    clips_with_gaps(tmp_path / "clips", {1: "joy"})
    read(tmp_path / "clips", tmp_path / "frames.parquet", "clips", classes=("joy", "anger"))
    with pytest.raises(DataError, match="train has no annotated frame of anger"):
        prepared(tmp_path / "frames.parquet", tmp_path / "out")
