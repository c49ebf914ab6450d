"""Training from Python in one call: images and labels in, a trained predictor and its history out.

    from nla import fit

    result = fit((images, labels), classes=["happy", "sad"], loss="nla", epochs=5)
    result.predictor.predict([Path("face.png").read_bytes()])
    result.save("models")

It trains in the calling process, by the loop, the configuration and the methods of the pipeline, but imports neither
Ray nor MLflow nor DVC. docs/embedding.md has more examples.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import nla
from nla.config.base import nearest
from nla.data.arrays import Color, hold_out, make_samples
from nla.data.samples import Samples, load_samples
from nla.errors import ConfigError, DataError, TrainingError
from nla.io import sha256
from nla.methods import Context, Method
from nla.methods.base import OneView
from nla.methods.registry import keyword_options
from nla.models.calibration import Calibration
from nla.models.classifier import Classifier
from nla.models.saved_model import PREDICTION, save_model
from nla.models.weights import weights_path
from nla.serving.predictor import WEIGHTS, Predictor
from nla.training.artifacts import calibration
from nla.training.callbacks import Callback
from nla.training.checkpoint_store import FolderStore
from nla.training.job import (
    Job,
    TrainingConfig,
    check_frequencies_corrected_once,
    image_spec,
    training_config,
    with_first_weights,
)
from nla.training.process_group import ProcessGroup
from nla.training.progress_bar import progress_bar
from nla.training.reproducibility import reproducible
from nla.training.trainer import Split, Trainer
from nla.workflow.provenance import fingerprint

__all__ = ["FitResult", "fit"]

Dataset = tuple[Any, Any] | Path | str
"""(images, labels) as nla.data.arrays.make_samples takes them, or the path of a table of the `prepare` stage."""
Loss = str | nn.Module | Callable[[Context], Method]
SECTIONS = ("model", "augment", "loss", "train")


@dataclass(frozen=True)
class FitResult:
    """Result of a training run."""

    predictor: Predictor
    """The network with its weights of the best epoch, on the device that trained it, calibrated on validation."""
    history: list[dict[str, float]]
    """One row per epoch: `epoch` counted from 1, `valid_accuracy`, `valid_mean_accuracy`, `valid_macro_f1`,
    `valid_nll`, `train_loss`, `lr`, `images_per_second` and `seconds`."""
    best_epoch: int
    """The epoch with the best validation metric (`train.select`), counted from 1."""
    card: Mapping[str, Any]
    """Contents of model.json: classes, network, metrics of the best epoch, calibration, parameters and hardware."""

    def save(self, folder: Path | str) -> Path:
        """Writes model.safetensors and model.json into the folder, for `Predictor.load` and `nla predict --model`.

        Returns the path of the weights.
        """
        weights = Path(folder, WEIGHTS)
        save_model(weights, self.predictor.model.backbone.state_dict(), self.card)
        return weights


def fit(
    train: Dataset,
    valid: Dataset | None = None,
    *,
    classes: Sequence[str] | None = None,
    loss: Loss | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    image_size: int | None = None,
    color: Color | None = None,
    valid_fraction: float = 0.1,
    device: torch.device | str | None = None,
    checkpoint_dir: Path | str | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool = True,
) -> FitResult:
    """Trains a classifier.

    The same arguments give the same weights, bit for bit, on the same CPU with the same number of threads, also if the
    run was interrupted and resumed. PyTorch's settings and random generators are left as they were.

    Args:
        train: (images, labels), or the path of a table such as data/train.parquet. Images are a uint8 array [N, H, W]
            or [N, H, W, C], or a sequence of paths, encoded bytes or arrays. Labels are class indices, class names, or
            distributions [N, C].
        valid: validation data, which choose the best epoch; None holds out `valid_fraction` of train.
        classes: names of the classes, in the order of the indices; see `nla.data.arrays.make_samples`. Tables have
            their own.
        loss: name of a method in nla.methods.METHODS; or a loss module (logits [N, C], labels [N] or distributions
            [N, C]) -> scalar; or a function, such as a subclass of nla.methods.Method, that takes a
            nla.methods.Context and returns a Method. Modules are copied, and the copy is trained with the network.
        epochs: number of epochs. This and the next three are short for keys of `params["train"]`.
        batch_size: images per step.
        lr: peak learning rate.
        seed: seed of all random choices.
        params: sections model, augment, loss and train of params.yaml; the defaults are those of nla/config.
        image_size: side of the square to which images are resized; None if all are squares of one size already.
        color: "grey" or "rgb"; None means rgb if any image has three channels.
        valid_fraction: share of each class that is held out without `valid`; drawn with `seed`, and identical images
            stay together.
        device: such as "cpu" or "cuda:0"; None means a GPU if there is one.
        checkpoint_dir: folder of the run's checkpoint, from which the same call resumes; a finished run is read from it
            instead of repeated. None means a temporary folder.
        callbacks: called after steps and epochs.
        progress: show a progress bar, and a line per epoch.

    Raises:
        DataError: images or labels are not as described.
        ConfigError: a parameter is unknown or out of its range.
        TrainingError: there is no such device, the loss became infinite, or the checkpoint belongs to another run.
    """
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    config = _config(params or {}, given, loss)
    check_frequencies_corrected_once(config.train, _name(loss), _frequency_corrections(loss))
    split = _split(train, valid, classes, image_size, color, valid_fraction, config.train.seed)
    group = ProcessGroup(_device(device))
    with reproducible(group.device), _folder(checkpoint_dir) as folder, _bar(config, progress) as bars:
        job = _job(config, split, None if isinstance(loss, str) else loss)
        trainer = Trainer(job, split, group, FolderStore(folder), [*bars, *callbacks])
        trainer.fit()
        return _result(trainer)


def _config(params: Mapping[str, Any], given: Mapping[str, Any], loss: Loss | None) -> TrainingConfig:
    """The validated sections, with the keywords that are not None."""
    for name in params:
        if name not in SECTIONS:
            raise ConfigError(f"params: unknown section {name!r}{nearest(str(name), SECTIONS)}")
        if not isinstance(params[name], Mapping | None):
            raise ConfigError(
                f"params: section {name} must be a mapping (got {params[name]!r}). Pass a dict of its keys."
            )
    merged = {name: dict(section or {}) for name, section in params.items()}
    if isinstance(loss, str):
        _set_once(merged.setdefault("loss", {}), "name", loss, "loss")
    elif loss is not None and merged.get("loss"):
        raise ConfigError(
            f"params: section loss has options of a method by name (got loss={_name(loss)}). Pass them to the loss "
            "itself, as in functools.partial(MyMethod, gamma=2.0)."
        )
    for key, value in given.items():
        if value is not None:
            _set_once(merged.setdefault("train", {}), key, value, key)
    config = training_config(merged, "params")
    if config.train.soften:
        raise ConfigError(
            "params: train.soften: needs the audit of a project (got True). Pass distributions as labels."
        )
    return config


def _frequency_corrections(loss: Any) -> dict[str, Any]:
    """The options by which a class of methods from outside, or a partial of one, corrects class frequencies."""
    method, given = (loss.func, loss.keywords) if isinstance(loss, functools.partial) else (loss, {})
    if not (isinstance(method, type) and issubclass(method, Method) and method.frequency_options):
        return {}
    options = keyword_options(method)(**given)
    return {name: options[name] for name in method.frequency_options if options[name]}


def _set_once(section: dict[str, Any], key: str, value: Any, keyword: str) -> None:
    if key in section:
        raise ConfigError(
            f"{keyword}: given as a keyword and in params (got {value!r} and {section[key]!r}). Keep one of them."
        )
    section[key] = value


def _split(
    train: Dataset,
    valid: Dataset | None,
    classes: Sequence[str] | None,
    image_size: int | None,
    color: Color | None,
    fraction: float,
    seed: int,
) -> Split:
    """Training and validation samples with the same classes and the same size of images."""
    options: dict[str, Any] = {"image_size": image_size, "color": color}
    known = _samples(train, classes, "train", options)
    if absent := [name for i, name in enumerate(known.classes) if i not in known.label_N]:
        raise DataError(f"train: no image of {', '.join(absent)}. Add some, or leave it out of classes.")
    if valid is None:
        return Split(*hold_out(known, fraction, seed))
    others = _samples(valid, known.classes, "valid", options)
    shape, other = known.images_NHWC.shape[1:], others.images_NHWC.shape[1:]
    if other != shape:
        raise DataError(
            f"valid images: expected {list(shape)} as in train (got {list(other)}). Set image_size and color."
        )
    return Split(known, others)


def _samples(data: Dataset, classes: Sequence[str] | None, name: str, options: Mapping[str, Any]) -> Samples:
    if isinstance(data, str | Path):
        return _table(Path(data), classes, name, options)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise DataError(
            f"{name}: expected (images, labels) or the path of a table (got {type(data).__name__}). Pass one."
        )
    return make_samples(*data, classes, **options, name=name)


def _table(path: Path, classes: Sequence[str] | None, name: str, options: Mapping[str, Any]) -> Samples:
    """The samples of a table, which has its own classes, size and colour."""
    if unused := [option for option, value in options.items() if value is not None]:
        raise DataError(
            f"{unused[0]}: not for tables, whose images `prepare` has resized (got {options[unused[0]]!r} for {path}). "
            "Leave it out."
        )
    samples = load_samples(path)
    if classes is not None and tuple(classes) != samples.classes:
        expected, got = ", ".join(classes), ", ".join(samples.classes)
        raise DataError(f"{name}: expected the classes {expected} (got {got} in {path}). Use tables of one data set.")
    return samples


def _job(config: TrainingConfig, split: Split, loss: nn.Module | Callable[[Context], Method] | None) -> Job:
    """The job, identified by its parameters, data and initial weights, and the name of a loss from outside."""
    sections = config.resolved() if loss is None else {**config.dump(), "loss": {"name": _name(loss)}}
    weights = config.model.weights
    content: dict[str, Any] = {**sections, "data": _digest(split), "nla": nla.__version__}
    content["weights"] = sha256(weights_path(weights, Path())) if weights else None
    job = Job(
        config,
        num_classes=len(split.train.classes),
        image=image_spec(split.train.images_NHWC),
        fingerprint=fingerprint(content, [], Path()),
        facts={"params": sections},
        method=None if loss is None else functools.partial(_build, loss),
    )
    job, _ = with_first_weights(job, split.train.images_NHWC, Path())
    return job


def _build(loss: nn.Module | Callable[[Context], Method], context: Context) -> Method:
    """Builds the method from a loss that is not in METHODS."""
    if isinstance(loss, nn.Module):
        own = copy.deepcopy(loss)
        return own if isinstance(own, Method) else OneView(own)
    method = loss(context)
    if not isinstance(method, Method):
        raise ConfigError(
            f"loss: {_name(loss)} must return a nla.methods.Method (got {type(method).__name__}). Return a subclass of "
            "it, or pass an instance of a module that takes logits and labels."
        )
    return method


def _name(loss: Any) -> str:
    """Name of a loss from outside, with the options that its representation shows."""
    if isinstance(loss, functools.partial):
        options = ", ".join(f"{name}={value!r}" for name, value in sorted(loss.keywords.items()))
        return f"{_name(loss.func)}({options})"
    if isinstance(loss, nn.Module):
        return f"{type(loss).__module__}.{loss!r}"
    named = loss if hasattr(loss, "__qualname__") else type(loss)
    return f"{named.__module__}.{named.__qualname__}"


def _digest(split: Split) -> str:
    """Hash of images, labels and classes."""
    digest = hashlib.blake2b(digest_size=16)
    for samples in (split.train, split.valid):
        for array in (samples.images_NHWC, samples.label_N, samples.target_NC):
            if array is not None:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        digest.update("\n".join(samples.classes).encode())
    return digest.hexdigest()


def _device(device: torch.device | str | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise TrainingError(f"device: unknown (got {device!r}). Use cpu, cuda or cuda:N.") from None
    if chosen.type not in ("cpu", "cuda"):
        raise TrainingError(f"device: only cpu and cuda are supported (got {device}). Use one of them, or None.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise TrainingError(f"device: PyTorch finds {torch.cuda.device_count()} GPUs (got {device}). Use None or cpu.")
    return chosen


@contextlib.contextmanager
def _folder(checkpoint_dir: Path | str | None) -> Iterator[Path]:
    """The folder of checkpoints, which is removed at the end if it is a temporary one."""
    if checkpoint_dir is not None:
        yield Path(checkpoint_dir)
        return
    with tempfile.TemporaryDirectory(prefix="nla-fit-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _bar(config: TrainingConfig, progress: bool) -> Iterator[list[Callback]]:
    """The callback of the progress bar, if it is wanted."""
    if not progress:
        yield []
        return
    with progress_bar(config.train.epochs) as callback:
        yield [callback]


def _result(trainer: Trainer) -> FitResult:
    """The result of a trainer that is done."""
    job, samples, done = trainer.job, trainer.split.train, trainer.progress
    network: Classifier = job.build()
    network.backbone.load_state_dict(trainer.best)
    network = network.to(trainer.group.device).eval()
    card = {
        **network.describe(),
        **PREDICTION,
        "source": samples.source,
        "classes": list(samples.classes),
        "fingerprint": job.fingerprint,
        "selected": "best",
        "epoch": done.best_epoch,
        "metrics": done.history[done.best_epoch - 1],
        "facts": done.facts,
    }
    card["calibration"] = calibration(card, trainer.best, trainer.split.valid)
    predictor = Predictor(network, samples.classes, samples.source, calibration=Calibration.of_card(card))
    return FitResult(predictor, done.history, done.best_epoch, card)
