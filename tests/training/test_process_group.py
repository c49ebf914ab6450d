"""Several processes equal a single one: the same weights, the same metrics, each sample once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import worker_group
from safetensors.torch import load_file
from training_parts import CPU, SINGLE, MakeSamples, checkpoint_of, content, make_job
from worker_group import together

from nla.data.loader import epoch_order
from nla.errors import ConfigError
from nla.training.checkpoint import read_progress
from nla.training.process_group import ProcessGroup
from nla.training.trainer import Split

RECIPES: dict[str, dict[str, Any]] = {
    "cross-entropy, momentum": {"momentum": 0.9},
    "cross-entropy on distributions": {"soft": True},
    "paper": {"loss": {"name": "nla", "variant": "paper"}, "recipe": "affine"},
    "released, summed": {"loss": {"name": "nla", "variant": "released"}, "lr": 0.01},
    "elr, a memory of each sample": {"loss": {"name": "elr"}, "recipe": "affine"},
    "plus, a memory of both views": {"loss": {"name": "plus"}, "recipe": "affine"},
    "forward, a matrix from the memory": {"loss": {"name": "forward", "options": {"start": 0.3}}},
    "sop, parameters of each sample, balance of all": {
        "loss": {"name": "sop", "options": {"lr_u": 2e4, "lr_v": 2e4, "balance": 2.0}}
    },
    "resup, mixtures of all": {"loss": {"name": "resup"}, "recipe": "affine"},
    "ldam, weights from epoch 2": {"loss": {"name": "ldam", "options": {"defer": 0.5}}},
    "co_teaching, small losses of all": {"loss": {"name": "co_teaching", "options": {"forget_rate": 0.5, "ramp": 0.5}}},
    "scn, ranks and new labels of all": {
        "loss": {"name": "scn", "options": {"rank_margin": 0.5, "relabel_margin": 0.0, "relabel_from": 0.0}}
    },
    "scn on distributions": {"loss": {"name": "scn", "options": {"relabel_margin": 0.0}}, "soft": True},
    "eac without holes": {"loss": {"name": "eac", "options": {"erasing": 0.0}}},
    "adam, average, clipping": {"optimizer": "adam", "lr": 1e-3, "ema": 0.9, "grad_clip": 0.5},
}


@pytest.fixture(scope="module", autouse=True)
def end_the_pool() -> Iterator[None]:
    yield
    worker_group.pool().shutdown()
    worker_group.pool.cache_clear()


@pytest.fixture(scope="module")
def split(tiny_samples: MakeSamples) -> Split:
    return Split(tiny_samples(77), tiny_samples(47, seed=1))  # 47 rows divide by neither 2 nor 3


def softened(split: Split) -> Split:
    target_NC = np.random.default_rng(0).dirichlet(np.ones(3), len(split.train)).astype(np.float32)
    return split._replace(train=type(split.train)(**vars(split.train) | {"target_NC": target_NC}))


def single(job: Any, split: Split, folder: Path) -> list[dict[str, float]]:
    return worker_group.train_into(SINGLE, job, split, folder)


@pytest.mark.parametrize("name", RECIPES)
def test_two_workers_are_one(tmp_path: Path, split: Split, name: str) -> None:
    """To 1e-5 with BatchNorm frozen, after two epochs of three steps."""
    recipe = dict(RECIPES[name])
    data = softened(split) if recipe.pop("soft", False) else split
    job = make_job(batch_size=24, epochs=2, freeze_batchnorm=True, **recipe)
    one = single(job, data, tmp_path / "one")
    two, _ = together(2, worker_group.train_into, job, data, tmp_path / "two")
    for row, expected in zip(two, one, strict=True):
        same = {key: value for key, value in expected.items() if key not in ("seconds", "images_per_second")}
        assert {key: row[key] for key in same} == pytest.approx(same, rel=1e-5, abs=1e-5)
    first = load_file(checkpoint_of(tmp_path / "one") / "last.safetensors")
    for group in ("last", "best", "trained", "positions"):
        tensors = [load_file(checkpoint_of(tmp_path / folder) / f"{group}.safetensors") for folder in ("two", "one")]
        torch.testing.assert_close(*tensors, rtol=1e-5, atol=1e-5, equal_nan=True)
    torch.manual_seed(0)
    assert not torch.equal(first["fc.weight"], make_job().build().backbone.state_dict()["fc.weight"])


def test_positions_of_a_balanced_epoch_are_those_that_were_seen(tmp_path: Path, split: Split) -> None:
    """Both workers meet the sample of a class of one, several times."""
    label_N = np.array([0] * 76 + [1])
    rare = split._replace(train=type(split.train)(**vars(split.train) | {"label_N": label_N}))
    job = make_job(batch_size=24, epochs=1, lr=1e-30, freeze_batchnorm=True, sampler="balanced", recipe="none")
    single(job, rare, tmp_path / "one")
    together(2, worker_group.train_into, job, rare, tmp_path / "two")
    one, two = (
        load_file(checkpoint_of(tmp_path / folder) / "positions.safetensors")["late"] for folder in ("one", "two")
    )
    assert not one[76].isnan().any()
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("rows", [1, 46, 47])
def test_every_sample_is_measured_once(split: Split, rows: int) -> None:
    few = type(split.valid)(
        **vars(split.valid) | {"images_NHWC": split.valid.images_NHWC[:rows], "label_N": split.valid.label_N[:rows]}
    )
    expected = worker_group.measure(SINGLE, make_job(), few)
    for size in (2, 3):
        for metrics in together(size, worker_group.measure, make_job(), few):
            assert metrics == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_running_statistics_are_the_mean_over_the_workers(tmp_path: Path, split: Split, ema: float) -> None:
    """Each worker has seen its part of the batches: the first layer's statistics, worked out by hand.

    While training, the last batches count most; for the weight average, all of them count alike.
    """
    job = make_job(batch_size=24, epochs=1, lr=1e-30, momentum=0.0, ema=ema)
    together(2, worker_group.train_into, job, split, tmp_path)
    torch.manual_seed(0)
    model, order = job.build(), epoch_order(77, 0, 0)
    parts = []
    for rank in (0, 1):
        mean_C, var_C = torch.zeros(4), torch.ones(4)
        for step in range(3):
            index = order[24 * step + 12 * rank : 24 * step + 12 * (rank + 1)]
            x = model.normalise(torch.from_numpy(split.train.images_NHWC[index]))
            out_MC = model.backbone.conv1(x).detach().permute(0, 2, 3, 1).reshape(-1, 4)
            new = 1 / (step + 1) if ema else 0.1
            mean_C, var_C = torch.lerp(mean_C, out_MC.mean(0), new), torch.lerp(var_C, out_MC.var(0), new)
        parts.append((mean_C, var_C))
    last = load_file(checkpoint_of(tmp_path) / "last.safetensors")
    expected = [torch.stack(both).mean(0) for both in zip(*parts, strict=True)]
    torch.testing.assert_close([last["bn1.running_mean"], last["bn1.running_var"]], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(parts[0][0], parts[1][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["ce", "co_teaching", "scn", "rul", "eac", "plus", "sop", "resup"])
def test_two_workers_resume_as_if_never_interrupted(tmp_path: Path, split: Split, method: str) -> None:
    """Bit for bit, with BatchNorm, dropout, average and momentum; the first epoch is the same for any number of epochs.

    Not so three: the order in which gloo adds up a gradient depends on its place in DDP's buckets, which DDP lays out
    again after the first step of each process. With two summands the order does not matter.
    """
    parts = {"batch_size": 24, "recipe": "affine", "model": {"dropout": 0.3}, "ema": 0.9, "momentum": 0.9}
    parts |= {"loss": {"name": method}}
    together(2, worker_group.train_into, make_job(epochs=3, **parts), split, tmp_path / "whole")
    for epochs in (1, 3):
        together(2, worker_group.train_into, make_job(epochs=epochs, **parts), split, tmp_path / "parts")
    whole, resumed = (content(checkpoint_of(tmp_path / name)) for name in ("whole", "parts"))
    del whole["files"], resumed["files"]  # hashes, also of the early positions
    assert whole["epochs"] == resumed["epochs"] == 3
    assert whole.pop("early_epoch") == 1 and resumed.pop("early_epoch") == 0
    assert resumed.keys() == whole.keys()
    assert {key for key in whole if whole[key] != resumed[key]} == {"positions/early"}


def test_another_number_of_workers_resumes(tmp_path: Path, split: Split) -> None:
    """The global batch is the parameter, so it is the same run; the facts record the workers of each part."""
    frozen: dict[str, Any] = {"batch_size": 24, "freeze_batchnorm": True}
    together(1, worker_group.train_into, make_job(epochs=3, **frozen), split, tmp_path / "whole")
    for size, epochs in ((2, 1), (3, 3)):
        together(size, worker_group.train_into, make_job(epochs=epochs, **frozen), split, tmp_path / "parts")
    facts = read_progress(checkpoint_of(tmp_path / "parts")).facts
    assert facts["workers"] == 3 and facts["before"] == [{"epochs_done": 1, "workers": 2}]
    ends = [load_file(checkpoint_of(tmp_path / name) / "last.safetensors") for name in ("parts", "whole")]
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-5)


def test_a_batch_that_the_workers_do_not_divide(tmp_path: Path, split: Split) -> None:
    with pytest.raises(ConfigError, match=r"batch_size.*16.*3"):
        together(3, worker_group.train_into, make_job(batch_size=16), split, tmp_path)


def test_ranks_and_sums() -> None:
    assert together(3, worker_group.sum_of_ranks) == [(0, 3, True, 111), (1, 3, False, 111), (2, 3, False, 111)]
    assert worker_group.sum_of_ranks(SINGLE) == (0, 1, True, 1)
    assert ProcessGroup.current(CPU) == SINGLE


def test_counters_are_not_averaged() -> None:
    for rank, buffers in enumerate(together(2, worker_group.agreed)):
        assert buffers["running_mean"].tolist() == buffers["running_var"].tolist() == [0.5, 0.5]
        assert buffers["num_batches_tracked"] == rank


def test_one_worker_has_no_wrapper() -> None:
    assert worker_group.is_replicated(SINGLE, make_job()) == "Classifier"
    assert together(2, worker_group.is_replicated, make_job()) == ["DistributedDataParallel"] * 2
