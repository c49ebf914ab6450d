"""Measures how long an epoch of each method of a study takes: `python ../../pipelines/study_time.py` in its folder.

grid.yaml, params.yaml, data/faces.parquet -> time.json, which is to be committed: from it, `minutes` of the grid become
epochs. It is no stage of DVC, as it needs an idle machine, and another machine finds other times.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nla.config.base import read_params, section
from nla.config.ray import RayConfig
from nla.console import say
from nla.data.sample_plan import plan_samples
from nla.data.schema import TRAIN
from nla.errors import ConfigError
from nla.hardware import machine, use_bf16, versions
from nla.io import write_json
from nla.study.grid import Grid, read_grid
from nla.study.origin import Origin
from nla.study.specs import RunSpec, run_spec, timed_setting
from nla.study.times import TIME, BlockTime, Times
from nla.study.timing import measure, require_idle
from nla.study.variants import Variants
from nla.training.job import Job, image_spec, training_config, with_first_weights
from nla.workflow.paths import project_root
from nla.workflow.runs import RUNS
from nla.workflow.stage import run_stage

FACES, GRID = Path("data/faces.parquet"), Path("grid.yaml")
EPOCHS = 4
"""Planned epochs of what is measured, on which the time of a step does not depend."""
TOLERANCE = 0.03
"""Largest relative difference between the training rows of a block's conditions."""


def main() -> None:
    """Measures all blocks with `minutes`, and says how many epochs each method gets."""
    require_idle()
    params, grid, root = read_params(), read_grid(GRID), project_root()
    times = measure_times(grid, params, root)
    write_json(TIME, times.model_dump(), sealed=True)
    for line in summary(grid, times):
        say(line)


def measure_times(grid: Grid, params: Mapping[str, Any], root: Path) -> Times:
    """The times of all blocks with `minutes`. Raises ConfigError if there are none."""
    config, origin = section(RayConfig, params), Origin.here()
    timed = [name for name, part in grid.parts.items() if part.minutes is not None]
    if not timed:
        raise ConfigError(f"{GRID}: minutes: no block has any. Set it, or keep train.epochs, which needs no times.")
    device = torch.device("cuda" if torch.cuda.is_available() and config.use_gpu is not False else "cpu")
    torch.set_num_threads(config.cpus_per_trial)
    clock = Clock(grid, params, Variants(FACES, root / RUNS / "study-data", config.image_bytes), root, device)
    train, blocks = training_config(params).train, dict[str, BlockTime]()
    for name in timed:
        blocks[name] = clock.block_time(name, blocks.values())
    cuda = device.type == "cuda"
    return Times(
        code=origin.code,
        commit=origin.commit,
        machine=machine(),
        versions=versions(),
        device=torch.cuda.get_device_name(device) if cuda else torch.backends.cpu.get_cpu_capability(),
        precision="bf16" if use_bf16(train.precision, device) else "fp32",
        threads=config.cpus_per_trial,
        blocks=blocks,
    )


@dataclass(frozen=True)
class Clock:
    """Measures the blocks of a grid."""

    grid: Grid
    params: Mapping[str, Any]
    variants: Variants
    root: Path
    device: torch.device

    def block_time(self, block: str, known: Iterable[BlockTime]) -> BlockTime:
        """Measures a block under its first condition, with its first seed; nothing if one of `known` has all of it.

        Raises:
            ConfigError: its conditions have different numbers of training rows.
        """
        part = self.grid.parts[block]
        rows = {condition: self._rows(self._spec(block, part.methods[0], condition)) for condition in part.conditions}
        first = rows[part.conditions[0]]
        if other := next((name for name, n in rows.items() if abs(n - first) > TOLERANCE * first), None):
            raise ConfigError(
                f"{GRID}: {f'blocks.{block}' if block else 'minutes'}: {other} has {rows[other]:,} training rows and "
                f"{part.conditions[0]} {first:,}, so that their epochs take different times. Put it into another block."
            )
        specs = {method: self._spec(block, method, part.conditions[0]) for method in part.methods}
        settings = {method: timed_setting(spec.params) for method, spec in specs.items()}
        for measured in known:
            found = {name: of for name, of in measured.methods.items() if settings.get(name) == of.setting}
            if found.keys() == settings.keys() and next(iter(measured.rows.values())) == first:
                return BlockTime(rows=rows, methods=found)
        split = self.variants.variant(next(iter(specs.values())).data).split
        image, classes = image_spec(split.train.images_NHWC), len(split.train.classes)
        jobs = {}
        for method, spec in specs.items():
            job = Job(training_config(spec.params), num_classes=classes, image=image, fingerprint="time")
            jobs[method] = with_first_weights(job, split.train.images_NHWC, self.root)[0]
        return BlockTime(rows=rows, methods=measure(jobs, split, self.device, settings))

    def _spec(self, block: str, method: str, condition: str) -> RunSpec:
        seed = self.grid.parts[block].seeds[0]
        return run_spec(self.grid, self.params, method, condition, seed, {}, block=block, epochs=EPOCHS)

    @staticmethod
    def _rows(spec: RunSpec) -> int:
        return int((plan_samples(FACES, spec.data).split_N == TRAIN).sum())


def summary(grid: Grid, times: Times) -> Iterator[str]:
    """A line for each method of each block."""
    for block, of in times.blocks.items():
        minutes = grid.parts[block].minutes or 0.0
        for method, own in of.methods.items():
            epochs = math.floor(60 * minutes / own.epoch)
            where = f"{block}, {method}" if block else method
            yield f"{where}: {own.epoch:.1f} s per epoch, {epochs} epochs in {minutes:g} minutes"


if __name__ == "__main__":
    run_stage(main)
