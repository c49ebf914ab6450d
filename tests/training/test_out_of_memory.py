"""Out of memory: one line says what to lower, and the next run resumes from the last epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow_parts import ROOT, run_python
from training_parts import MakeSamples, content, make_job

from nla import ray_tasks
from nla.config.ray import RayConfig
from nla.errors import TrainingError, is_explained, user_message
from nla.training.local_training import train_local
from nla.training.trainer import Split, StepResult, Trainer

CONFIG = RayConfig(num_workers=0, use_gpu=False)


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of\nmore")


LACKS: dict[str, Callable[[], Any]] = {
    "a GPU": on_a_gpu,
    "PyTorch": lambda: torch.empty(1 << 55, dtype=torch.uint8),
    "NumPy": lambda: np.empty((1 << 28, 1 << 28)),
}


@pytest.mark.parametrize("of", LACKS)
def test_training_says_what_to_lower_and_goes_on(
    tmp_path: Path, tiny_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    split, job = Split(tiny_samples(24), tiny_samples(12, seed=1)), make_job(epochs=3)
    steps, step = 0, Trainer.train_step

    def second_epoch_lacks(trainer: Trainer, batch: Any) -> StepResult:
        nonlocal steps
        steps += 1
        if steps > trainer.steps:
            LACKS[of]()
        return step(trainer, batch)

    with monkeypatch.context() as patch, pytest.raises(Exception) as raised:
        patch.setattr(Trainer, "train_step", second_epoch_lacks)
        train_local(job, split, CONFIG, tmp_path / "parts")
    assert is_explained(raised.value)
    line = user_message(raised.value)
    assert line.startswith("not enough memory (") and "\n" not in line and len(line) < 400
    assert "Lower train.batch_size, data.image_size, model.width or ray.images_in_memory" in line
    assert [path.name for path in (tmp_path / "parts").iterdir()] == ["epoch-00001"]
    ends = [content(train_local(job, split, CONFIG, tmp_path / name)) for name in ("parts", "whole")]
    assert ends[0] == ends[1]


def test_a_task_on_ray_fails_and_is_not_retried() -> None:
    failure = ray_tasks.attempt(lambda **_: on_a_gpu(), cpus=1, gpu=False)
    assert isinstance(failure, TrainingError) and str(failure).startswith("not enough memory (CUDA out of memory.")


def test_other_errors_are_bugs() -> None:
    assert not is_explained(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


LIMITED = f"""
import resource, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
import numpy as np
from nla.config.ray import RayConfig
from nla.data.samples import Samples
from nla.training.local_training import train_local
from nla.training.trainer import Split
from nla.workflow.stage import run_stage
from training_parts import make_job

def main():
    n = 4096
    labels = np.arange(n) % 3
    samples = Samples(np.zeros((n, 64, 64, 1), np.uint8), labels, None, np.arange(n), tuple("abc"), "dark")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 29),) * 2)
    job = make_job(size=64, batch_size=n, model={{"width": 64}})
    train_local(job, Split(samples, samples), RayConfig(num_workers=0, use_gpu=False, cpus_per_worker=1), Path("parts"))

run_stage(main)
"""


@pytest.mark.thorough
def test_a_process_that_gets_no_more_memory_ends_with_one_line(tmp_path: Path) -> None:
    done = run_python(LIMITED, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    said, log = done.stderr.splitlines()
    assert said.startswith("error: not enough memory (") and "Lower train.batch_size" in said
    assert log.startswith("full log: ")
    assert not (tmp_path / "parts").exists() or not list((tmp_path / "parts").iterdir())
