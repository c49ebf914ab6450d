"""NLA's loop against the usual one: one image file per sample, two forward passes, a synchronisation per step.

    python benchmarks/usual.py

The usual loop follows the recipe of the method's public code (github.com/jungyu0413/NLA of arXiv 2502.09993: batches of
32, Adam, one image file per sample, flip, erasing, a separate pass for the mirror image), with 0 and 2 loading
processes, of which the better counts. Network, loss, resolution and batch size are the same for both, and blocks of
both take turns; the usual loop computes in float32, as most do, and NLA's as `train.precision: auto` selects.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from face_files import write_tree
from interleaved import compared, interleave, summary
from records import measured_here, write_record
from step import SETTINGS, WARM, end_to_end, job_of, precision, samples_of
from torch.utils.data import DataLoader, Dataset, RandomSampler

from nla.losses import NLALoss
from nla.training.job import Job

SETTING = SETTINGS["112"]
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)  # ImageNet's
ERASED, SHAPE = (0.02, 0.3), (0.3, 3.3)  # fraction of the area, width over height
PROCESSES = (0, 2)
ROUNDS, FILES = 6, 4096


class Faces(Dataset):
    """The files of a tree, decoded, augmented and normalised one by one."""

    def __init__(self, root: Path, size: int) -> None:
        self.files = sorted(root.glob("train/*/*.jpg"))
        self.labels = {name: i for i, name in enumerate(sorted({file.parent.name for file in self.files}))}
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        file, rng = self.files[i], np.random.default_rng()
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        image = cv2.resize(image, (self.size, self.size))
        if rng.random() < 0.5:
            image = image[:, ::-1]
        x = (image.astype(np.float32) / 255 - MEAN) / STD
        if rng.random() < 0.5:
            _erase(x, rng)
        return torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))), self.labels[file.parent.name]


def _erase(x: np.ndarray, rng: np.random.Generator) -> None:
    side = x.shape[0]
    area, ratio = rng.uniform(*ERASED) * side**2, math.exp(rng.uniform(*np.log(SHAPE)))
    height, width = (min(side, round(math.sqrt(area * part))) for part in (1 / ratio, ratio))
    top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
    x[top : top + height, left : left + width] = 0


class Usual:
    """The loop found in most repositories."""

    def __init__(self, job: Job, faces: Faces, processes: int) -> None:
        self.model = job.build().backbone.train()
        self.loss = NLALoss(job.config.loss.variant)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, weight_decay=1e-4)
        sampler = RandomSampler(faces, replacement=True, num_samples=10**6)  # no epoch ends during the measurement
        self.loader = DataLoader(faces, job.config.train.batch_size, sampler=sampler, num_workers=processes)
        self.batches: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(self.loader)

    def seconds(self, steps: int) -> float:
        """Seconds per step; the first batches, which were loaded in advance, do not count."""
        for step in range(WARM + steps):
            if step == WARM:
                started = time.perf_counter()
            images, labels = next(self.batches)
            loss = self.loss(self.model(images), self.model(images.flip(-1)), labels, 0.0)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()
        return (time.perf_counter() - started) / steps


def main() -> None:
    """Measures, and writes the record."""
    job, samples = job_of(SETTING), samples_of(SETTING)
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), FILES)
        faces = Faces(Path(folder), SETTING.size)
        loops = {f"usual_{processes}": Usual(job, faces, processes) for processes in PROCESSES}
        things = {name: lambda loop=loop: loop.seconds(2) for name, loop in loops.items()}
        turns = interleave(things | {"nla": lambda: end_to_end(job, samples, 2)}, ROUNDS)
    results = {name: compared(turns, name, "nla") for name in loops}
    best = min(results, key=lambda name: results[name]["ratio"])
    print(f"against {best}: {summary(results[best])}")
    record = {
        "command": "python benchmarks/usual.py",
        "image": [SETTING.size, SETTING.size, SETTING.channels],
        "model": job.config.model.model_dump(),
        "batch_size": SETTING.batch_size,
        "precision": precision(),
        "best": best,
        "against": results,
    }
    write_record("usual", record | measured_here())


if __name__ == "__main__":
    main()
