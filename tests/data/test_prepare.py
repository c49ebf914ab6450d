from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import mannwhitneyu

from nla.config.data import INGEST_KEYS, DataConfig
from nla.data import prepare as module
from nla.data.images import decode, encode_png, fit, pixel_hash
from nla.data.prepare import prepare
from nla.data.schema import FACES, SAMPLES, SPLITS, TableInfo, read_info, with_info
from nla.errors import ConfigError, DataError
from pipelines.prepare import summary

CLASSES = ("calm", "glad", "contempt")
VOTES = (*CLASSES, "unknown")
Row = dict[str, Any]


def face(split: str, label: int | None = None, votes: list[int] | None = None, picture: int | None = None) -> Row:
    return {"split": split, "label": label, "votes": votes, "picture": picture}


def write_faces(path: Path, faces: list[Row], side: int = 20, votes: tuple[str, ...] = VOTES) -> list[np.ndarray]:
    """A faces table in small row groups; faces of the same `picture` are identical. Returns their pixels."""
    rng = np.random.default_rng(0)
    pixels = [
        (np.random.default_rng((1, row["picture"])) if row["picture"] is not None else rng).integers(
            0, 256, (side, side), dtype=np.uint8
        )
        for row in faces
    ]
    rows = [
        {
            "row": i,
            "split": row["split"],
            "label": row["label"],
            "votes": row["votes"],
            "posterior": row.get("posterior"),
            "pixels": pixel_hash(image),
            "image": {"bytes": row.get("bytes") or encode_png(image), "path": f"{i}.png"},
        }
        for i, (row, image) in enumerate(zip(faces, pixels, strict=True))
    ]
    table = pa.Table.from_pylist(rows, schema=with_info(FACES, TableInfo("tiny", CLASSES, votes)))
    pq.write_table(table, path, row_group_size=7)
    return pixels


def labelled(train: int = 30, valid: int = 6, test: int = 6) -> list[Row]:
    """Faces of three classes in turn, each with ten votes for its class and the next; splits mixed in the table."""
    faces = [
        face(split, i % 3, [6 if c == i % 3 else 4 if c == (i + 1) % 3 else 0 for c in range(3)] + [0])
        for split, n in (("test", test), ("train", train), ("valid", valid))
        for i in range(n)
    ]
    return [faces[i] for i in np.random.default_rng(3).permutation(len(faces))]


def run(tmp_path: Path, faces: list[Row], **config: Any) -> tuple[dict[str, Any], dict[str, list[Row]]]:
    """The report, and the rows of the three tables."""
    write_faces(tmp_path / "faces.parquet", faces)
    settings = {"image_size": 20, **config}
    report = prepare(tmp_path / "faces.parquet", tmp_path / "data", DataConfig.model_validate(settings))
    return report, {split: pq.read_table(tmp_path / "data" / f"{split}.parquet").to_pylist() for split in SPLITS}


@pytest.mark.parametrize("rule", ["majority", "argmax", "votes"])
def test_a_source_without_votes_has_its_own_labels(tmp_path: Path, rule: str) -> None:
    faces = [face(split, i % 3) for split, n in (("train", 30), ("test", 6)) for i in range(n)]
    write_faces(tmp_path / "faces.parquet", faces, votes=())
    prepare(tmp_path / "faces.parquet", tmp_path, DataConfig(image_size=20, label_rule=rule))  # type: ignore[arg-type]
    tables = {split: pq.read_table(tmp_path / f"{split}.parquet").to_pylist() for split in SPLITS}
    assert [len(rows) for rows in tables.values()] == [27, 3, 6]
    for rows in tables.values():
        assert all(row["label"] == faces[row["row"]]["label"] for row in rows)
        assert all(row["votes"] is row["target"] is None for row in rows)


def test_a_validation_split_drawn_from_train_has_majority_labels_as_test_has(tmp_path: Path) -> None:
    """Under `votes` too: four of ten votes make a label to train on, and none to measure by."""
    votes = ([4, 3, 3, 0], [1, 8, 1, 0], [0, 1, 9, 0])
    faces = [face(split, votes=votes[i % 3]) for split in ("train", "test") for i in range(90)]
    report, samples = run(tmp_path, faces, label_rule="votes", valid_fraction=0.2)
    labels = {split: [CLASSES[row["label"]] for row in rows] for split, rows in samples.items()}
    assert sorted(labels["test"]) == ["contempt"] * 30 + ["glad"] * 30
    assert sorted(labels["valid"]) == ["contempt"] * 6 + ["glad"] * 6, "and not 6 of calm"
    assert sorted(labels["train"]) == ["calm"] * 24 + ["contempt"] * 24 + ["glad"] * 24
    assert report["samples"]["valid"] == {"calm": 0, "glad": 6, "contempt": 6}


