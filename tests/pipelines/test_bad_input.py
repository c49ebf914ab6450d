"""Bad input at each stage: it ends with an error code, one message that says what to do, and no half-written out.

All cases run two at a time, as each spends most of its time on imports.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from tiny_project import ROOT, Finished, Outcome, Project, stage_outs

from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.models.saved_model import load_model, save_model

SIDE = 48  # of FER2013's images
VOTES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
USAGES = ("Training",) * 16 + ("PublicTest",) * 8 + ("PrivateTest",) * 8

Spoil = Callable[[Project], object]
Table = list[list[str]]


@dataclass(frozen=True)
class Case:
    """What is wrong, with which stage, and what the message must say."""

    stage: str
    spoil: Spoil
    says: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


def ferplus(change: Callable[[Table, Table], object]) -> Spoil:
    """Two small files as the official ones, changed before they are written; row 0 of a table is its header."""

    def spoil(project: Project) -> None:
        rng = np.random.default_rng(0)
        pixels: Table = [["emotion", "pixels", "Usage"]]
        votes: Table = [["Usage", "Image name", *VOTES]]
        for i, usage in enumerate(USAGES):
            pixels.append([str(i % 7), " ".join(map(str, rng.integers(0, 256, SIDE * SIDE))), usage])
            votes.append([usage, f"fer{i:07d}.png", *(str(10 * (i % 8 == c)) for c in range(len(VOTES)))])
        change(pixels, votes)
        folder = project / "data/raw/ferplus"
        folder.mkdir()
        for name, table in (("fer2013.csv", pixels), ("fer2013new.csv", votes)):
            if table:
                (folder / name).write_text("\n".join(",".join(row) for row in table) + "\n")
        project.set({"data": {"source": "ferplus"}})

    return spoil


def set_cell(of_votes: bool, row: int, column: int, edit: Callable[[str], str]) -> Spoil:
    """One cell of one of FERPlus' files."""

    def change(pixels: Table, votes: Table) -> None:
        table = votes if of_votes else pixels
        table[row][column] = edit(table[row][column])

    return ferplus(change)


def no_votes(pixels: Table, votes: Table) -> None:
    votes[4][2:] = ["0"] * len(VOTES)


def folder_source(change: Callable[[Path], object]) -> Spoil:
    """Two classes of grey noise in folders, changed before they are read."""

    def spoil(project: Project) -> None:
        root = project / "data/raw/folder"
        noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), np.uint8)
        for split in ("train", "test"):
            for name in ("calm", "cross"):
                (root / split / name).mkdir(parents=True)
                for i in range(3):
                    cv2.imwrite(str(root / split / name / f"{i}.png"), noise + np.uint8(i))
        change(root)
        project.set({"data": {"source": "folder"}})

    return spoil


def cut_off(root: Path) -> None:
    image = root / "train/cross/1.png"
    image.write_bytes(image.read_bytes()[:-200])


def empty_class(root: Path) -> None:
    for image in (root / "train/cross").iterdir():
        image.unlink()


def params(**sections: object) -> Spoil:
    """Parameters as somebody might write them."""
    return lambda project: project.set(sections)


def without_fear_in_train(project: Project) -> None:
    path = project / "data/faces.parquet"
    table = pq.read_table(path)
    fear = json.loads(table.schema.metadata[b"nla"])["classes"].index("fear")
    keep = pc.invert(pc.and_(pc.equal(table["split"], "train"), pc.equal(table["label"], fear)))
    pq.write_table(table.filter(keep), path)


def removed(name: str) -> Spoil:
    return lambda project: (project / name).unlink()


def written(name: str, text: str) -> Spoil:
    return lambda project: (project / name).write_text(text)


def in_turn(*spoils: Spoil) -> Spoil:
    def spoil(project: Project) -> None:
        for each in spoils:
            each(project)

    return spoil


