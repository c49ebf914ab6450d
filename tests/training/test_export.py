from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from training_parts import SINGLE, MakeSamples, checkpoint_of, make_job

from nla.data.positions_table import read_positions
from nla.errors import Damaged, DataError, WeightsError
from nla.evaluation.fitted_calibration import fit_calibration
from nla.evaluation.predict import Views, predict
from nla.models.saved_model import load_model
from nla.training.artifacts import export
from nla.training.checkpoint_store import FolderStore
from nla.training.trainer import Split, Trainer


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_both_models_and_the_positions_outlive_training(tmp_path: Path, tiny_samples: MakeSamples, name: str) -> None:
    job, split = make_job(model={"name": name}, epochs=4, lr=0.1), Split(tiny_samples(40), tiny_samples(60, seed=1))
    progress = Trainer(job, split, SINGLE, FolderStore(tmp_path / "run")).fit()
    result, models, row_N = checkpoint_of(tmp_path / "run"), tmp_path / "models", np.arange(40) * 3
    card = {**job.build().describe(), "source": "tiny", "classes": ["a", "b", "c"], "fingerprint": "tiny"}
    models.mkdir()
    export(result, models, card, row_N, split.valid)
    names = ["last.json", "last.safetensors", "model.json", "model.safetensors", "positions.parquet"]
    assert sorted(path.name for path in models.iterdir()) == names
    for stem, group, epoch in (("model", "best", progress.best_epoch), ("last", "last", 4)):
        model, known = load_model(models / f"{stem}.safetensors")
        torch.testing.assert_close(
            model.backbone.state_dict(), load_file(result / f"{group}.safetensors"), rtol=0, atol=0
        )
        assert (known["selected"], known["epoch"], known["fingerprint"]) == (group, epoch, "tiny")
        assert known["metrics"] == json.loads((result / "state.json").read_text())["history"][epoch - 1]
        assert known["facts"]["precision"] == "fp32"
        p_NC = predict(model, split.valid.images_NHWC, Views(**known["views"]))
        assert known["calibration"] == asdict(fit_calibration(p_NC, split.valid.label_N))
    table, positions = pq.read_table(models / "positions.parquet"), load_file(result / "positions.safetensors")
    assert table["row"].to_pylist() == row_N.tolist()
    for time in ("early", "late"):
        columns = np.stack([table[f"{time}_p_GT"].to_numpy(), table[f"{time}_p_NN"].to_numpy()], 1)
        np.testing.assert_array_equal(columns, positions[time].numpy())
    moments = {key.decode(): int(value) for key, value in table.schema.metadata.items()}
    assert moments == {"early_epoch": 1, "late_epoch": 3, "epochs": 4}


def test_no_changed_byte_is_exported_or_measured(tmp_path: Path, tiny_samples: MakeSamples) -> None:
    job, split = make_job(epochs=1), Split(tiny_samples(40), tiny_samples(30, seed=1))
    Trainer(job, split, SINGLE, FolderStore(tmp_path / "run")).fit()
    result, models = checkpoint_of(tmp_path / "run"), tmp_path / "models"
    card = {**job.build().describe(), "source": "tiny", "classes": ["a", "b", "c"], "fingerprint": "tiny"}
    models.mkdir()
    export(result, models, card, np.arange(40), split.valid)
    _, known = load_model(models / "model.safetensors")
    positions = models / "positions.parquet"
    assert len(read_positions(positions, known["positions_sha256"]).row_N) == 40

    def flip(path: Path, at: int) -> None:
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)

    for at in np.random.default_rng(0).integers(0, positions.stat().st_size, 30).tolist():
        flip(positions, at)
        with pytest.raises(DataError, match=r"positions\.parquet: the file is damaged .*sha256.*dvc repro -sf train"):
            read_positions(positions, known["positions_sha256"])
        flip(positions, at)
    flip(models / "model.safetensors", -1)
    with pytest.raises(WeightsError, match="sha256"):
        load_model(models / "model.safetensors")
    flip(result / "best.safetensors", -1)
    with pytest.raises(Damaged, match=r"best\.safetensors: the file is damaged .*`dvc repro -sf train` retrains"):
        export(result, models, card, np.arange(40), split.valid)
