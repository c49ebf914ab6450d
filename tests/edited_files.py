"""Random edits of the files that this project reads back, and what reads each of them.

    PYTHONPATH=. python tests/edited_files.py 1000 10000

makes 1,000 edits of each kind, but 10,000 of params.yaml, and prints those that end in anything but one line about the
file. `--only KIND` takes one kind.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from mlflow_parts import CLASSES, random_model, write_samples
from ruamel.yaml import YAML

from nla.commands.export import metadata
from nla.commands.figure import _read as read_figure_table
from nla.commands.labelled_set import open_set
from nla.config.base import SECTIONS, read_params, section
from nla.config.best import read_best, write_best
from nla.config.data import DataConfig
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.config.register import RegisterConfig
from nla.config.tune import TuneConfig
from nla.data.positions_table import PositionsTable, read_positions, write_positions
from nla.data.samples import load_annotations, load_samples
from nla.data.schema import read_info
from nla.errors import NLAError, user_message
from nla.evaluation.weight import position_weight
from nla.io import read_json_as, write_json, write_table
from nla.models.saved_model import read_card
from nla.serving.predictor import Predictor
from nla.study.grid import read_grid
from nla.study.manifest import Manifest
from nla.study.record import PREDICTED, SERIES, Record, read_record, write_record
from nla.study.specs import run_specs
from nla.study.times import read_times
from nla.tracking.dataset import TableDataset
from nla.training.checkpoint import Progress, check_files, read_checkpoint, write_checkpoint
from nla.training.job import training_config
from nla.tuning.space import check_space, first_values
from nla.workflow.runs import RunFolder
from pipelines import evaluate, register
from pipelines.train import searched

ROOT = Path(__file__).parents[1]
PARAMS = "params.yaml"
KEY = re.compile(rf"\b({'|'.join(SECTIONS)})\.\w+")
"""A key of params.yaml, which says the file without naming it."""
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16), np.uint8)
NUMBERS = [-1, 0, 1, 3, 10**12, 10**400, -0.5, 1.5, math.nan, math.inf]
VALUES: list[Any] = [None, True, "", "x", "1", *NUMBERS, [], {}, [1], {"x": 1}]
"""What a value is replaced by."""


@dataclass(frozen=True)
class Kind:
    """A kind of file."""

    name: str
    """Path in a folder."""
    write: Callable[[Path], object]
    """Writes a valid one, and what belongs to it, into the folder."""
    read: Callable[[Path], object]
    """Reads the folder as the project does; what it returns is not used."""


def read_model(folder: Path) -> None:
    predictor = Predictor.load(folder)
    assert np.isfinite(predictor.predict(IMAGES).probabilities).all()
    metadata(read_card(folder / "model.safetensors"), predictor.views)


def write_run(folder: Path) -> None:
    loss = {"name": "nla", "variant": "paper", "options": {}, "lam": 0.5, "true_mean": [0.8, 0.2], "slope": 10.0}
    known = {"mlflow_run_id": "1", "fingerprint": "f", "name": "n", "tags": {"a": "b"}, "facts": {"workers": 1}}
    history = [{"epoch": 1, "valid_accuracy": 0.5, "train_loss": 1.0}, {"epoch": 2, "valid_accuracy": None}]
    write_json(
        folder / "run.json", {**known, "params": {"loss": loss, "train": {"lr": 0.1}}, "history": history}, sealed=True
    )


def read_run(folder: Path) -> None:
    run = evaluate.read_run(folder / "run.json")
    position_weight(run.params["loss"])(np.array([0.5]), np.array([0.25]), 0.5)
    [(row["epoch"] - 0.5, row.get("valid_accuracy")) for row in run.history]


def write_metrics(folder: Path) -> None:
    split = {"accuracy": 0.5, "mean_accuracy": 0.25, "classes": {"joy": {"recall": 1.0}}}
    write_json(folder / "metrics.json", {"protocol": "p", "test": split, "valid": split, "epoch": 1})


def write_state(folder: Path) -> None:
    progress = Progress("f", 4, 1, 1, 0.5, [{"epoch": 1, "valid_accuracy": 0.5}], 0, {"tags": {}})
    write_checkpoint(folder, progress, {"best": {"w": torch.zeros(4)}})


def read_state(folder: Path) -> None:
    check_files(folder)
    read_checkpoint(folder, "f")


def write_positions_table(folder: Path) -> None:
    positions = {moment: np.full((5, 2), 0.5, np.float32) for moment in ("early", "late")}
    write_positions(folder / "positions.parquet", PositionsTable(np.arange(5), positions, {"early": 0, "late": 2}, 3))


def read_table(folder: Path) -> None:
    path = folder / "test.parquet"
    load_samples(path)
    load_annotations(path)
    TableDataset(path, read_info(path))
    list(open_set(path).images())


def write_predictions(folder: Path) -> None:
    table = {"row": [0, 1], "path": ["a", "b"], "label": ["neutral"] * 2, "predicted": ["neutral", "surprise"]}
    p = {f"p_{name}": np.full(2, 1 / 3, np.float32) for name in CLASSES}
    write_table(folder / "predictions.parquet", pa.table({**table, **p}))


def write_study_record(folder: Path) -> None:
    facts = {"device_name": "d", "precision": "fp32", "commit": None, "machine": {}, "versions": {}}
    series = {name: [0.5, 0.75] for name in SERIES}
    predicted = {name: np.array([0, 1], np.uint8) for name in PREDICTED}
    added = {"clean_epoch": 1, "clean_accuracy": [0.5, 0.5], "log_p": {1: np.full((2, 3), -1, np.float16)}}
    known = ("ce", "clean", "symmetric", 0.0, None, 1, "f", 2, 2, 1.5, {"a": 1}, facts, {})
    write_record(folder / "record.parquet", Record(*known, **series, **predicted, **added))


def write_manifest(folder: Path) -> None:
    run = {"method": "ce", "condition": "clean", "seed": 1, "record": "f"}
    trial = {**run, "setting": 0, "values": {"loss": {"name": "ce"}}}
    tuning = {"conditions": ["clean"], "seed": 1, "objective": "accuracy", "trainings": [trial]}
    write_json(folder / "runs.json", {"reference": "ce", "caveats": [], "runs": [run], "tuning": tuning}, sealed=True)


def read_best_file(folder: Path) -> None:
    searched(read_params(ROOT / "params.yaml"), read_best(folder / "best.yaml", "Run `dvc repro`."))


def read_parameters(folder: Path) -> None:
    params = read_params(folder / PARAMS)
    for schema in (DataConfig, EvaluateConfig, RayConfig, RegisterConfig):
        section(schema, params)
    training_config(params)
    space = section(TuneConfig, params).distributions
    check_space(space, params)
    first_values(space, params)


def write_grid(folder: Path) -> None:
    shutil.copy(ROOT / "studies/ferplus/grid.yaml", folder)


def read_grid_file(folder: Path) -> None:
    grid = read_grid(folder / "grid.yaml")
    run_specs(grid, read_params(ROOT / "params.yaml"))


def write_times(folder: Path) -> None:
    method = {"setting": {"loss": {"name": "ce"}}, "step": 0.01, "end": 0.5, "steps": 9}
    method |= {"quartiles": [0.01, 0.02], "measured": 9}
    facts = {"code": "c", "commit": None, "machine": {}, "versions": {}, "device": "cpu", "precision": "fp32"}
    blocks = {"": {"rows": {"clean": 9}, "methods": {"ce": method}}}
    write_json(folder / "time.json", {**facts, "threads": 1, "blocks": blocks}, sealed=True)


KINDS = [
    Kind(PARAMS, lambda folder: shutil.copy(ROOT / PARAMS, folder), read_parameters),
    Kind("grid.yaml", write_grid, read_grid_file),
    Kind("time.json", write_times, lambda folder: read_times(folder / "time.json")),
    Kind("model.safetensors", random_model, read_model),
    Kind("best.safetensors", write_state, read_state),
    Kind("model.json", random_model, read_model),
    Kind("run.json", write_run, read_run),
    Kind("metrics.json", write_metrics, lambda folder: register.read_metrics(folder / "metrics.json")),
    Kind("state.json", write_state, read_state),
    Kind(
        "mlflow.json",
        lambda folder: RunFolder(folder, "f").set_mlflow_run_id("sqlite:///x.db", "1"),
        lambda folder: RunFolder(folder, "f").mlflow_run_id("sqlite:///x.db"),
    ),
    Kind("runs.json", write_manifest, lambda folder: read_json_as(folder / "runs.json", Manifest)),
    Kind(
        "best.yaml",
        lambda folder: write_best(folder / "best.yaml", {"loss": {"lam": 0.5, "name": "nla"}, "train": {"lr": 0.1}}),
        read_best_file,
    ),
    Kind("positions.parquet", write_positions_table, lambda folder: read_positions(folder / "positions.parquet")),
    Kind("test.parquet", lambda folder: write_samples(folder / "test.parquet", [0, 1, 2]), read_table),
    Kind("predictions.parquet", write_predictions, lambda folder: read_figure_table(folder / "predictions.parquet")),
    Kind("record.parquet", write_study_record, lambda folder: read_record(folder / "record.parquet")),
]


def edited(value: Any, rng: random.Random) -> Any:
    """`value` with one change at a random depth: another value, a key more or less, an item more or less."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        key = rng.choice([*value] if isinstance(value, dict) else range(len(value)))
        change = rng.random()
        copy = value.copy()
        if change < 0.15:
            del copy[key]
        elif change < 0.25 and isinstance(copy, dict):
            copy[rng.choice(["x", "", "views", "epoch"])] = rng.choice(VALUES)
        elif change < 0.25:
            copy.append(rng.choice([*VALUES, *copy]))
        else:
            copy[key] = edited(copy[key], rng)
        return copy
    return rng.choice(VALUES)