def test_samples_keep_order_label_and_bytes_and_the_tables_tell_what_they_are(tmp_path: Path) -> None:
    faces = labelled()
    report, samples = run(tmp_path, faces)
    for split in SPLITS:
        assert [row["row"] for row in samples[split]] == [i for i, row in enumerate(faces) if row["split"] == split]
        for row in samples[split]:
            assert row["label"] == row["clean_label"] == faces[row["row"]]["label"]
            assert not row["is_flipped"]
            assert row["target"] is None
            assert row["votes"] == pytest.approx([n / 10 for n in faces[row["row"]]["votes"][:3]])
            assert row["image"]["path"] == f"{row['row']}.png"
    stored = pq.read_table(tmp_path / "faces.parquet")["image"].to_pylist()
    assert all(row["image"] == stored[row["row"]] for rows in samples.values() for row in rows)
    path = tmp_path / "data" / "train.parquet"
    info = read_info(path)
    assert (info.source, info.classes, info.votes) == ("tiny", CLASSES, CLASSES)
    assert info.extra is not None
    assert (info.extra["image_size"], info.extra["channels"], info.extra["faces_rows"]) == (20, 1, 42)
    assert pq.read_schema(path).equals(SAMPLES)
    assert report["samples"]["train"] == {"calm": 10, "glad": 10, "contempt": 10}
    assert "validation and test are clean" in report["clean"]
    assert json.loads(json.dumps(report)) == report


def test_the_tables_know_how_they_were_prepared(tmp_path: Path) -> None:
    noise = {"kind": "asymmetric", "rate": 0.25, "exact": False, "mapping": {"calm": "glad"}, "valid": True}
    chosen = {"image_size": 24, "color": "rgb", "label_rule": "argmax", "contempt": False, "valid_fraction": 0.2}
    chosen |= {"drop_leaks": True, "seed": 5, "imbalance_factor": 2.0, "train_rows": None, "noise": noise}
    chosen |= {"corrections": "data/corrections.csv", "correct_test": False}
    assert chosen.keys() == DataConfig.model_fields.keys() - INGEST_KEYS, "every parameter of the stage"
    run(tmp_path, labelled(), **chosen)
    for split in SPLITS:
        preparation = read_info(tmp_path / "data" / f"{split}.parquet").preparation
        assert preparation is not None
        assert preparation.model_dump() == chosen | {"corrections": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"classes": "calm"}, "classes"),
        ({"preparation": {"image_size": 48}}, "preparation.color"),
        ({"more": 1}, "more"),
    ],
)
def test_damaged_metadata_are_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    path = tmp_path / "train.parquet"
    facts = {"source": "tiny", "classes": ["calm"], "votes": [], "extra": {}} | change
    pq.write_table(SAMPLES.with_metadata({"nla": json.dumps(facts)}).empty_table(), path)
    with pytest.raises(DataError, match=rf"train\.parquet: metadata: {field}: .*dvc repro") as raised:
        read_info(path)
    assert "\n" not in str(raised.value)


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    config = {"noise": {"rate": 0.3}, "imbalance_factor": 3.0}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run(tmp_path / name, labelled(), **config)
    for split in SPLITS:
        a, b = ((tmp_path / name / "data" / f"{split}.parquet").read_bytes() for name in ("a", "b"))
        assert a == b


def test_images_are_brought_to_size_and_colour_without_loss(tmp_path: Path) -> None:
    pixels = write_faces(tmp_path / "faces.parquet", labelled())
    prepare(tmp_path / "faces.parquet", tmp_path, DataConfig(image_size=16, color="rgb"))
    for row in pq.read_table(tmp_path / "test.parquet").to_pylist():
        np.testing.assert_array_equal(decode(row["image"]["bytes"]), fit(pixels[row["row"]], 16, "rgb"))


def test_a_png_of_the_right_size_but_another_colour_is_converted(tmp_path: Path) -> None:
    faces = labelled()
    coloured = np.random.default_rng(5).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    faces[0] |= {"bytes": encode_png(coloured)}
    _, samples = run(tmp_path, faces)
    image = next(row["image"]["bytes"] for rows in samples.values() for row in rows if row["row"] == 0)
    np.testing.assert_array_equal(decode(image), fit(coloured, 20, "grey"))


