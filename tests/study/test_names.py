"""What results are named by: records of a study must neither be lost for nothing nor stand for another training."""

from __future__ import annotations

from typing import Any

import pytest

from nla.config.augment import AugmentConfig
from nla.config.base import DEFAULTS, Section
from nla.config.data import INGEST_KEYS, DataConfig
from nla.config.evaluate import EvaluateConfig
from nla.config.loss import LossConfig
from nla.config.model import ModelConfig
from nla.config.train import TrainConfig

NOISE = {"kind": "symmetric", "rate": 0.0, "exact": True, "mapping": {}, "valid": False}
OF_DATA: dict[str, Any] = {
    "image_size": 48,
    "color": "grey",
    "label_rule": "majority",
    "contempt": True,
    "valid_fraction": 0.1,
    "drop_leaks": False,
    "seed": 0,
    "imbalance_factor": None,
    "train_rows": None,
    "noise": NOISE,
    "corrections": "data/corrections.csv",
    "correct_test": False,
}
OF_TRAINING: dict[str, Any] = {
    "seed": 0,
    "epochs": 5,
    "batch_size": 64,
    "sampler": "shuffle",
    "optimizer": "adamw",
    "lr": 0.003,
    "weight_decay": 0.05,
    "momentum": 0.9,
    "schedule": "one_cycle",
    "gamma": 0.9,
    "grad_clip": 0.0,
    "ema": 0.0,
    "precision": "auto",
    "channels_last": True,
    "compile": False,
    "freeze_batchnorm": False,
    "select": "accuracy",
    "patience": 0,
    "soften": False,
}
OF_THE_NETWORK = {
    "name": "resnet18",
    "width": 16,
    "stem": "stride2",
    "input_size": None,
    "dropout": 0.0,
    "head": "linear",
    "weights": None,
}


OF_THE_LOSS = dict.fromkeys(LossConfig.model_fields) | {"name": "nla", "options": {}, "variant": "paper"}


@pytest.mark.parametrize(
    ("kind", "others", "defaults"),
    [
        (DataConfig, INGEST_KEYS, OF_DATA),
        (TrainConfig, set(), OF_TRAINING),
        (ModelConfig, set(), OF_THE_NETWORK),
        (AugmentConfig, set(), {"recipe": "affine"}),
        (LossConfig, set(), OF_THE_LOSS),
        (EvaluateConfig, {"bins", "bootstrap", "seed"}, {"mirror": True, "shift": 0}),
    ],
)
def test_a_changed_default_is_counted(kind: type[Section], others: set[str], defaults: dict[str, Any]) -> None:
    """Who changes one above raises DEFAULTS. A new key is added to them, with what was done before there was one."""
    assert DEFAULTS == 1
    assert kind().model_dump(mode="json", exclude=others) == defaults
    assert kind().stated() == {}


def test_what_is_stated_is_what_differs() -> None:
    config = DataConfig(seed=3, noise={"rate": 0.3})  # type: ignore[arg-type]
    assert config.stated(exclude=INGEST_KEYS) == {"seed": 3, "noise": {"rate": 0.3}}
    assert DataConfig(seed=0, noise={"rate": 0.0}).stated() == {}  # type: ignore[arg-type]
