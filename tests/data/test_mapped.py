"""Images in a file are images in memory: for training, for other processes, and in how they come to be."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_parts import SINGLE, MakeSamples, checkpoint_of, content, make_job

from nla.data.samples import MappedImages, Samples, mapped, open_images
from nla.errors import DataError
from nla.ray_cluster import Cluster
from nla.training.checkpoint_store import FolderStore
from nla.training.trainer import Split, Trainer

SHAPE = (40, 8, 8, 1)
CONTENT = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def fill(images_NHWC: np.ndarray) -> None:
    images_NHWC[:] = CONTENT


@pytest.fixture
def images(tmp_path: Path) -> MappedImages:
    return mapped(tmp_path / "folder/images.u8", SHAPE, fill)


def test_they_are_written_once_and_whole(tmp_path: Path, images: MappedImages) -> None:
    np.testing.assert_array_equal(images, CONTENT)
    assert not images.flags.writeable
    assert {path.name for path in (tmp_path / "folder").iterdir()} == {"images.u8", "images.lock"}
    again = mapped(tmp_path / "folder/images.u8", SHAPE, lambda _: pytest.fail("filled again"))
    np.testing.assert_array_equal(again, CONTENT)

    def fail(images_NHWC: np.ndarray) -> None:
        images_NHWC[0] = 1
        raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        mapped(tmp_path / "other.u8", SHAPE, fail)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "other.lock"}


def test_of_two_that_ask_one_fills(tmp_path: Path) -> None:
    fills: list[int] = []

    def slowly(images_NHWC: np.ndarray) -> None:
        fills.append(1)
        images_NHWC[:20] = CONTENT[:20]
        time.sleep(0.3)
        images_NHWC[20:] = CONTENT[20:]

    with ThreadPoolExecutor(2) as pool:
        for images in pool.map(lambda _: mapped(tmp_path / "images.u8", SHAPE, slowly), range(2)):
            np.testing.assert_array_equal(images, CONTENT)
    assert fills == [1]


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_small_and_maps_the_same_file(images: MappedImages, protocol: int) -> None:
    text = pickle.dumps(images, protocol)
    assert len(text) < 500
    copy = pickle.loads(text)
    assert isinstance(copy, MappedImages) and copy.filename == images.filename
    np.testing.assert_array_equal(copy, CONTENT)


@pytest.mark.parametrize(
    "part",
    [np.s_[3:9], np.s_[::-1], np.s_[::2], np.random.default_rng(1).permutation(40), np.s_[:, ::-1]],
    ids=["slice", "reversed", "every other", "permuted", "turned"],
)
def test_a_pickle_of_a_part_holds_what_is_in_it(images: MappedImages, part: object) -> None:
    copy = pickle.loads(pickle.dumps(images[part], 5))
    np.testing.assert_array_equal(copy, CONTENT[part])


def test_a_node_that_does_not_see_the_file_says_so(images: MappedImages) -> None:
    text = pickle.dumps(images)
    Path(str(images.filename)).unlink()
    with pytest.raises(DataError, match=r"images\.u8: this node does not see the file .* raise ray\.images_in_memory"):
        pickle.loads(text)


def test_training_ends_with_the_same_bits(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    def in_a_file(name: str, samples: Samples) -> Samples:
        images_NHWC = samples.images_NHWC
        there = mapped(tmp_path / name, images_NHWC.shape, lambda file: np.copyto(file, images_NHWC))
        return replace(samples, images_NHWC=there)

    split = Split(tiny_samples(56), tiny_samples(30, seed=1))
    in_files = Split(in_a_file("train.u8", split.train), in_a_file("valid.u8", split.valid))
    job = make_job(recipe="affine", epochs=2)
    Trainer(job, split, SINGLE, FolderStore(tmp_path / "memory")).fit()
    Trainer(job, in_files, SINGLE, FolderStore(tmp_path / "mapped")).fit()
    assert content(checkpoint_of(tmp_path / "memory")) == content(checkpoint_of(tmp_path / "mapped"))


@pytest.mark.ray
def test_rays_workers_map_it_too(images: MappedImages, ray_cluster: Cluster) -> None:
    import ray

    @ray.remote
    def look(array: np.ndarray) -> tuple[str, int]:
        return type(array).__name__, int(array.sum())

    assert ray.get(look.remote(ray.put(images))) == ("MappedImages", int(CONTENT.sum()))


def test_looking_at_all_takes_no_memory_of_the_process(tmp_path: Path) -> None:
    """A file of 600 MiB under a limit of 300 MiB for what a process may allocate."""
    path = tmp_path / "large.u8"
    with path.open("wb") as file:
        file.truncate(600 * 2**20)
    program = """
import resource, sys
from pathlib import Path
from nla.data.samples import open_images
from nla.data.images import pixel_statistics
resource.setrlimit(resource.RLIMIT_DATA, (300 * 2**20, 300 * 2**20))
images = open_images(Path(sys.argv[1]), (600 * 1024, 32, 32, 1))
print(pixel_statistics(images)[0][0], images[::7].sum())
"""
    ended = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["0.0", "0"]


def test_opened_by_its_place(images: MappedImages) -> None:
    np.testing.assert_array_equal(open_images(Path(str(images.filename)), SHAPE), CONTENT)