def test_noise_is_only_in_train_and_a_flipped_row_does_not_reveal_its_class(tmp_path: Path) -> None:
    faces = [row | {"posterior": [0.2, 0.3, 0.5]} for row in labelled(train=60)]
    config = {"label_rule": "votes", "noise": {"kind": "symmetric", "rate": 0.3}}
    report, samples = run(tmp_path, faces, **config)
    flipped = [row for row in samples["train"] if row["is_flipped"]]
    assert len(flipped) == 18 == report["noise"]["flipped"]
    for split in SPLITS:
        for row in samples[split]:
            own = faces[row["row"]]
            assert row["clean_label"] == own["label"]
            assert row["is_flipped"] == (row["label"] != own["label"])
            if row["is_flipped"]:
                assert split == "train"
                assert row["votes"] is row["posterior"] is None
                expected = [n / 10 for n in own["votes"][:3]]
                true, given = row["clean_label"], row["label"]
                expected[true], expected[given] = expected[given], expected[true]
                assert row["target"] == pytest.approx(expected)
            else:
                assert row["votes"] == row["target"] == pytest.approx([n / 10 for n in own["votes"][:3]])
                assert row["posterior"] == pytest.approx([0.2, 0.3, 0.5])
    noise = report["noise"]
    assert noise["measured_rate"] == pytest.approx(0.3)
    for clean, becomes in noise["transition_matrix"].items():
        rows = [row for row in samples["train"] if CLASSES[row["clean_label"]] == clean]
        for noisy, share in becomes.items():
            assert share == pytest.approx(sum(CLASSES[row["label"]] == noisy for row in rows) / len(rows))
    assert report["samples"]["train"] == {"calm": 20, "glad": 20, "contempt": 20}
    assert sum(noise["train_labels"].values()) == 60


def test_targets_do_not_tell_which_labels_were_flipped(tmp_path: Path) -> None:
    """From the highest share alone, and from the spread of the shares, a detector of flips is no better than chance."""
    rng = np.random.default_rng(2)
    faces = [
        face(split, None, [*rng.multinomial(10, rng.dirichlet([0.5] * 3)).tolist(), 0])
        for split, n in (("train", 3000), ("test", 90))
        for _ in range(n)
    ]
    _, samples = run(tmp_path, faces, label_rule="votes", noise={"rate": 0.3})
    target_NC = np.array([row["target"] for row in samples["train"]])
    is_flipped_N = np.array([row["is_flipped"] for row in samples["train"]])
    for clue_N in (target_NC.max(axis=1), np.square(target_NC).sum(axis=1)):
        area = mannwhitneyu(clue_N[is_flipped_N], clue_N[~is_flipped_N]).statistic
        # four standard deviations of an area of .5: sqrt(1 / (12 n) + 1 / (12 m)), about .0115 here
        assert area / is_flipped_N.sum() / (~is_flipped_N).sum() == pytest.approx(0.5, abs=0.046)
    label_N = np.array([row["label"] for row in samples["train"]])
    given_N = target_NC[np.arange(len(label_N)), label_N]
    np.testing.assert_array_equal(given_N, target_NC.max(axis=1), "the given class leads in its target")


def test_noise_of_single_labels_has_no_targets(tmp_path: Path) -> None:
    _, samples = run(tmp_path, labelled(), label_rule="argmax", noise={"rate": 0.3})
    assert all(row["target"] is None for rows in samples.values() for row in rows)
    assert sum(row["is_flipped"] for row in samples["train"]) == 9


def test_asymmetric_noise_goes_by_class_names(tmp_path: Path) -> None:
    config = {"noise": {"kind": "asymmetric", "rate": 0.5, "mapping": {"calm": "contempt"}}}
    _, samples = run(tmp_path, labelled(), **config)
    flips = [(row["clean_label"], row["label"]) for row in samples["train"] if row["is_flipped"]]
    assert flips == [(0, 2)] * 5
    with pytest.raises(ConfigError, match="unknown class glda: did you mean 'glad'"):
        run(tmp_path, labelled(), noise={"kind": "asymmetric", "rate": 0.5, "mapping": {"calm": "glda"}})


def test_imbalance_comes_before_noise_and_spares_valid_and_test(tmp_path: Path) -> None:
    report, samples = run(tmp_path, labelled(train=90), imbalance_factor=4.0, noise={"rate": 0.2})
    assert sorted(report["samples"]["train"].values()) == [8, 15, 30]
    assert report["samples"]["valid"] == report["samples"]["test"] == {"calm": 2, "glad": 2, "contempt": 2}
    assert report["imbalance"] == {"factor": 4.0, "measured": 30 / 8, "dropped": 37}
    assert sum(row["is_flipped"] for row in samples["train"]) == round(0.2 * 53)


