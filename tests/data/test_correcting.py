"""Corrections in `prepare`: each line does what it says to its rows and to no others, or nothing is done at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from test_prepare import CLASSES, Row, face, labelled, write_faces

from nla.config.data import DataConfig
from nla.data.corrections import Correction, image_name, read_corrections, write_corrections
from nla.data.prepare import prepare
from nla.data.samples import load_samples
from nla.data.schema import SPLITS, corrected, read_info
from nla.errors import DataError
from pipelines.prepare import summary

CALM, GLAD, CONTEMPT = CLASSES


def hashes(folder: Path) -> list[bytes]:
    return pq.read_table(folder / "faces.parquet")["pixels"].to_pylist()


def run(folder: Path, lines: list[Correction], **config: Any) -> tuple[dict[str, Any], dict[int, tuple[str, Row]]]:
    """The report, and split and sample of each face."""
    write_corrections(folder / "c.csv", lines, CLASSES)
    made = folder / "data"
    settings = DataConfig.model_validate({"image_size": 20, **config})
    report = prepare(folder / "faces.parquet", made, settings, corrections=read_corrections(folder / "c.csv"))
    tables = {split: pq.read_table(made / f"{split}.parquet").to_pylist() for split in SPLITS}
    return report, {row["row"]: (split, row) for split, rows in tables.items() for row in rows}


def places(faces: list[Row], split: str, label: str) -> list[int]:
    return [i for i, row in enumerate(faces) if row["split"] == split and CLASSES[row["label"]] == label]


def test_every_row_is_as_its_line_says_and_all_others_as_before(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", faces)
    image = hashes(tmp_path)
    relabelled, dropped, kept = places(faces, "train", CALM)[:3]
    ambiguous, in_valid = places(faces, "train", GLAD)[0], places(faces, "valid", CONTEMPT)[0]
    lines = [
        Correction(image[relabelled], CALM, "relabel", GLAD),
        Correction(image[dropped], CALM, "drop"),
        Correction(image[kept], CALM, "keep"),
        Correction(image[ambiguous], GLAD, "distribution", CONTEMPT, {GLAD: 0.25, CONTEMPT: 0.75}),
        Correction(image[in_valid], CONTEMPT, "relabel", CALM),
    ]
    _, before = run(tmp_path, [])
    report, after = run(tmp_path, lines)
    changed = {relabelled: GLAD, ambiguous: CONTEMPT, in_valid: CALM}
    assert before.keys() - after.keys() == {dropped}
    for place, (split, row) in after.items():
        was_split, was = before[place]
        assert split == was_split and not was["is_corrected"]
        if place in changed:
            label = CLASSES.index(changed[place])
            assert (row["label"], row["clean_label"], row["is_corrected"], row["is_flipped"]) == (
                label,
                label,
                True,
                False,
            )
            assert row["target"] == ([0.0, 0.25, 0.75] if place == ambiguous else None)
            assert row["votes"] == was["votes"] and row["image"] == was["image"]
        else:
            assert row == was
    assert report["corrections"]["splits"] == {
        "train": {"relabel": 1, "distribution": 1, "drop": 1, "keep": 1},
        "valid": {"relabel": 1, "distribution": 0, "drop": 0, "keep": 0},
        "test": {"relabel": 0, "distribution": 0, "drop": 0, "keep": 0},
    }
    assert report["samples"]["train"] == {CALM: 8, GLAD: 10, CONTEMPT: 11}
    printed = "\n".join(summary(report))
    assert "train 1 relabelled, 1 with a distribution, 1 dropped, 1 confirmed; valid 1 relabelled" in printed


def test_a_distribution_is_learnt_and_the_other_rows_keep_their_labels(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", faces)
    (place, *_) = places(faces, "train", CALM)
    run(tmp_path, [Correction(hashes(tmp_path)[place], CALM, "distribution", CALM, {CALM: 0.6, GLAD: 0.4})])
    samples = load_samples(tmp_path / "data/train.parquet")
    assert samples.target_NC is not None
    expected_NC = np.eye(3)[samples.label_N]
    expected_NC[samples.row_N == place] = [0.6, 0.4, 0.0]
    np.testing.assert_allclose(samples.target_NC, expected_NC, atol=1e-6)


def test_a_relabelled_row_learns_its_label_where_others_learn_votes(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", [row | {"label": None} for row in faces])
    (place, *_) = places(faces, "train", CALM)
    _, after = run(tmp_path, [Correction(hashes(tmp_path)[place], CALM, "relabel", CONTEMPT)], label_rule="votes")
    assert after[place][1]["target"] is None and after[place][1]["label"] == CLASSES.index(CONTEMPT)
    others = [row for split, row in after.values() if split == "train" and row["row"] != place]
    assert all(row["target"] == pytest.approx(row["votes"]) for row in others)


@pytest.mark.parametrize("kind", ["symmetric", "pair"])
def test_labels_are_corrected_after_the_noise_and_compared_with_those_before(tmp_path: Path, kind: str) -> None:
    faces = labelled(train=60)
    write_faces(tmp_path / "faces.parquet", faces)
    image, noise = hashes(tmp_path), {"kind": kind, "rate": 0.3}
    first, before = run(tmp_path, [], noise=noise)
    flipped = [place for place, (_, row) in before.items() if row["is_flipped"]]
    right = [place for place, (split, row) in before.items() if split == "train" and not row["is_flipped"]]
    mended, left = flipped[: len(flipped) // 2], flipped[len(flipped) // 2 :]
    spoilt = right[0]
    lines = [
        Correction(image[i], CLASSES[before[i][1]["label"]], "relabel", CLASSES[faces[i]["label"]]) for i in mended
    ]
    wrong = CLASSES[(faces[spoilt]["label"] + 1) % 3]
    lines.append(Correction(image[spoilt], CLASSES[faces[spoilt]["label"]], "relabel", wrong))
    report, after = run(tmp_path, lines, noise=noise)
    assert report["corrections"]["right_again"] == len(mended)
    assert {place for place, (_, row) in after.items() if row["is_flipped"]} == {*left, spoilt}
    assert report["noise"]["flipped"] == len(left) + 1 == first["noise"]["flipped"] - len(mended) + 1
    for place in mended:
        assert after[place][1]["label"] == after[place][1]["clean_label"] == faces[place]["label"]
        assert after[place][1]["votes"] is not None and before[place][1]["votes"] is None
    assert after[spoilt][1]["clean_label"] == faces[spoilt]["label"] and after[spoilt][1]["votes"] is None
    others = before.keys() - {*mended, spoilt}
    assert all(after[place] == before[place] for place in others), "the draw of the noise is the same"


def test_another_draw_of_the_noise_is_refused(tmp_path: Path) -> None:
    faces = labelled(train=60)
    write_faces(tmp_path / "faces.parquet", faces)
    image = hashes(tmp_path)
    _, before = run(tmp_path, [], noise={"rate": 0.3})
    lines = [
        Correction(image[i], CLASSES[row["label"]], "relabel", CLASSES[row["clean_label"]])
        for i, (_, row) in before.items()
        if row["is_flipped"]
    ]
    with pytest.raises(DataError) as raised:
        run(tmp_path, lines, noise={"rate": 0.0})
    _, *named = str(raised.value).splitlines()
    assert len(named) == len(lines) == 18
    assert named[0] == f"  c.csv, line 2: the image is not labelled {lines[0].old} but {lines[0].new}"
    (tmp_path / "data/train.parquet").unlink()
    with pytest.raises(DataError, match="before the noise"):
        run(tmp_path, [Correction(line.image, line.new or "", "drop") for line in lines], noise={"rate": 0.3})
    assert not (tmp_path / "data/train.parquet").exists(), "nothing is half-written"


def test_identical_images_of_one_label_are_corrected_together(tmp_path: Path) -> None:
    faces = [face(split, i % 3) for split in SPLITS for i in range(9)]
    twins = (("train", 0), ("train", 0), ("train", 1), ("valid", 0), ("test", 0))
    faces += [face(split, label, picture=1) for split, label in twins]
    write_faces(tmp_path / "faces.parquet", faces)
    image = hashes(tmp_path)[-1]
    lines = [Correction(image, CALM, "relabel", CONTEMPT), Correction(image, GLAD, "drop")]
    report, after = run(tmp_path, lines)
    labels = {place: CLASSES[row["label"]] for place, (_, row) in after.items() if place >= 27}
    assert labels == {27: CONTEMPT, 28: CONTEMPT, 30: CONTEMPT, 31: CALM}, "test stays"
    assert report["corrections"]["splits"]["train"] == {"relabel": 2, "distribution": 0, "drop": 1, "keep": 0}
    report, after = run(tmp_path, lines, correct_test=True)
    assert CLASSES[after[31][1]["label"]] == CONTEMPT and after[31][1]["is_corrected"]


def test_test_is_corrected_only_when_asked_and_says_so(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", faces)
    place = places(faces, "test", GLAD)[0]
    lines = [Correction(hashes(tmp_path)[place], GLAD, "relabel", CALM)]
    with pytest.raises(DataError, match=r"line 2: the image is in test\. .* data\.correct_test: true"):
        run(tmp_path, lines)
    report, after = run(tmp_path, lines, correct_test=True)
    assert CLASSES[after[place][1]["clean_label"]] == CALM, "it is measured by the corrected label"
    assert report["clean"].endswith("1 rows of test were corrected by hand (data.correct_test)")
    assert corrected(tmp_path / "data/test.parquet").changed == 1
    assert corrected(tmp_path / "data/train.parquet").changed == 0
    made = read_info(tmp_path / "data/test.parquet").preparation
    assert made is not None and made.correct_test
    assert made.corrections == read_corrections(tmp_path / "c.csv").sha256


def test_a_table_without_corrections_knows_none(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces.parquet", labelled())
    report, _ = run(tmp_path, [])
    made = read_info(tmp_path / "data/train.parquet").preparation
    assert made is not None and made.corrections is None and report["corrections"] is None
    assert "corrected" not in read_info(tmp_path / "data/train.parquet").extra
    assert corrected(tmp_path / "data/train.parquet").changed == 0


def test_images_that_no_split_has_are_counted(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", faces)
    lines = [Correction(hashes(tmp_path)[i], CALM, "relabel", GLAD) for i in places(faces, "train", CALM)]
    report, after = run(tmp_path, lines[:4], train_rows=15)
    used = sum(row["is_corrected"] for _, row in after.values())
    done = report["corrections"]
    assert done["splits"]["train"]["relabel"] == used < 4 and done["not_in_the_splits"] == 4 - used
    assert "lines concern images of no split" in "\n".join(summary(report))


def test_all_that_does_not_fit_is_named_and_nothing_is_applied(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", faces)
    image, place = hashes(tmp_path), places(faces, "train", CALM)[0]
    text = [
        "image,old,action,new,p_glat,p_glad",
        f"{image_name(image[place])},calm,relabel,glad,,",
        f"{image_name(bytes(16))},calm,drop,,,",
        f"{image_name(image[place])},cal,drop,,,",
        f"{image_name(image[place])},glad,drop,,,",
        f"{image_name(image[places(faces, 'train', GLAD)[0]])},glad,distribution,,0.5,0.5",
        "nonsense,calm,drop,,,",
        f"{image_name(image[place])},calm,keep,,,",
    ]
    (tmp_path / "c.csv").write_text("\n".join(text))
    with pytest.raises(DataError) as raised:
        prepare(
            tmp_path / "faces.parquet",
            tmp_path / "data",
            DataConfig(image_size=20),
            corrections=read_corrections(tmp_path / "c.csv"),
        )
    first, *named = str(raised.value).splitlines()
    assert first.startswith("data.corrections: 6 lines of ") and first.endswith("Nothing was applied.")
    assert named == [
        "  c.csv, line 3: no image of data/faces.parquet has this hash",
        "  c.csv, line 4: unknown label 'cal': did you mean 'calm'?",
        "  c.csv, line 5: the image is not labelled glad but calm",
        "  c.csv, line 6: unknown label 'glat': did you mean 'glad'?",
        "  c.csv, line 7: image: must be blake2b: and 32 hexadecimal digits (got 'nonsense')",
        "  c.csv, line 8: the same image and label as in line 2. Keep one of the two lines",
    ]
    assert not list((tmp_path / "data").glob("*"))


def test_many_bad_lines_are_in_a_file(tmp_path: Path) -> None:
    write_faces(tmp_path / "faces.parquet", labelled())
    write_corrections(tmp_path / "c.csv", [Correction(bytes([i] * 16), CALM, "drop") for i in range(40)], CLASSES)
    listing = tmp_path / "logs/all.txt"
    with pytest.raises(DataError, match="and 30 more; all 40 are listed in"):
        prepare(
            tmp_path / "faces.parquet",
            tmp_path / "data",
            DataConfig(image_size=20),
            corrections=read_corrections(tmp_path / "c.csv"),
            listing=listing,
        )
    assert listing.read_text().splitlines() == [
        f"c.csv, line {line}: no image of data/faces.parquet has this hash" for line in range(2, 42)
    ]


def test_a_class_cannot_be_corrected_away(tmp_path: Path) -> None:
    faces = labelled()
    write_faces(tmp_path / "faces.parquet", faces)
    image = hashes(tmp_path)
    every = [Correction(image[i], CALM, "relabel", GLAD) for i in places(faces, "train", CALM)]
    with pytest.raises(DataError, match=r"data\.corrections: no training label of calm is left"):
        run(tmp_path, every)
    every = [Correction(image[i], label, "drop") for label in CLASSES for i in places(faces, "valid", label)]
    with pytest.raises(DataError, match=r"data\.corrections: no image of valid is left"):
        run(tmp_path, every)
