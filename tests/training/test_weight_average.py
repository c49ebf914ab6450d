"""BatchNorm's statistics of the averaged weights: those of its own activations, in validation and in what is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import update_bn
from training_parts import SINGLE, MakeSamples, checkpoint_of, make_job

from nla.data.loader import batches
from nla.evaluation.predict import ONE_VIEW, predict
from nla.training.checkpoint_store import FolderStore
from nla.training.trainer import Split, Trainer
from nla.training.weight_average import BATCHES, estimate_batchnorm

STATISTICS = ("running_mean", "running_var")


@pytest.fixture(scope="module")
def split(tiny_samples: MakeSamples) -> Split:
    return Split(tiny_samples(56), tiny_samples(30, seed=1))


def statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if name.endswith(STATISTICS)}


def test_what_is_kept_has_the_statistics_of_the_averaged_weights(tmp_path: Path, split: Split) -> None:
    """Those of PyTorch's update_bn over the batches of the last epoch, which validation has used, too."""
    trainer = Trainer(make_job(epochs=2, ema=0.9, recipe="affine"), split, SINGLE, FolderStore(tmp_path))
    progress = trainer.fit()
    last = load_file(checkpoint_of(tmp_path) / "last.safetensors")
    reference = copy.deepcopy(trainer.network)
    reference.backbone.load_state_dict(last)
    epoch = batches(split.train, batch_size=16, seed=0, epoch=1, augment=trainer.augment)
    update_bn([torch.from_numpy(batch.images_BHWC) for batch in epoch], reference)
    expected = statistics(reference.backbone.state_dict())
    torch.testing.assert_close(statistics(last), expected, rtol=1e-4, atol=1e-5)
    raw = statistics(trainer.network.backbone.state_dict())
    assert not any(torch.allclose(raw[name], expected[name], rtol=1e-2) for name in raw)
    hits = predict(reference, split.valid.images_NHWC, ONE_VIEW).argmax(1) == split.valid.label_N
    assert progress.history[-1]["valid_accuracy"] == pytest.approx(hits.mean())
    best = load_file(checkpoint_of(tmp_path) / "best.safetensors")
    assert progress.best_epoch == 1 or torch.equal(best["bn1.running_mean"], last["bn1.running_mean"])


def test_frozen_statistics_stay(tmp_path: Path, split: Split) -> None:
    trainer = Trainer(make_job(epochs=1, ema=0.9, freeze_batchnorm=True), split, SINGLE, FolderStore(tmp_path))
    before = {name: tensor.clone() for name, tensor in statistics(trainer.network.backbone.state_dict()).items()}
    trainer.fit()
    torch.testing.assert_close(statistics(trainer.eval_network.backbone.state_dict()), before, rtol=0, atol=0)


def test_training_itself_is_the_same_with_an_average(tmp_path: Path, split: Split) -> None:
    """Estimating draws no random number and changes no statistics of the network being trained."""
    trained = []
    for ema in (0.0, 0.9):
        job = make_job(epochs=2, ema=ema, model={"dropout": 0.5}, recipe="affine")
        Trainer(job, split, SINGLE, FolderStore(tmp_path / str(ema))).fit()
        trained.append(load_file(checkpoint_of(tmp_path / str(ema)) / "trained.safetensors"))
    torch.testing.assert_close(*trained, rtol=0, atol=0)


def test_the_cost_is_bounded(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    steps = BATCHES + 3
    small = Split(tiny_samples(2 * steps), tiny_samples(4, seed=1))
    trainer, passes = Trainer(make_job(epochs=1, ema=0.9, batch_size=2), small, SINGLE, FolderStore(tmp_path)), []
    trainer.eval_network.backbone.register_forward_hook(lambda module, *_: passes.append(module.bn1.training))
    trainer.fit()
    assert sum(passes) == BATCHES


def test_modes_and_momenta_are_as_before() -> None:
    network = make_job(model={"dropout": 0.5}).build()
    before = {name: module.training for name, module in network.named_modules()}
    batch = torch.randint(256, (8, 16, 16, 1), dtype=torch.uint8)
    estimate_batchnorm(network, [batch, batch], bf16=False)
    once = {name: tensor.clone() for name, tensor in network.backbone.named_buffers()}
    estimate_batchnorm(network, [batch], bf16=False)
    assert {name: module.training for name, module in network.named_modules()} == before
    assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}
    torch.testing.assert_close(statistics(dict(network.backbone.named_buffers())), statistics(once))
