"""The files around a run: the two tables that it reads, and the models and positions that outlive its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nla.config.ray import RayConfig
from nla.data.positions_table import PositionsTable, write_positions
from nla.data.samples import Samples, load_samples
from nla.data.schema import TableInfo, read_info
from nla.errors import DataError
from nla.evaluation.fitted_calibration import fit_calibration
from nla.evaluation.predict import Views, predict
from nla.io import sha256
from nla.models.classifier import Classifier
from nla.models.saved_model import PREDICTION, load_state, save_model
from nla.training.checkpoint import read_group, read_progress
from nla.training.trainer import Split
from nla.workflow.runs import IMAGES

TRAIN, VALID = Path("data/train.parquet"), Path("data/valid.parquet")
DATA_FIELDS = {"image_size", "label_rule", "imbalance_factor", "train_rows", "noise"}
"""Parameters of `data` that MLflow shows beside those of training, to distinguish runs."""


@dataclass(frozen=True)
class Tables:
    """The tables of `prepare` that training reads."""

    split: Split
    info: TableInfo
    """Of the training table."""
    hashes: tuple[str, str]
    """SHA-256 of the files of train and valid."""

    @property
    def data_hash(self) -> str:
        """Both hashes, shortened for a tag."""
        return "-".join(sha[:16] for sha in self.hashes)


def read_tables(config: RayConfig, root: Path) -> Tables:
    """Reads both tables of the working directory.

    Images of more than `config.image_bytes` are memory-mapped from a file in the project `root`.

    Raises:
        DataError: a table is missing or damaged, or the two are of different sources, classes or sizes of images.
    """
    train, valid = (load_samples(path, config.image_bytes, root / IMAGES) for path in (TRAIN, VALID))
    require_alike(train, valid)
    return Tables(Split(train, valid), read_info(TRAIN), (sha256(TRAIN), sha256(VALID)))


def require_alike(train: Samples, valid: Samples) -> None:
    """Raises DataError unless labels and images of both tables mean the same, as if one was restored by itself."""
    for what, ours, others in (
        ("source", train.source, valid.source),
        ("classes", list(train.classes), list(valid.classes)),
        ("images", list(train.images_NHWC.shape[1:]), list(valid.images_NHWC.shape[1:])),
    ):
        if ours != others:
            raise DataError(
                f"{VALID}: {what}: must be {ours}, as in {TRAIN} (got {others}). Run `dvc repro -f prepare`."
            )


def data_params(info: TableInfo) -> dict[str, Any]:
    """Facts about the data, from the table: params.yaml may have changed since the `prepare` stage wrote it."""
    made = info.preparation
    return {"source": info.source} | (made.model_dump(include=DATA_FIELDS) if made else {})


def export(result: Path, models: Path, card: Mapping[str, Any], row_N: np.ndarray, valid: Samples) -> None:
    """Writes two models and the positions of the training samples into the folder `models`.

    model.safetensors + .json    the epoch with the best validation metric
    last.safetensors + .json     the last epoch
    positions.parquet            (p_GT, p_NN) of every training row, early and late; the cards have its hash

    Args:
        result: folder of the last checkpoint.
        card: contents of both cards besides epoch, metrics and calibration.
        row_N: row in `faces` of each training sample.
        valid: samples that each model is calibrated on.
    """
    progress = read_progress(result)
    tensors = {moment: tensor.numpy() for moment, tensor in read_group(result, "positions").items()}
    positions = models / "positions.parquet"
    write_positions(positions, PositionsTable(row_N, tensors, progress.moments, progress.epochs))
    card = {**card, "positions_sha256": sha256(positions)}
    for stem, group, epoch in (("model", "best", progress.best_epoch), ("last", "last", progress.epochs_done)):
        chosen = {"selected": group, "epoch": epoch, "metrics": progress.history[epoch - 1], "facts": progress.facts}
        state = read_group(result, group)
        chosen["calibration"] = calibration({**PREDICTION, **card}, state, valid)
        save_model(models / f"{stem}.safetensors", state, {**card, **chosen})


def calibration(card: Mapping[str, Any], state: Mapping[str, Tensor], valid: Samples) -> dict[str, Any]:
    """The section `calibration` of a card, for the network with the weights `state` and the views of the card.

    Computed as whatever uses the model computes: in float32, on a GPU if there is one.
    """
    model = Classifier.build(card)
    load_state(model, state, "the checkpoint")
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    p_NC = predict(model, valid.images_NHWC, Views(**card["views"]))
    return asdict(fit_calibration(p_NC, valid.label_N))
