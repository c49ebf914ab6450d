"""Fixtures of several test folders: the real FERPlus, a few learnable samples, one Ray for the session."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest

from nla.data.samples import Samples
from nla.telemetry import disable_telemetry

if TYPE_CHECKING:
    from nla.ray_cluster import Cluster

disable_telemetry()  # before a test imports a library that phones home

# The networks of the tests are so small that a second thread of PyTorch costs time: tenfold on a busy machine, where
# threads that wait for each other by spinning take the cores from those they wait for. Stages and workers inherit both.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a background job of a shell; its children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

FERPLUS_FILES = ("fer2013.csv", "fer2013new.csv")

pytest_plugins = ["skips"]

# A busy machine does not fail a test, and every machine draws the same examples.
hypothesis.settings.register_profile("nla", deadline=None, derandomize=True)
# tests/mutation.py asks whether an example fails, not for the smallest one that does.
hypothesis.settings.register_profile(
    "mutation", hypothesis.settings.get_profile("nla"), phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate)
)
hypothesis.settings.load_profile("nla")


LONGEST = (
    "signals",
    "search",
    "nodes",
    "searching",
    "experiments",
    "ray_train",
    "stops",
    "study",
    "disks",
    "real_servers",
    "bad_input",
    "repro",
    "registering",
)
"""Files test_NAME.py that take minutes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, so that short ones fill the time that is left of the other processes."""
    rank = {f"test_{name}.py": i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Undoes what a test before set: training in the test's process takes every core."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture
def hangup_ends() -> Iterator[None]:
    """What a test starts ends with its terminal, also if the tests do not: a child inherits that from `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def ferplus_dir() -> Path:
    """The folder with the two CSV files of the real FERPlus, from the environment variable NLA_FERPLUS."""
    given = os.environ.get("NLA_FERPLUS")
    if not given:
        pytest.skip(f"needs the real FERPlus: set NLA_FERPLUS to a folder with {' and '.join(FERPLUS_FILES)}")
    missing = [name for name in FERPLUS_FILES if not Path(given, name).is_file()]
    if missing:
        pytest.fail(f"NLA_FERPLUS={given} lacks {', '.join(missing)}")
    return Path(given)


@pytest.fixture(scope="session")
def tiny_samples() -> Callable[..., Samples]:
    """tiny_samples(n, seed=0, size=16, classes=3): grey images with a bright bar whose height is their class."""

    def make(n: int, seed: int = 0, size: int = 16, classes: int = 3) -> Samples:
        rng = np.random.default_rng(seed)
        label_N = rng.integers(0, classes, n)
        images_NHWC = rng.integers(0, 100, (n, size, size, 1), dtype=np.uint8)
        band = size // classes
        for image, label in zip(images_NHWC, label_N, strict=True):
            image[label * band : (label + 1) * band] += 100
        return Samples(images_NHWC, label_N, None, np.arange(n), tuple("abcdefgh"[:classes]), "tiny")

    return make


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Cluster]:
    """A Ray of two CPUs for the session."""
    from nla.config.ray import RayConfig
    from nla.ray_cluster import connected, local_cluster

    os.environ.pop("RAY_ADDRESS", None)
    with local_cluster(cpus=2, dashboard=True), connected(RayConfig()) as cluster:
        yield cluster
