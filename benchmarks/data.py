"""Cost of data: FERPlus into tables, trees of files into a table, and tables into batches.

    python benchmarks/data.py ferplus       ingest and prepare of the real FERPlus
    python benchmarks/data.py growth        ingest of 10,000 to 300,000 JPEG files; parts of it by DVC and Hugging Face
    python benchmarks/data.py loader        images per second, against DataLoader and Hugging Face datasets
    python benchmarks/data.py mapped        images per second from a mapped file, in the page cache or not

FERPlus needs fer2013.csv and fer2013new.csv in data/raw/ferplus; `growth` and `loader` include Hugging Face's part if
`datasets` is installed, which is not a dependency. Each pass over a set is a separate process, because memory is
measured at its end.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from face_files import write_tree
from hugging_face import embedded
from interleaved import Measurement, compared, interleave, summary
from records import ROOT, measured_here, write_record
from torch.utils.data import DataLoader, Dataset

from nla.data.augment import make_augment
from nla.data.loader import Augment, batches
from nla.data.samples import Samples, mapped

RAW = ROOT / "data/raw"
SIZES = (10_000, 30_000, 100_000, 300_000)
OTHERS_SIZE = 30_000
"""Number of files for DVC and Hugging Face's library."""
ROUNDS = {"ferplus": 4, "growth": 2, "loader": 6, "mapped": 6}
BATCH, SIDE, FILES = 64, 48, 6_000


def main(what: str) -> None:
    """Measures, and writes the record."""
    found = {"ferplus": ferplus, "growth": growth, "loader": loader, "mapped": from_a_file}[what]()
    write_record(f"data-{what}", {"command": f"python benchmarks/data.py {what}"} | found | measured_here())


def ferplus() -> dict[str, Any]:
    """Seconds of both stages, and of reading the same file with Python's csv module."""
    with tempfile.TemporaryDirectory() as folder:
        peaks: list[float] = []

        def pass_over(*steps: str) -> float:
            done = apart("ferplus", RAW / "ferplus", Path(folder), steps)
            peaks.append(done["peak_mib"])
            return done["seconds"]

        things = {
            "ingest": lambda: pass_over("ingest"),
            "prepare": lambda: pass_over("prepare"),
            "plain": lambda: apart("ferplus", RAW / "ferplus", Path(folder), ("plain",))["seconds"],
        }
        turns = interleave(things, ROUNDS["ferplus"])
    result = compared(turns, "plain", "ingest")
    print("ingest", [turn.value for turn in turns["ingest"]], "against the csv module:", summary(result))
    print("prepare", [turn.value for turn in turns["prepare"]], "peak", max(peaks))
    return {"against_csv": result, "prepare": _listed(turns["prepare"]), "peak_mib": max(peaks)}


def growth() -> dict[str, Any]:
    """Seconds and peak memory of `ingest` by number of files."""
    with tempfile.TemporaryDirectory() as folder:
        for rows in SIZES:
            write_tree(Path(folder) / str(rows), rows)
        peaks: dict[int, list[float]] = {rows: [] for rows in SIZES}

        def pass_over(rows: int) -> float:
            done = apart("folder", Path(folder) / str(rows), Path(folder), ("ingest",))
            peaks[rows].append(done["peak_mib"])
            return done["seconds"]

        things = {str(rows): partial(pass_over, rows) for rows in SIZES}
        others = {"dvc": dvc_hashes, "datasets": hugging_face_reads}
        if not importlib.util.find_spec("datasets"):
            del others["datasets"]
        things |= {name: partial(do, Path(folder) / str(OTHERS_SIZE)) for name, do in others.items()}
        turns = interleave(things, ROUNDS["growth"])
    found = {str(rows): {"turns": _listed(turns[str(rows)]), "peak_mib": max(peaks[rows])} for rows in SIZES}
    for rows, row in found.items():
        print(rows, row)
    against = {name: compared(turns, name, str(OTHERS_SIZE)) for name in others}
    for name, result in against.items():
        print(f"{name} / ingest, {OTHERS_SIZE} files: {summary(result)}")
    before = apart("folder", Path(), Path(), ())["peak_mib"]
    return {"rows": found, "memory_before_mib": before, "others_size": OTHERS_SIZE, "against": against}


def dvc_hashes(tree: Path) -> float:
    """Seconds of `dvc add`, which hashes every file, without copying to a cache."""
    with tempfile.TemporaryDirectory() as folder:
        copied = shutil.copytree(tree, Path(folder) / "copy", copy_function=os.link)  # DVC needs it inside its project
        subprocess.run(["dvc", "init", "-q", "--no-scm"], cwd=folder, check=True)
        started = time.perf_counter()
        subprocess.run(["dvc", "add", "-q", "--no-commit", copied.name], cwd=folder, check=True)
        return time.perf_counter() - started


def hugging_face_reads(tree: Path) -> float:
    """Seconds that `datasets` takes to make its table of the files, bytes included."""
    script = Path(__file__).with_name("hugging_face.py")
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, str(script), str(tree), cache]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(done.stdout.splitlines()[-1])


