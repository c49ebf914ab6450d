"""Growth of video/: features and sequence training by the number of frames, and a film of face crops by its length.

    python benchmarks/video.py              10,000 and 100,000 frames, films of 1 and 10 minutes; writes the record
    python benchmarks/video.py small        4,000 and 8,000 frames, films of 6 and 12 seconds; writes no record

Each stage and each film is a process of its own, whose peak memory the system tells at its end. The frame model is
untrained: neither time nor memory depend on its weights. The frames are drawn clips by the parameters of
video/params.yaml, of 80 frames each, an eighth of them in validation and another in test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from records import ROOT, conditions, measured_here, write_record
from ruamel.yaml import YAML

from nla.config.base import merge, section
from nla.config.model import ModelConfig
from nla.data.images import decode
from nla.data.schema import read_info
from nla.errors import NLAError
from nla.io import read_batches
from nla.markdown import row
from nla.models.base import Architecture, ImageSpec
from nla.models.classifier import Classifier
from nla.models.saved_model import WEIGHTS, save_model

RECORD = "video"
SIZES, MINUTES = (10_000, 100_000), (1.0, 10.0)
SMALL_SIZES, SMALL_MINUTES = (4_000, 8_000), (0.1, 0.2)
VIDEO_FRAMES, RATE = 80, 25.0
FACES = 1_000
"""Different frames of a film."""
EPOCHS = 3
STAGES = ("features", "sequence")
SCRIPTS = {"clips": "video_clips", "prepare": "video_prepare", "features": "video_features", "sequence": "video_train"}


class Run(NamedTuple):
    """A process that has ended."""

    seconds: float
    peak_mib: float


def main(is_small: bool) -> None:
    """Measures, prints, and writes the record unless it is small."""
    sizes, minutes = (SMALL_SIZES, SMALL_MINUTES) if is_small else (SIZES, MINUTES)
    record: dict[str, Any] = {"command": "python benchmarks/video.py", "epochs": EPOCHS, "stages": {}, "films": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            project = Path(folder, str(size))
            make_project(project, size)
            record["stages"][str(size)] = {stage: run_stage(project, stage)._asdict() for stage in STAGES}
        for length in minutes:
            record["films"][f"{length:g}"] = film(Path(folder, str(sizes[0])), length)
    record |= measured_here()
    print(table(record), conditions(record), sep="\n\n")
    if not is_small:
        write_record(RECORD, record)


def make_project(project: Path, frames: int) -> None:
    """A project like video/ with that many drawn frames, their labels, and a frame model."""
    project.mkdir()
    videos = frames // VIDEO_FRAMES
    share = max(videos // 8, 2)
    drawn = {"train": videos - 2 * share, "valid": share, "test": share, "frames": VIDEO_FRAMES}
    yaml = YAML(typ="safe", pure=True)
    params = merge(
        yaml.load(ROOT / "video/params.yaml"), {"clips": {"drawn": drawn}, "sequence": {"train": {"epochs": EPOCHS}}}
    )
    with (project / "params.yaml").open("w") as file:
        yaml.dump(params, file)
    shutil.copy(ROOT / "video/best.yaml", project)
    for stage in ("clips", "prepare"):
        run_stage(project, stage)
    info, size = read_info(project / "data/frames.parquet"), params["clips"]["image_size"]
    torch.manual_seed(0)
    architecture = Architecture.of(section(ModelConfig, params), len(info.classes))
    model = Classifier(architecture, ImageSpec(size, 1, (0.5,), (0.25,)))
    card = {**model.describe(), "source": info.source, "classes": list(info.classes), "fingerprint": "f", "epoch": 1}
    save_model(project / "models" / WEIGHTS, model.backbone.state_dict(), card)


def run_stage(project: Path, stage: str) -> Run:
    """Runs a stage's script in the project."""
    return run([sys.executable, str(ROOT / f"pipelines/{SCRIPTS[stage]}.py")], project)


def film(project: Path, minutes: float) -> dict[str, Any]:
    """`nla predict` on a film of crops by frame model and sequence model."""
    frames = round(minutes * 60 * RATE)
    write_film(project / "film.avi", project / "data/frames.parquet", frames)
    command = [sys.executable, "-m", "nla.commands.main", "predict", "film.avi", "--cropped", "--model", "."]
    done = run(command, project)
    with (project / "predictions.csv").open() as rows:
        found = sum(1 for _ in rows) - 1
    if found != frames:
        sys.exit(f"{found:,} rows for {frames:,} frames")
    return {"frames": frames, **done._asdict()}


def write_film(path: Path, table: Path, frames: int) -> None:
    """A film of the drawn faces, over and over, as Motion JPEG."""
    batch = next(read_batches(table, ["image"], FACES, "Run it again."))
    faces = [decode(image["bytes"]) for image in batch["image"].to_pylist()]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), RATE, faces[0].shape[1::-1])
    for number in range(frames):
        face = faces[number % len(faces)]
        writer.write(cv2.cvtColor(face, cv2.COLOR_GRAY2BGR if face.ndim == 2 else cv2.COLOR_RGB2BGR))
    writer.release()


def run(command: list[str], folder: Path) -> Run:
    """Runs a process to its end; exits with its output if it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        if status:
            output.seek(0)
            sys.exit(f"{' '.join(command)}:\n{output.read()}")
    return Run(round(seconds, 2), round(usage.ru_maxrss / 2**10, 1))


def table(record: dict[str, Any]) -> str:
    """The tables of docs/video.md."""
    lines = ["| frames | stage | seconds | frames/s | peak memory, MiB |", "|---|---|---|---|---|"]
    for size, stages in record["stages"].items():
        for stage, found in stages.items():
            rate = int(size) * (record["epochs"] if stage == "sequence" else 1) / found["seconds"]
            lines.append(row([f"{int(size):,}", f"`{stage}`", *_cells(found, rate)]))
    lines += ["", "| film of crops | frames | seconds | frames/s | peak memory, MiB |", "|---|---|---|---|---|"]
    for minutes, found in record["films"].items():
        rate = found["frames"] / found["seconds"]
        lines.append(row([f"{minutes} min", f"{found['frames']:,}", *_cells(found, rate)]))
    return "\n".join(lines)


def _cells(found: dict[str, Any], rate: float) -> list[str]:
    return [f"{found['seconds']:,.1f}", f"{rate:,.0f}", f"{found['peak_mib']:,.0f}"]


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["small"]):
        sys.exit(__doc__)
    try:
        main(is_small=sys.argv[1:] == ["small"])
    except NLAError as error:
        sys.exit(str(error))