def test_the_imbalance_does_not_depend_on_the_noise(tmp_path: Path) -> None:
    rows = [
        [row["row"] for row in run(tmp_path, labelled(), imbalance_factor=2.0, noise={"rate": rate})[1]["train"]]
        for rate in (0.0, 0.4)
    ]
    assert rows[0] == rows[1]


def test_rows_left_out_by_the_rule_are_counted_by_reason(tmp_path: Path) -> None:
    faces = [*labelled(), face("train", None, [3, 3, 0, 4]), face("test", None, [0, 0, 1, 9])]
    faces += [face("valid", None, [0, 9, 0, 1])]
    report, samples = run(tmp_path, faces)
    assert report["dropped"] == {"train": {"no majority": 1}, "valid": {}, "test": {"majority for no emotion": 1}}
    assert report["faces"] == {"train": 31, "valid": 7, "test": 7}
    assert samples["valid"][-1]["label"] == 1
    assert [len(rows) for rows in samples.values()] == [30, 7, 6]


def test_without_contempt_the_class_its_rows_and_its_share_of_the_posterior_are_gone(tmp_path: Path) -> None:
    faces = [row | {"posterior": [0.2, 0.3, 0.5]} for row in labelled()]
    report, samples = run(tmp_path, faces, contempt=False)
    assert report["classes"] == ["calm", "glad"] == list(read_info(tmp_path / "data" / "test.parquet").classes)
    assert report["dropped"]["train"] == {"contempt": 10}
    for row in samples["train"]:
        assert row["posterior"] == pytest.approx([0.4, 0.6])
        assert row["votes"] == pytest.approx([0.6, 0.4] if row["label"] == 0 else [0, 1])


def test_leaks_are_reported_and_dropped_on_demand_but_never_from_test(tmp_path: Path) -> None:
    faces = labelled()
    places = {split: [i for i, row in enumerate(faces) if row["split"] == split] for split in SPLITS}
    shared = [(places["train"][0], places["valid"][0]), (places["train"][1], places["test"][0])]
    shared += [(places["valid"][1], places["test"][1]), (places["train"][2], places["train"][3])]
    for picture, rows in enumerate(shared):
        for row in rows:
            faces[row]["picture"] = picture
    report, samples = run(tmp_path, faces)
    counts = {"valid_in_train": 1, "test_in_train": 1, "test_in_valid": 1}
    assert report["leaks"] == counts | {"dropped": {"train": 0, "valid": 0, "test": 0}}
    assert [len(samples[split]) for split in SPLITS] == [30, 6, 6]
    report, samples = run(tmp_path, faces, drop_leaks=True)
    assert report["leaks"] == counts | {"dropped": {"train": 2, "valid": 1, "test": 0}}
    assert {row["row"] for row in samples["train"]} == set(places["train"][2:])
    assert {row["row"] for row in samples["valid"]} == set(places["valid"]) - {places["valid"][1]}
    assert {row["row"] for row in samples["test"]} == set(places["test"])


def test_two_lines_summarise_what_became_of_the_rows(tmp_path: Path) -> None:
    report, _ = run(tmp_path, labelled())
    assert list(summary(report)) == [
        "rows: train 30, valid 6, test 6; left out: none; identical images of labelled rows: none",
        "synthetic label noise in train: none; validation and test are clean",
    ]
    faces = [*labelled(train=90), face("train", None, [3, 3, 0, 4])]
    twins = [next(i for i, row in enumerate(faces) if row["split"] == split) for split in ("train", "test")]
    for i in twins:
        faces[i]["picture"] = 1
    report, samples = run(tmp_path, faces, imbalance_factor=4.0, drop_leaks=True, noise={"rate": 0.2, "kind": "pair"})
    first, second = summary(report)
    kept, flipped = len(samples["train"]), sum(row["is_flipped"] for row in samples["train"])
    left_out = f"1 by label rule majority, 1 as leaks, {89 - kept} for the imbalance"
    assert first == (
        f"rows: train {kept}, valid 6, test 6; left out: {left_out}; identical images of labelled rows: 1 test in train"
    )
    share = f"{flipped} of {kept} ({flipped / kept:.2%}), pair"
    assert second == f"synthetic label noise in train: {share}; validation and test are clean"


def test_a_missing_validation_split_is_taken_from_train(tmp_path: Path) -> None:
    faces = labelled(train=60, valid=0)
    twins = [i for i, row in enumerate(faces) if row["split"] == "train"][:2]
    for i in twins:
        faces[i] |= {"picture": 1, "label": 0}
    report, samples = run(tmp_path, faces, valid_fraction=0.2, noise={"rate": 0.5})
    assert {row["row"] for split in ("train", "valid") for row in samples[split]} == {
        i for i, row in enumerate(faces) if row["split"] == "train"
    }
    assert all(abs(n - 4) <= 1 for n in report["samples"]["valid"].values())
    assert sum(row["row"] in twins for row in samples["valid"]) in (0, 2)
    assert not any(row["is_flipped"] for row in samples["valid"])
    assert report["validation"].startswith("0.2 of every class")


