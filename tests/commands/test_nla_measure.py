"""`nla measure` on real tables and folders: figures counted by hand from what the predictor says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow_parts import CLASSES, constant_model, write_samples

from nla.commands.measure import main
from nla.data.images import encode_png
from nla.data.schema import FACES, SAMPLES, TableInfo, with_info
from nla.errors import CommandError, DataError
from nla.models.saved_model import read_card
from nla.serving.predictor import Predictor

FILES = ["confusion.png", "metrics.json", "predictions.parquet"]
COLUMNS = ["row", "path", "label", "predicted", *(f"p_{name}" for name in CLASSES)]


def folder(root: str, **images: int) -> list[bytes]:
    """So many random images a class; their bytes, class by class."""
    rng, data = np.random.default_rng(0), []
    for name, n in images.items():
        Path(root, name).mkdir(parents=True)
        for i in range(n):
            data.append(encode_png(rng.integers(0, 256, (20, 20), np.uint8)))
            Path(root, name, f"{i:02}.png").write_bytes(data[-1])
    return data


def measured(*argv: str) -> tuple[dict, pd.DataFrame]:
    main([*argv])
    assert sorted(path.name for path in Path("reports/measured").iterdir()) == FILES
    return json.loads(Path("reports/measured/metrics.json").read_text()), pd.read_parquet(
        "reports/measured/predictions.parquet"
    )


def test_a_table_that_was_corrected_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_samples(here / "test.parquet", [0, 1] * 15, source="rafdb", extra={"corrected": {"relabel": 4, "keep": 9}})
    report, _ = measured("test.parquet")
    assert report["set"]["corrected"] == 4
    assert "note: 4 rows of the set were corrected by hand (data.corrections)" in capsys.readouterr().out


def test_a_table_of_prepare(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its classes have another order than the model's, and its model one class more."""
    labels = [0, 1] * 15
    table = write_samples(here / "test.parquet", labels, classes=("surprise", "neutral"), source="rafdb", size=24)
    report, rows = measured("test.parquet")
    data = [image["bytes"] for image in pq.read_table(table)["image"].to_pylist()]
    expected = Predictor.load("models").predict(data)
    assert list(rows) == COLUMNS
    assert rows.row.tolist() == list(range(30)) and rows.path.tolist() == [f"{i}.png" for i in range(30)]
    assert rows.label.tolist() == [("surprise", "neutral")[label] for label in labels]
    assert tuple(rows.predicted) == expected.label and len(set(expected.label)) > 1
    np.testing.assert_allclose(rows[COLUMNS[4:]], expected.probabilities, atol=1e-6)
    assert report["accuracy"] == pytest.approx((rows.label == rows.predicted).mean())
    assert report["classes"]["neutral"]["support"] == 15 and report["absent"] == ["happiness"]
    assert report["set"] == {"path": "test.parquet", "rows": 30, "corrected": 0} and report["rows"] == 30
    card = read_card(here / "models/model.safetensors")
    assert report["model"] == {"path": "models", "fingerprint": "f0", "sha256": card["sha256"]}
    assert report["left_out"] == {"classes": {}, "unreadable": [], "not_read": []}
    assert (report["map"], report["shared"], report["views"]) == ({}, False, {"mirror": True, "shift": 0})
    said = capsys.readouterr().out.splitlines()
    interval = f"95 % CI {report['accuracy_low']:.2%} to {report['accuracy_high']:.2%}"
    assert said[-4].startswith(
        f"accuracy {report['accuracy']:.2%} ({interval}), mean class accuracy {report['mean_accuracy']:.2%}"
    )
    assert said[-4].endswith(f"macro-F1 {report['macro_f1']:.4f}; n 30")
    for line, name in zip(said[-3:-1], ("neutral", "surprise"), strict=True):
        assert line.split() == [name, "recall", f"{report['classes'][name]['recall']:.1%}", "n", "15"]


def test_a_folder_with_other_names_and_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder("faces", contempt=4, happy=9, joyful=3, neutral=8, none=0)
    Path("faces/.cache").mkdir()
    report, rows = measured("faces", "--map", "happy=happiness", "--map", "joyful=happiness")
    assert rows.path.tolist()[0] == "happy/00.png" and rows.row.tolist() == list(range(4, 24))
    assert rows.label.tolist() == ["happiness"] * 12 + ["neutral"] * 8
    assert tuple(rows.predicted) == Predictor.load("models").predict(data[4:]).label
    assert report["left_out"]["classes"] == {"contempt": 4} and report["set"]["rows"] == 24
    assert report["map"] == {"happy": "happiness", "joyful": "happiness"}
    assert "classes that the model does not have, left out: contempt (4 rows)\n" in capsys.readouterr().out


def test_a_class_that_the_set_has_not_is_wrong_unless_shared(here: Path) -> None:
    """The model always says happiness, and likes the two others alike."""
    constant_model(here / "models", CLASSES.index("happiness"))
    folder("faces", neutral=6, surprise=4)
    report, rows = measured("faces")
    assert set(rows.predicted) == {"happiness"} and report["accuracy"] == 0
    assert (report["classes"]["neutral"]["recall"], report["absent"]) == (0, ["happiness"])
    report, rows = measured("faces", "--shared")
    assert list(rows) == ["row", "path", "label", "predicted", "p_neutral", "p_surprise"]
    np.testing.assert_allclose(rows[["p_neutral", "p_surprise"]], 0.5, atol=1e-6)
    assert set(rows.predicted) == {"neutral"} and report["accuracy"] == 0.6
    assert report["shared"] is True and list(report["classes"]) == ["neutral", "surprise"] and report["absent"] == []


