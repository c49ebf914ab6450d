"""FER2013's labels of the faces of FERPlus: on a few faces, and once on the real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nla.config.base import section
from nla.config.data import DataConfig
from nla.data.fer2013_labels import disagreement, fer2013_labels
from nla.data.images import encode_png, pixel_hash
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.sample_plan import plan_samples
from nla.data.schema import FACES, SPLITS, TableInfo, with_info
from nla.data.sources import open_source
from nla.errors import ConfigError, DataError
from pipelines.prepare import summary

CLASSES = ("calm", "contempt", "glad")
RULE = {"label_rule": "fer2013", "contempt": False, "image_size": 16}
FACE = (  # votes for the classes and `unknown`, and FER2013's label
    ([8, 1, 1, 0], 0),  # calm in both
    ([8, 0, 2, 0], 2),  # calm, in FER2013 glad
    ([1, 0, 9, 0], 2),  # glad in both
    ([4, 6, 0, 0], 0),  # calm, once the votes for contempt are removed
    ([4, 0, 4, 2], 2),  # no majority
)


def faces(path: Path, own: bool = True) -> None:
    """The five of FACE, twice in each split."""
    image = encode_png(np.zeros((16, 16), np.uint8))
    rows = [
        {
            "row": i,
            "split": split,
            "votes": votes,
            "fer2013_label": label if own else None,
            "pixels": pixel_hash(np.full((1, 1), i, np.uint8)),
            "image": {"bytes": image, "path": f"{i}.png"},
        }
        for i, (split, (votes, label)) in enumerate((split, face) for split in SPLITS for face in FACE * 2)
    ]
    info = TableInfo("tiny", CLASSES, (*CLASSES, "unknown"))
    pq.write_table(pa.Table.from_pylist(rows, schema=with_info(FACES, info)), path)


def prepared(tmp_path: Path, **changes: Any) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    faces(tmp_path / "faces.parquet")
    report = prepare(tmp_path / "faces.parquet", tmp_path, DataConfig.model_validate(RULE | changes))
    return report, {split: pq.read_table(tmp_path / f"{split}.parquet") for split in SPLITS}


def test_train_and_validation_have_fer2013s_labels_and_test_the_majority(tmp_path: Path) -> None:
    report, tables = prepared(tmp_path)
    for split, table in tables.items():
        assert table["row"].to_pylist() == [10 * SPLITS.index(split) + i for i in (0, 1, 2, 3, 5, 6, 7, 8)]
        assert table["clean_label"].to_pylist() == [0, 0, 1, 0] * 2
        given = [0, 0, 1, 0] if split == "test" else [0, 1, 1, 0]
        assert table["label"].to_pylist() == given * 2
        assert table["is_flipped"].to_pylist() == [a != b for a, b in zip(given, [0, 0, 1, 0], strict=True)] * 2
        assert table["target"].null_count == 8
        assert table["votes"].is_null().to_pylist() == [split == "train" and i % 4 == 1 for i in range(8)]
    counts = {"rows": 8, "differ": 2, "classes": {"calm": {"rows": 6, "differ": 2}, "glad": {"rows": 2, "differ": 0}}}
    assert report["fer2013"] == dict.fromkeys(SPLITS, counts)
    assert report["noise"]["flipped"] == 2 and report["noise"]["measured_rate"] == 0.25
    assert report["noise"]["kind"] == "fer2013" and report["noise"]["train_labels"] == {"calm": 4, "glad": 4}
    assert report["clean"].startswith("test is clean")
    assert json.loads(json.dumps(report)) == report
    lines = list(summary(report))
    assert lines[1:] == [
        f"{split}: 2 labels of FER2013 are not the majority, 25.0% (calm 33.3%, glad 0.0%); {use}"
        for split, use in zip(SPLITS, ("given to training", "given to training", "not used"), strict=True)
    ]


def test_only_a_missing_label_that_would_be_used_is_refused() -> None:
    """Split 3 is none: a face that is left out."""
    own_N, clean_N, split_N = np.array([1, 2, -1, -1]), np.array([0, 2, 1, 0]), np.array([0, 1, 2, 3])
    assert fer2013_labels(own_N, clean_N, split_N, "tiny").tolist() == [1, 2, 1, 0]
    for split in (0, 1):
        with pytest.raises(ConfigError, match=r"the source tiny has no labels of FER2013"):
            fer2013_labels(own_N, clean_N, np.array([0, 1, split, 3]), "tiny")


def test_labels_that_differ_are_counted_by_the_class_of_the_majority() -> None:
    report = disagreement(np.array([1, 0, 2, 2]), np.array([0, 0, 2, 0]), np.array([0, 0, 0, 3]), CLASSES)
    assert report["train"] == {
        "rows": 3,
        "differ": 1,
        "classes": {
            "calm": {"rows": 2, "differ": 1},
            "contempt": {"rows": 0, "differ": 0},
            "glad": {"rows": 1, "differ": 0},
        },
    }
    assert [report[split]["rows"] for split in SPLITS] == [3, 0, 0]
    with pytest.raises(ValueError, match="zip"):
        disagreement(np.array([2]), np.array([2]), np.array([0]), CLASSES[:2])


def test_by_majority_nothing_changes_but_the_column_of_faces(tmp_path: Path) -> None:
    report, tables = prepared(tmp_path, label_rule="majority")
    assert tables["train"]["label"].to_pylist() == tables["train"]["clean_label"].to_pylist() == [0, 0, 1, 0] * 2
    assert "fer2013" not in report and report["noise"]["flipped"] == 0


def test_a_source_without_these_labels_is_refused(tmp_path: Path) -> None:
    faces(tmp_path / "faces.parquet", own=False)
    message = r"data\.label_rule: the source tiny has no labels of FER2013 \(got fer2013\)\. Choose majority"
    with pytest.raises(ConfigError, match=message):
        plan_samples(tmp_path / "faces.parquet", DataConfig.model_validate(RULE))


def test_a_class_that_fer2013_never_names_is_an_error(tmp_path: Path) -> None:
    faces(tmp_path / "faces.parquet")
    table = pq.read_table(tmp_path / "faces.parquet")
    at = table.schema.get_field_index("fer2013_label")
    never_glad = table.set_column(at, FACES.field("fer2013_label"), pa.array([0] * len(table), pa.int8()))
    pq.write_table(never_glad.replace_schema_metadata(table.schema.metadata), tmp_path / "faces.parquet")
    with pytest.raises(DataError, match=r"data\.label_rule: no training label of glad remains \(got fer2013\)"):
        plan_samples(tmp_path / "faces.parquet", DataConfig.model_validate(RULE))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contempt": True}, r"data\.contempt: must be false under data\.label_rule: fer2013.*\(got True\)"),
        ({"noise": {"rate": 0.1}}, r"data\.noise: rate must be 0 under data\.label_rule: fer2013"),
    ],
)
def test_what_cannot_be_combined_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        section(DataConfig, {"data": RULE | changes})


def test_contempt_is_refused_by_its_default_too() -> None:
    with pytest.raises(ConfigError, match=r"data\.contempt: must be false"):
        section(DataConfig, {"data": {"label_rule": "fer2013"}})


@pytest.mark.slow
def test_the_real_files(ferplus_dir: Path, tmp_path: Path) -> None:
    """Numbers counted from the two files by a script that shares nothing with this code."""
    path = tmp_path / "faces.parquet"
    ingest(open_source(DataConfig(source="ferplus"), ferplus_dir), path, on_bad="error")
    plan = plan_samples(path, DataConfig(source="ferplus", label_rule="fer2013", contempt=False))
    found = plan.report["fer2013"]
    counted = {"train": (25212, 8145), "valid": (3225, 1074), "test": (3172, 1039)}
    assert {split: (found[split]["rows"], found[split]["differ"]) for split in SPLITS} == counted
    assert {name: (n["rows"], n["differ"]) for name, n in found["train"]["classes"].items()} == {
        "neutral": (8877, 4797),
        "happiness": (7306, 745),
        "surprise": (3154, 769),
        "sadness": (3071, 1234),
        "anger": (2126, 470),
        "disgust": (144, 33),
        "fear": (534, 97),
    }
    neutral = plan.label_N[(plan.split_N == 0) & (plan.clean_N == 0)]
    assert np.bincount(neutral).tolist() == [4080, 321, 170, 2125, 1038, 31, 1112]
    assert np.isnan(plan.target_NC).all()