def from_a_file() -> dict[str, Any]:
    """Images per second from memory, from a mapped file in the page cache, and from one that is not."""
    number, side = 20_000, 112
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (number, side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:  # /tmp can be in memory
        path = Path(folder) / "images"
        in_file = mapped(path, images_NHWC.shape, lambda file: np.copyto(file, images_NHWC))
        label_N, row_N = rng.integers(8, size=number), np.arange(number)
        held, lying = (Samples(x, label_N, None, row_N, tuple("abcdefgh"), "noise") for x in (images_NHWC, in_file))

        def forgotten() -> float:
            with path.open("rb") as file:
                in_file._mmap.madvise(mmap.MADV_DONTNEED)  # mapped pages would stay in the cache
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return _rate(_ours(lying, None))

        things = {
            "memory": lambda: _rate(_ours(held, None)),
            "file": lambda: _rate(_ours(lying, None)),
            "forgotten": forgotten,
        }
        turns = interleave(things, ROUNDS["mapped"])
    against = {name: compared(turns, name, "memory") for name in ("file", "forgotten")}
    for name, result in against.items():
        print(f"{name} / memory: {summary(result)}; {[round(turn.value) for turn in turns[name]]} images/s")
    return {"images": number, "image": [side, side, 3], "against": against}


def apart(source: str, root: Path, out: Path, steps: tuple[str, ...]) -> dict[str, float]:
    """A pass in a separate process: seconds without Python's start, and peak memory."""
    command = [sys.executable, str(Path(__file__).with_name("data_pass.py")), source, str(root), str(out), *steps]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def loader() -> dict[str, Any]:
    """Images per second: NLA's thread over decoded tables, against processes over files."""
    augment = make_augment("affine")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_tree(root, FILES)
        images = [(file, file.parent.name) for file in sorted(root.glob("*/*/*.jpg"))]
        samples = _samples(images)
        things: dict[str, Callable[[], float]] = {}
        for name, change in (("plain", None), ("affine", augment)):
            things[f"nla {name}"] = lambda change=change: _rate(_ours(samples, change))
            for processes in (0, 2):
                files = DataLoader(Files(images, change), BATCH, shuffle=True, num_workers=processes, drop_last=True)
                things[f"files {name} {processes}"] = lambda files=files: _rate(len(x) for x, _ in files)
        if importlib.util.find_spec("datasets"):
            things |= _hugging_face(root, augment)
        turns = interleave(things, ROUNDS["loader"])
    results = {}
    for name in things:
        if not name.startswith("nla"):
            results[name] = compared(turns, f"nla {name.split()[1]}", name)
            print(f"nla against {name}: {summary(results[name])}")
    version = importlib.metadata.version("datasets") if importlib.util.find_spec("datasets") else None
    return {"datasets": version, "rates": {name: _listed(turn) for name, turn in turns.items()}, "against": results}


class Files(Dataset):
    """Image files, decoded and augmented one by one."""

    def __init__(self, images: list[tuple[Path, str]], change: Augment | None) -> None:
        self.images, self.change = images, change
        self.labels = {name: i for i, name in enumerate(sorted({label for _, label in images}))}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        path, label = self.images[i]
        return torch.from_numpy(_changed(_read(path), self.change, i)), self.labels[label]


def _hugging_face(root: Path, augment: Augment) -> dict[str, Callable[[], float]]:
    """The same files as a Hugging Face data set, with the bytes in an Arrow table on disk."""
    train = embedded(root, root / "cache")["train"]

    def transformed(rows: dict[str, list[Any]], change: Augment | None) -> dict[str, list[Any]]:
        grey = [np.array(image.convert("L")) for image in rows["image"]]
        fitted = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None] for image in grey]
        return {"x": [torch.from_numpy(_changed(image, change, i)) for i, image in enumerate(fitted)], **rows}

    things: dict[str, Callable[[], float]] = {}
    for name, change in (("plain", None), ("affine", augment)):
        view = train.with_transform(partial(transformed, change=change))
        for processes in (0, 2):
            parts = DataLoader(view, BATCH, shuffle=True, num_workers=processes, drop_last=True, collate_fn=_stacked)
            things[f"datasets {name} {processes}"] = lambda parts=parts: _rate(len(x) for x in parts)
    return things


def _stacked(rows: list[dict[str, Any]]) -> torch.Tensor:
    return torch.stack([row["x"] for row in rows])


def _samples(images: list[tuple[Path, str]]) -> Samples:
    images_NHWC = np.stack([_read(path) for path, _ in images])
    n, classes = len(images), tuple(sorted({label for _, label in images}))
    label_N = np.array([classes.index(label) for _, label in images])
    return Samples(images_NHWC, label_N, None, np.arange(n), classes, "files")


def _ours(samples: Samples, change: Augment | None) -> Iterator[int]:
    for epoch in itertools.count():
        yield from (len(b.label_B) for b in batches(samples, batch_size=BATCH, seed=0, epoch=epoch, augment=change))


def _rate(sizes: Iterator[int], seconds: float = 1.5) -> float:
    """Images per second after the first batch."""
    next(sizes := iter(sizes))
    started, images = time.perf_counter(), 0
    for size in sizes:
        images += size
        if time.perf_counter() - started > seconds:
            break
    return images / (time.perf_counter() - started)


def _read(path: Path) -> np.ndarray:
    """Reads a grey image as [48, 48, 1]."""
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None]


def _changed(image: np.ndarray, change: Augment | None, seed: int) -> np.ndarray:
    return image if change is None else np.ascontiguousarray(change(image, seed))


def _listed(turns: list[Measurement]) -> list[tuple[float, float]]:
    return [(turn.value, turn.others) for turn in turns]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ROUNDS:
        sys.exit(__doc__)
    main(sys.argv[1])