def without_contempt(*splits: str) -> list[dict[str, Any]]:
    return [row | {"label": 0} if row["split"] in splits and row["label"] == 2 else row for row in labelled()]


def test_a_class_that_train_lacks_is_an_error_that_names_it_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train has no image of contempt\. .*dvc repro"):
        run(tmp_path, without_contempt("train"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_class_that_is_never_measured_is_reported(tmp_path: Path, split: str) -> None:
    report, samples = run(tmp_path, without_contempt(split))
    assert report["absent"] == {name: ["contempt"] if name == split else [] for name in SPLITS}
    assert 2 not in {row["label"] for row in samples[split]}


def test_noise_that_empties_a_class_is_an_error(tmp_path: Path) -> None:
    config = {"noise": {"kind": "asymmetric", "rate": 0.99, "mapping": {"calm": "glad"}}}
    with pytest.raises(DataError, match=r"no training label of calm remains .*Lower"):
        run(tmp_path, labelled(), **config)


def test_a_failure_half_way_leaves_the_old_tables_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, labelled())
    before = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    monkeypatch.setattr(module, "BATCH_ROWS", 8)
    broken = labelled()
    broken[-1] |= {"bytes": b"no image"}
    with pytest.raises(DataError, match=r"faces\.parquet: row 41: image: .* not an image .*dvc repro -f ingest"):
        run(tmp_path, broken, image_size=16)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


def test_progress_counts_up_to_all_faces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "faces.parquet", labelled())
    monkeypatch.setattr(module, "BATCH_ROWS", 10)
    seen: list[tuple[int, int]] = []
    prepare(tmp_path / "faces.parquet", tmp_path, DataConfig(image_size=20), lambda *at: seen.append(at))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (42, 42)


def test_row_groups_are_full_but_for_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "faces.parquet", labelled())
    monkeypatch.setattr(module, "GROUP_ROWS", 8)
    monkeypatch.setattr(module, "BATCH_ROWS", 5)
    prepare(tmp_path / "faces.parquet", tmp_path, DataConfig(image_size=20))
    groups = pq.ParquetFile(tmp_path / "train.parquet").metadata
    assert [groups.row_group(i).num_rows for i in range(groups.num_row_groups)] == [8, 8, 8, 6]
    rows = pq.read_table(tmp_path / "train.parquet")["row"].to_pylist()
    assert rows == sorted(rows)
    assert len(set(rows)) == 30


def test_large_images_close_a_row_group_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_faces(tmp_path / "faces.parquet", labelled())
    monkeypatch.setattr(module, "GROUP_BYTES", 1)
    monkeypatch.setattr(module, "BATCH_ROWS", 21)
    prepare(tmp_path / "faces.parquet", tmp_path, DataConfig(image_size=20))
    table = pq.ParquetFile(tmp_path / "train.parquet")
    assert table.num_row_groups > 1
    assert table.metadata.num_rows == 30


def test_ferplus_by_the_official_rule(tmp_path: Path, ferplus_dir: Path) -> None:
    """The real votes and splits, with small stand-ins for the faces."""
    with (ferplus_dir / "fer2013new.csv").open(newline="") as file:
        table = list(csv.reader(file))
    classes, votes = tuple(table[0][2:10]), tuple(table[0][2:])
    split = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
    grey = encode_png(np.zeros((16, 16), np.uint8))
    rows = [
        {
            "row": i,
            "split": split[row[0]],
            "votes": [int(n) for n in row[2:]],
            "pixels": i.to_bytes(16, "big"),
            "image": {"bytes": grey, "path": row[1]},
        }
        for i, row in enumerate(table[1:])
    ]
    schema = with_info(FACES, TableInfo("ferplus", classes, votes))
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "faces.parquet")
    report = prepare(tmp_path / "faces.parquet", tmp_path, DataConfig(image_size=16, noise={"rate": 0.3}))
    assert list(report["samples"]["train"].values()) == [8740, 7287, 3149, 3014, 2100, 119, 532, 119]
    assert list(report["samples"]["test"].values()) == [1090, 893, 396, 384, 273, 18, 83, 16]
    assert pq.read_metadata(tmp_path / "valid.parquet").num_rows == 3199
    assert report["noise"]["flipped"] == round(0.3 * 25060)