def shortened(name: str) -> Spoil:
    def spoil(project: Project) -> None:
        path = project / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def wider_start(project: Project) -> None:
    """First weights of a network twice as wide, as another project would have saved them."""
    spec = ImageSpec(32, 1, (0.5,), (0.25,))
    backbone = Classifier(Architecture("resnet18", 16, "stride2", 0.0, 8), spec).backbone
    torch.save({"state_dict": backbone.state_dict()}, project / "wider.pth")
    project.set({"model": {"weights": "wider.pth"}})


def wider_model(project: Project) -> None:
    """Weights twice as wide under the card of the network that was trained."""
    weights = project / "models/model.safetensors"
    card = weights.with_suffix(".json").read_text()
    _, description = load_model(weights)
    wide = description | {"architecture": description["architecture"] | {"width": 16}}
    save_model(weights, Classifier.build(wide).backbone.state_dict(), wide)
    weights.with_suffix(".json").write_text(card)


CASES = {
    "params missing": Case("ingest", removed("params.yaml"), ("params.yaml: file not found", "project's root")),
    "params no YAML": Case("ingest", written("params.yaml", "data: [\n"), ("params.yaml: not valid YAML at line",)),
    "unknown section": Case("ingest", params(trian={"lr": 1.0}), ("unknown section 'trian'", "did you mean 'train'?")),
    "unknown key": Case(
        "ingest", params(data={"synthetic": {"trian": 5}}), ("unknown key 'data.synthetic.trian'", "mean 'train'?")
    ),
    "all wrong params at once": Case(
        "ingest",
        params(data={"image_size": "48px", "noise": {"rate": 1.5}}),
        ("data.image_size: ", "got '48px'", "data.noise.rate: ", "got 1.5"),
    ),
    "file missing": Case(
        "ingest",
        ferplus(lambda pixels, votes: votes.clear()),
        ("data/raw/ferplus/fer2013new.csv is missing", "Put fer2013.csv", "docs/datasets.md"),
    ),
    "wrong columns": Case(
        "ingest",
        set_cell(False, 0, 1, lambda _: "pixel"),
        ("fer2013.csv has no column 'pixels'", "it has 'emotion', 'pixel', 'Usage'", "docs/datasets.md"),
    ),
    "row too short": Case(
        "ingest",
        ferplus(lambda pixels, votes: pixels[4].pop()),
        ("fer2013.csv, line 5: 2 instead of 3 values", "Fix or remove them"),
    ),
    "pixel missing": Case(
        "ingest",
        set_cell(False, 4, 1, lambda text: text.rsplit(" ", 1)[0]),
        ("fer2013.csv, line 5: 2303 instead of 2304 pixels", "data.on_bad: quarantine"),
    ),
    "pixel no number": Case(
        "ingest",
        set_cell(False, 4, 1, lambda text: "12x " + text.split(" ", 1)[1]),
        ("fer2013.csv, line 5: pixel 1 is '12x', not a number from 0 to 255", "Fix or remove"),
    ),
    "label 9": Case(
        "ingest",
        set_cell(False, 4, 0, lambda _: "9"),
        ("fer2013.csv, line 5: emotion is '9', not a label from 0 to 6", "Fix or remove"),
    ),
    "votes all zero": Case("ingest", ferplus(no_votes), ("fer2013new.csv, line 5: all votes are zero", "Fix or")),
    "vote no number": Case(
        "ingest",
        set_cell(True, 4, 3, lambda _: "ten"),
        ("fer2013new.csv, line 5: happiness is 'ten'", "votes are whole numbers"),
    ),
    "PNG cut off": Case(
        "ingest", folder_source(cut_off), ("train/cross/1.png: the PNG is cut off", "1 bad rows or files", "quarantine")
    ),
    "class without images": Case(
        "ingest", folder_source(empty_class), ("folder/train has no image of cross", "Add some", "or remove the folder")
    ),
    "faces missing": Case("prepare", removed("data/faces.parquet"), ("data/faces.parquet is missing", "`dvc repro`")),
    "class gone from a split": Case(
        "prepare", without_fear_in_train, ("train has no image of fear", "Add images of it to the source")
    ),
    "noise to no class": Case(
        "prepare",
        params(data={"noise": {"kind": "asymmetric", "rate": 0.2, "mapping": {"fear": "suprise"}}}),
        ("data.noise.mapping: unknown class suprise", "did you mean 'surprise'?"),
    ),
    "audit of one fold": Case("audit", params(audit={"folds": 1}), ("audit.folds: must be 0, for no audit", "got 1")),
    "audit without faces": Case(
        "audit",
        in_turn(removed("data/faces.parquet"), params(audit={"folds": 2})),
        ("faces.parquet is missing", "dvc repro"),
    ),
    "search of nothing": Case(
        "tune",
        params(tune={"num_samples": 4, "space": {"loss": {"lamm": {"uniform": [0, 1]}}}}),
        ("tune.space.loss.lamm", "did you mean 'lam'?"),
    ),
    "search of a lost one": Case(
        "tune",
        params(tune={"from": "lost.yaml"}),
        ("lost.yaml: file not found. Set tune.from", "of an earlier search"),
    ),
    "search for another section": Case(
        "tune",
        in_turn(written("found.yaml", "modle: {width: 64}"), params(tune={"from": "found.yaml"})),
        ("found.yaml: 'modle' cannot be searched", "only loss and train can"),
    ),
    "search of its own result": Case(
        "tune", params(tune={"from": "best.yaml"}), ("tune.from: this stage overwrites best.yaml", "Copy the file")
    ),
    "best.yaml missing": Case("train", removed("best.yaml"), ("best.yaml: file not found", "`dvc repro`")),
    "best.yaml damaged": Case(
        "train", written("best.yaml", "train: {lr"), ("best.yaml: not valid YAML at line 1", "`dvc repro")
    ),
    "rate in words": Case("train", params(train={"lr": "fast"}), ("train.lr: ", "got 'fast'")),
    "train cut off": Case(
        "train", shortened("data/train.parquet"), ("data/train.parquet is not a Parquet file", "dvc repro")
    ),
    "first weights missing": Case(
        "train",
        params(model={"weights": "face.pth"}),
        ("model.weights: file not found", "face.pth", "or null to train from scratch"),
    ),
    "first weights of another architecture": Case(
        "train", wider_start, ("wider.pth does not fit", "the first is conv1.weight", "Set model.name, width and stem")
    ),
    "MLflow server away": Case(
        "train",
        lambda project: None,
        ("MLflow store http://127.0.0.1:9: ", "Check MLFLOW_TRACKING_URI"),
        (("MLFLOW_TRACKING_URI", "http://127.0.0.1:9"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")),
    ),
    "Ray cluster away": Case(
        "train",
        lambda project: None,
        ("no Ray cluster answers at 127.0.0.1:9", "ray start"),
        (("RAY_ADDRESS", "127.0.0.1:9"),),
    ),
    "model damaged": Case(
        "evaluate",
        shortened("models/model.safetensors"),
        ("models/model.safetensors: the file is damaged", "`dvc repro -sf train`"),
    ),
    "model of another architecture": Case(
        "evaluate",
        wider_model,
        ("models/model.safetensors: the weights do not fit", "conv1.weight is (16, 1, 3, 3), not (8, 1, 3, 3)"),
    ),
    "card missing": Case(
        "register", removed("models/model.json"), ("models/model.json: file not found", "`dvc repro -sf train`")
    ),
    "metrics damaged": Case(
        "register", written("reports/metrics.json", "{"), ("reports/metrics.json: not valid JSON",)
    ),
}


@dataclass(frozen=True)
class Ended:
    """A case that has run."""

    project: Project
    outcome: Outcome


@pytest.fixture(scope="module")
def ended(
    prepared: Project, finished: Finished, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[Ended]]]:
    """The chosen cases, under way."""
    above = tmp_path_factory.mktemp("bad")
    chosen = [item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")]

    def run(number: int, name: str) -> Ended:
        case = CASES[name]
        trained = case.stage in ("evaluate", "register")
        project = (finished.project if trained else prepared).copy(above / str(number))
        case.spoil(project)
        return Ended(project, project.try_stage(case.stage, **dict(case.env)))

    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(run, i, name) for i, name in enumerate(CASES) if name in chosen}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_message_and_no_out(name: str, ended: dict[str, Future[Ended]]) -> None:
    case, end = CASES[name], ended[name].result()
    assert_refused(end.outcome, *case.says)
    assert not [out for out in stage_outs(case.stage) if (end.project / out).exists()]
    assert not end.project.unfinished()
    shutil.rmtree(end.project.root)


def assert_refused(outcome: Outcome, *says: str) -> None:
    """An error code, and an error once, that says all of `says`."""
    assert outcome.code == 1, outcome.text
    assert "Traceback" not in outcome.text
    lines = [line for line in outcome.err.splitlines() if "was moved or copied" not in line]  # as it was
    assert lines[0].startswith("error: ") and outcome.err.count("error: ") == 1, outcome.err
    assert not [words for words in says if words not in outcome.err], outcome.err


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_training(prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set({"train": {"lr": 1e30, "schedule": "constant"}, "ray": {"num_workers": 0}})
    outcome = project.try_stage("train")
    assert_refused(outcome, "the training loss is not finite at epoch 1, step 2", "Lower train.lr", "train.grad_clip")
    assert not [out for out in stage_outs("train") if (project / out).exists()]
    assert not project.unfinished()


@pytest.mark.slow
def test_many_bad_rows_are_all_listed_in_a_file_or_left_out_with_a_line(prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    ferplus(lambda pixels, votes: [row.pop() for row in pixels[1:13]])(project)
    outcome = project.try_stage("ingest")
    listing = project.root.resolve() / ".logs/ingest-problems.txt"
    assert_refused(outcome, "ferplus: 12 bad rows", f"and 2 more; all 12 are listed in {listing}")
    assert outcome.err.count("fer2013.csv, line ") == 10
    expected = [f"fer2013.csv, line {line}: 2 instead of 3 values" for line in range(2, 14)]
    assert listing.read_text().splitlines() == expected
    project.set({"data": {"on_bad": "quarantine"}})
    assert "12 rows left out, see reports/ingest.json\n" in project.try_stage("ingest").out
    assert project.read_json("reports/ingest.json")["problems"] == expected


@pytest.mark.slow
def test_dvc_does_not_pass_over_an_unknown_key(prepared: Project, tmp_path: Path) -> None:
    """Stages that know single keys of a section would be up to date whatever else is written there."""
    project = prepared.copy(tmp_path / "project")
    project.set({"data": {"lable_rule": "votes"}})
    outcome = project.try_dvc("repro", "prepare")
    assert outcome.code != 0 and "Traceback" not in outcome.text
    assert "unknown key 'data.lable_rule': did you mean 'label_rule'?" in outcome.text


@pytest.mark.slow
def test_dvc_names_a_source_without_files(prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set({"data": {"source": "rafdb"}})
    outcome = project.try_dvc("repro", "ingest")
    assert outcome.code != 0
    assert "Traceback" not in outcome.text
    says = "failed to reproduce 'ingest': [Errno 2] No such file or directory: '{}/data/raw/rafdb'"
    assert says.format(project.root.resolve()) in outcome.err
    assert f"### `{says.format('...').replace('rafdb', '...')}`" in (ROOT / "docs/troubleshooting.md").read_text()


@pytest.mark.slow
@pytest.mark.thorough
def test_a_stage_that_fails_under_dvc_is_not_taken_for_done(prepared: Project, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set({"data": {"noise": {"rate": 2.0}}})
    for _ in range(2):
        outcome = project.try_dvc("repro", "prepare")
        assert outcome.code != 0 and "data.noise.rate" in outcome.err and "Traceback" not in outcome.text
    project.set({"data": {"noise": {"rate": 0.0}}})
    project.dvc("repro", "prepare")
    assert all((project / out).exists() for out in stage_outs("prepare"))
