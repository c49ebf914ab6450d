"""Training leaves PyTorch's settings and generators as it found them, and seeds its epochs the same everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import deterministic
from training_parts import CPU, SINGLE, MakeSamples, Stop, StopAt, make_job

from nla.training.callbacks import Callback
from nla.training.checkpoint_store import FolderStore
from nla.training.reproducibility import epoch_seed, reproducible
from nla.training.trainer import Split, Trainer


class Settings(NamedTuple):
    """PyTorch's settings for determinism, which belong to the process."""

    enabled: bool
    warn_only: bool
    fill: bool

    @classmethod
    def current(cls) -> Settings:
        return cls(
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        )

    def apply(self) -> None:
        torch.use_deterministic_algorithms(self.enabled, warn_only=self.warn_only)
        deterministic.fill_uninitialized_memory = self.fill  # type: ignore[attr-defined]


@contextlib.contextmanager
def restored() -> Iterator[None]:
    before = Settings.current()
    try:
        yield
    finally:
        before.apply()


SETTINGS = [Settings(False, False, True), Settings(True, False, True), Settings(True, True, False)]


def state() -> tuple[Settings, Tensor]:
    return Settings.current(), torch.get_rng_state()


def unchanged(before: tuple[Settings, Tensor]) -> bool:
    return before[0] == Settings.current() and torch.equal(before[1], torch.get_rng_state())


@given(st.sampled_from(SETTINGS), st.integers(0, 2**32), st.booleans())
def test_everything_is_restored_also_after_an_error(settings: Settings, seed: int, fails: bool) -> None:
    with restored():
        settings.apply()
        torch.manual_seed(seed)
        before = state()
        with contextlib.suppress(Stop), reproducible(CPU):
            assert Settings.current() == (True, False, False)
            torch.rand(3)
            if fails:
                raise Stop
        assert unchanged(before)


class SettingsInTraining(Callback):
    """Records the settings while training."""

    def __init__(self) -> None:
        self.seen: set[Settings] = set()

    def on_step_end(self, *arguments: Any) -> None:
        self.seen.add(Settings.current())


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stop", [None, StopAt(1), StopAt(1, 2)], ids=["finished", "after an epoch", "within an epoch"])
def test_a_run_leaves_no_trace_in_the_process(
    tmp_path: Path, tiny_samples: MakeSamples, settings: Settings, stop: StopAt | None
) -> None:
    split, calls = Split(tiny_samples(56), tiny_samples(30, seed=1)), SettingsInTraining()
    with restored():
        settings.apply()
        before = state()
        job, callbacks = make_job(epochs=2, model={"dropout": 0.5}), [calls, stop or Callback()]
        trainer = Trainer(job, split, SINGLE, FolderStore(tmp_path), callbacks)
        assert unchanged(before)
        with contextlib.nullcontext() if stop is None else pytest.raises(Stop):
            trainer.fit()
        assert unchanged(before)
    assert calls.seen == {Settings(True, False, False)}


def test_an_epochs_seed_is_the_same_on_every_platform() -> None:
    assert [epoch_seed(*stream) for stream in ((0, 0, 0), (0, 1, 0), (7, 30, 3))] == [
        3135525630118351710,
        11869944609459156026,
        16710695922072716321,
    ]


@given(st.lists(st.tuples(*3 * [st.integers(0, 1000)]), min_size=2, max_size=50, unique=True))
def test_streams_differ_in_seed_epoch_and_rank(streams: list[tuple[int, int, int]]) -> None:
    assert len({epoch_seed(*stream) for stream in streams}) == len(streams)