def test_shared_classes_get_the_probabilities_renormalised(here: Path) -> None:
    data = folder("faces", neutral=5, surprise=5)
    _, rows = measured("faces", "--shared")
    p = Predictor.load("models").predict(data).probabilities[:, [0, 2]]
    np.testing.assert_allclose(rows[["p_neutral", "p_surprise"]], p / p.sum(1, keepdims=True), atol=1e-6)


def test_labels_are_those_before_noise(here: Path) -> None:
    write_samples(here / "train.parquet", [0, 1, 2, 0])
    table = pq.read_table("train.parquet")
    noisy = table.set_column(1, SAMPLES.field("label"), pa.array([1, 1, 1, 1], pa.int8()))
    pq.write_table(noisy, "train.parquet")
    assert measured("train.parquet")[1].label.tolist() == ["neutral", "happiness", "surprise", "neutral"]


def test_unreadable_images_are_reported_and_recorded(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder("faces", neutral=3)
    Path("faces/neutral/01.png").write_bytes(b"no image")
    report, rows = measured("faces")
    problem = "neutral/01.png: the file is damaged or not an image (PNG, JPEG, BMP or WebP)"
    assert rows.path.tolist() == ["neutral/00.png", "neutral/02.png"] and rows.row.tolist() == [0, 2]
    assert report["left_out"]["unreadable"] == [problem] and report["rows"] == 2
    assert capsys.readouterr().err == f"unreadable images, left out: 1\n  {problem}\n"


def test_images_one_level_deeper_and_of_other_kinds_are_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As CK+ is delivered: SUBJECT/SESSION below each class, and GIFs; only two images lie where they are read."""
    folder("CK", neutral=1, happiness=1)
    for i in range(20):
        deep = Path("CK/neutral/S005/001", f"{i}.png")
        deep.parent.mkdir(parents=True, exist_ok=True)
        deep.write_bytes(b"")
        Path("CK/happiness", f"{i}.gif").write_bytes(b"")
    report, _ = measured("CK")
    lines = [
        "images not read, because they do not lie directly in a folder of a class: 20, in neutral/S005/001 (20)",
        "files not read, because their suffix is not .jpg, .jpeg, .png, .bmp, .webp: 20 .gif, in happiness (20)",
    ]
    assert report["rows"] == 2 and report["left_out"]["not_read"] == lines
    assert capsys.readouterr().err.splitlines() == [f"warning: {line}" for line in lines]


def faces_table(path: str) -> None:
    """What `ingest` writes: rows without a clean label."""
    pq.write_table(pa.table({name: [] for name in FACES.names}, with_info(FACES, TableInfo("tiny", CLASSES))), path)


def test_what_cannot_be_measured_is_an_error_and_writes_nothing(here: Path) -> None:
    folder("others", Happy=2, odd=1)
    folder("bad", neutral=1)
    Path("bad/neutral/00.png").write_bytes(b"")
    Path("empty/neutral").mkdir(parents=True)
    Path("deep/neutral/S005").mkdir(parents=True)
    Path("deep/neutral/S005/a.png").touch()
    faces_table("faces.parquet")
    pq.write_table(pa.table({"x": [1]}), "foreign.parquet")
    write_samples(here / "none.parquet", [])
    for argv, said in {
        ("nowhere",): "nowhere: not found. Name a table of `prepare`, such as data/test.parquet",
        ("empty",): "empty: no images in subfolders. Make one folder of images",
        ("deep",): r"deep: no images in subfolders\..*\n  images not read, .*: 1, in neutral/S005 \(1\)",
        ("bad",): r"no image can be read\. .*\n  neutral/00.png: the file is empty",
        ("faces.parquet",): "faces.parquet: no column clean_label. Name a table of `prepare`",
        ("foreign.parquet",): "foreign.parquet was not written by this pipeline",
        ("none.parquet",): r"none\.parquet: has no rows\. Name a table with images",
        ("others",): r"others: no image has a class of the model, .* neutral, happiness, surprise\. Map .* --map",
        ("others", "--shared"): "others: no image has a class of the model",
        ("others", "--map", "happy=happiness"): "the set has no class 'happy': did you mean 'Happy'",
        ("others", "--map", "Happy=hapiness"): "the model has no class 'hapiness': did you mean 'happiness'",
    }.items():
        with pytest.raises(DataError, match=said):
            main([*argv])
    assert not Path("reports").exists()


def test_a_class_cannot_be_two_others(here: Path) -> None:
    """The last --map would win, and the first be lost without a word."""
    folder("others", Happy=2)
    maps = ("--map", "Happy=happiness", "--map", "Happy=surprise")
    with pytest.raises(CommandError, match=r"Happy cannot be two classes \(got happiness and surprise\)"):
        main(["others", *maps])


@pytest.mark.parametrize("pair", ["happy", "=happiness", "happy="])
def test_a_pair_that_is_none_is_explained(here: Path, pair: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["faces", "--map", pair])
    assert f"{pair!r} is not FROM=TO, such as happy=happiness" in capsys.readouterr().err
