"""A finished training's checkpoint -> the files that outlive it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nla.data.positions import PositionsTable, write_positions
from nla.models.card import save_model
from nla.training.checkpoint import read_group, read_progress


def export(result: Path, models: Path, card: Mapping[str, Any], row_N: np.ndarray) -> None:
    """Writes the two models and the positions of the training samples.

    model.safetensors + .json    the epoch that validation chose
    last.safetensors + .json     the last epoch
    positions.parquet            (p_GT, p_NN) of every training row, early and late

    Args:
        result: folder of the last checkpoint.
        card: what the cards hold beside epoch and metrics.
        row_N: row in `faces` of each training sample.
    """
    progress = read_progress(result)
    for stem, group, epoch in (("model", "best", progress.best_epoch), ("last", "last", progress.epochs_done)):
        chosen = {"selected": group, "epoch": epoch, "metrics": progress.history[epoch - 1], "facts": progress.facts}
        save_model(models / f"{stem}.safetensors", read_group(result, group), {**card, **chosen})
    positions = {moment: tensor.numpy() for moment, tensor in read_group(result, "positions").items()}
    table = PositionsTable(row_N, positions, progress.moments, progress.epochs)
    write_positions(models / "positions.parquet", table)