def edit_bytes(content: bytes, rng: random.Random) -> bytes:
    """`content` cut off, or with one other byte."""
    at = rng.randrange(len(content))
    return content[:at] if rng.random() < 0.3 else content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def edit_table(path: Path, rng: random.Random) -> None:
    """Changes the metadata, a column's values, its type or its presence."""
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata or {})
    if metadata and rng.random() < 0.5:
        key = rng.choice([key for key in metadata if key != b"huggingface"])
        try:
            metadata[key] = json.dumps(edited(json.loads(metadata[key]), rng)).encode()
        except ValueError:
            metadata[key] = edit_bytes(metadata[key], rng)
        table = table.replace_schema_metadata(metadata)
    else:
        index = rng.randrange(table.num_columns)
        name, column = table.column_names[index], table.column(index)
        change = rng.choice(["drop", "null", "text", "number", "value"])
        if change == "drop":
            table = table.remove_column(index)
        else:
            made = {
                "null": [None] * len(column),
                "text": ["x"] * len(column),
                "number": [rng.choice([-1, 7, 10**12, 0.5, math.nan])] * len(column),
                "value": [*column.to_pylist()[:-1], None],
            }[change]
            table = table.set_column(index, name, pa.array(made, column.type if change in ("null", "value") else None))
    pq.write_table(table, path)


