"""The training step against its limit: the same network and loss on tensors that are already in memory.

    python benchmarks/step.py 48       resnet18 of width 16 on 48 px grey, as in params.yaml
    python benchmarks/step.py 112      the published resnet18 on 112 px RGB
    python benchmarks/step.py 224      and on 224 px
    python benchmarks/step.py around   what comes before, between and after the steps

The limit is forward, loss, backward and optimiser, on both views normalised in advance, in the same precision, with
plain PyTorch. End to end is nla.training.trainer.Trainer: loader, augmentation, views, loss, optimiser, positions,
checks and callbacks, in the middle of an epoch. Blocks of the two take turns in one process; a ratio is that of two
neighbours, as a fraction of the limit's speed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from interleaved import compared, interleave, summary
from records import ROOT, measured_here, write_record

from nla.config.base import read_params
from nla.data.loader import PREFETCH
from nla.data.samples import Samples
from nla.hardware import use_bf16
from nla.losses import NLALoss
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import FolderStore
from nla.training.job import Job, image_spec, training_config
from nla.training.optim import make_optimizer
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split, Trainer

CLASSES = tuple("abcdefgh")
ALONE = ProcessGroup(torch.device("cpu"))
WARM = PREFETCH + 1
"""Steps at the start of a block that do not count, because the loader is still filling its queue."""


@dataclass(frozen=True)
class Setting:
    """A network, its images, and the length of a block."""

    size: int
    channels: int
    batch_size: int
    model: dict[str, Any]
    steps: int
    rounds: int


PUBLISHED = {"width": 64, "stem": "imagenet"}
SETTINGS = {
    "48": Setting(48, 1, 64, {}, 30, 25),
    "112": Setting(112, 3, 32, PUBLISHED, 4, 9),
    "224": Setting(224, 3, 16, PUBLISHED, 3, 5),
}


class Enough(Exception):
    """Raised after the desired number of steps."""


class Stopwatch(Callback):
    """Times the steps after the first WARM ones, and then ends the training."""

    def __init__(self, steps: int) -> None:
        self.steps, self.started, self.seconds = steps, 0.0, 0.0

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        if step == WARM:
            self.started = time.perf_counter()
        elif step == WARM + self.steps:
            self.seconds = (time.perf_counter() - self.started) / self.steps
            raise Enough


class Whole(Callback):
    """Records the time of every step, and the row of the epoch."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.row: dict[str, float] = {}

    def on_step_end(self, epoch: int, step: int, steps: int, images: int) -> None:
        self.times.append(time.perf_counter())

    def on_epoch_end(self, row: dict[str, float]) -> None:
        self.row = row


class Limit:
    """The parts of a step that cannot be left out."""

    def __init__(self, job: Job, samples: Samples) -> None:
        torch.manual_seed(job.config.train.seed)
        memory_format = torch.channels_last if job.config.train.channels_last else torch.contiguous_format
        model = job.build().set_memory_format(memory_format)
        self.backbone = model.backbone.train()
        if job.config.train.compile:
            self.backbone.compile()
        self.loss = NLALoss(job.config.loss.variant)
        self.optimizer = make_optimizer(model, job.config.train)
        self.bf16 = use_bf16(job.config.train.precision, ALONE.device)
        x = model.normalise(torch.from_numpy(samples.images_NHWC[: job.config.train.batch_size]))
        self.views = torch.cat([x, x.flip(-1)]) if self.loss.two_views else x
        self.target = torch.from_numpy(samples.label_N[: job.config.train.batch_size])

    def step(self) -> None:
        """One update."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            logits = self.backbone(self.views)
            first, second = logits.chunk(2) if self.loss.two_views else (logits, None)
            loss = self.loss(first, second, self.target, 0.0)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def seconds(self, steps: int) -> float:
        """Seconds per step; the first of a block does not count."""
        self.step()
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        return (time.perf_counter() - started) / steps


def main(name: str) -> None:
    """Measures a setting, and writes the record."""
    setting = SETTINGS[name]
    job, samples = job_of(setting), samples_of(setting)
    limit = Limit(job, samples)
    things = {
        "limit": lambda: limit.seconds(setting.steps),
        "end_to_end": lambda: end_to_end(job, samples, setting.steps),
    }
    limit.seconds(1), end_to_end(job, samples, 1)  # caches, primitives, threads
    result = compared(interleave(things, setting.rounds), "limit", "end_to_end")
    print(f"{name}: {summary(result)} of the limit")
    record = {
        "command": f"python benchmarks/step.py {name}",
        "model": job.config.model.model_dump(),
        "image": [setting.size, setting.size, setting.channels],
        "recipe": job.config.augment.recipe,
        "precision": precision(),
        "batch_size": setting.batch_size,
        "steps": setting.steps,
        "threads": torch.get_num_threads(),
        **result,
    }
    write_record(f"step-{name}", record | measured_here())


def precision() -> str:
    """The precision that `train.precision: auto` selects here."""
    return "bf16" if use_bf16("auto", ALONE.device) else "fp32"


def around(setting: Setting) -> dict[str, float]:
    """Costs around the steps, of an epoch with three training images per validation image, as in params.yaml."""
    rows = 3 * setting.batch_size * setting.steps
    job, samples, valid = job_of(setting, epochs=1), samples_of(setting, rows), samples_of(setting, rows // 3)
    watch, started = Whole(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        Trainer(job, Split(samples, valid), ALONE, FolderStore(Path(folder)), [watch]).fit()
    ended, (first, *_, last) = time.perf_counter(), watch.times
    a_step = (last - first) / (len(watch.times) - 1)
    training = a_step * len(watch.times)
    validation = watch.row["seconds"] - rows / watch.row["images_per_second"]
    return {
        "before_first_step_in_steps": (first - started) / a_step - 1,
        "validation_of_training": validation / training,
        "checkpoint_in_steps": (ended - last - validation) / a_step,
    }


def job_of(setting: Setting, **train: Any) -> Job:
    """The training of params.yaml with the setting's network and batch size."""
    params = read_params(ROOT / "params.yaml")
    params["model"] |= setting.model
    params["train"] |= {"batch_size": setting.batch_size, **train}
    image = image_spec(samples_of(setting, 64).images_NHWC)
    return Job(training_config(params), num_classes=len(CLASSES), image=image)


def samples_of(setting: Setting, rows: int | None = None) -> Samples:
    """Noise with labels: the cost of a step does not depend on the content of the images."""
    n = rows or setting.batch_size * (WARM + setting.steps + PREFETCH + 1)  # keeps the loader busy to the last step
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (n, setting.size, setting.size, setting.channels), dtype=np.uint8)
    return Samples(images_NHWC, rng.integers(len(CLASSES), size=n), None, np.arange(n), CLASSES, "noise")


def end_to_end(job: Job, samples: Samples, steps: int) -> float:
    """Seconds per step of the real loop."""
    watch = Stopwatch(steps)
    with tempfile.TemporaryDirectory() as folder:
        try:
            Trainer(job, Split(samples, samples), ALONE, FolderStore(Path(folder)), [watch]).fit()
        except Enough:
            return watch.seconds
    raise AssertionError("the epoch ended before the stopwatch")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in (*SETTINGS, "around"):
        sys.exit(__doc__)
    if sys.argv[1] == "around":
        found = {name: around(setting) for name, setting in SETTINGS.items()}
        print(found)
        write_record("step-around", {"command": "python benchmarks/step.py around", **found} | measured_here())
    else:
        main(sys.argv[1])