def edit(path: Path, rng: random.Random) -> None:
    """Makes one random edit of a file."""
    if path.suffix == ".safetensors" or rng.random() < 0.2:
        path.write_bytes(edit_bytes(path.read_bytes(), rng))
    elif path.suffix == ".parquet":
        edit_table(path, rng)
    elif path.suffix == ".yaml":
        YAML(typ="safe", pure=True).dump(edited(YAML(typ="safe", pure=True).load(path), rng), path)
    else:
        path.write_text(json.dumps(edited(json.loads(path.read_text()), rng)))


def outcome(kind: Kind, path: Path, folder: Path) -> str | None:
    """None if the edited file is read, or refused by one line that names it; else what happened."""
    try:
        kind.read(folder)
    except (NLAError, OSError) as error:
        message = user_message(error)
        is_named = kind.name in message or (kind.name == PARAMS and KEY.search(message))
        is_short = len(message.splitlines()) == 1 or kind.name.endswith(".yaml")  # which shows place, or lists keys
        return (
            None if is_named and is_short and len(message) < 1000 else f"not one line about the file: {message[:300]}"
        )
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:300]}"
    return None


def failures(kind: Kind, edits: int, seed: int, root: Path) -> list[str]:
    """What goes wrong in that many edits of a file of a kind."""
    valid, found = root / "valid", []
    valid.mkdir()
    kind.write(valid)
    assert outcome(kind, valid, valid) is None
    kind.read(valid)  # an edit must not be refused because the valid file is
    for number in range(edits):
        folder = root / str(number)
        shutil.copytree(valid, folder)
        (path,) = folder.rglob(kind.name)
        edit(path, random.Random(f"{kind.name} {seed} {number}"))
        if problem := outcome(kind, path, folder):
            found.append(f"{kind.name}, edit {number}: {problem}")
        shutil.rmtree(folder)
    return found


def main() -> None:
    """Makes the edits that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("edits", type=int, help="of each kind")
    parser.add_argument("params", type=int, nargs="?", help=f"of {PARAMS}, if they are another number")
    parser.add_argument("--only", choices=[kind.name for kind in KINDS])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for kind in KINDS:
        if options.only in (None, kind.name):
            edits = options.params if kind.name == PARAMS and options.params else options.edits
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as root:
                found = failures(kind, edits, options.seed, Path(root))
            minutes = (time.monotonic() - started) / 60
            print(
                f"{kind.name}: {edits:,} edits, {len(found)} failures, {minutes:.1f} minutes",
                *found,
                sep="\n  ",
                flush=True,
            )


if __name__ == "__main__":
    main()
