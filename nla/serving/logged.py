"""Logs a trained model as an MLflow model: the script `pyfunc.py`, this package's code, weights and card. No pickle."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nla.data.images import DEFAULT, encode_png
from nla.io import write_json
from nla.limits import ImageLimits
from nla.models.saved_model import read_card
from nla.serving.predictor import WEIGHTS
from nla.telemetry import disable_telemetry
from nla.workflow.provenance import fingerprint, imported_sources

disable_telemetry()  # MLflow starts its telemetry on import

import mlflow.pyfunc  # noqa: E402
from mlflow.models import Model, ModelSignature  # noqa: E402
from mlflow.models.model import ModelInfo  # noqa: E402
from mlflow.types import ColSpec, DataType, Schema  # noqa: E402
from mlflow.types.schema import Array  # noqa: E402

from nla.tracking.store import file_transfer  # noqa: E402

SCRIPT = Path(__file__).with_name("pyfunc.py")
PACKAGE = Path(__file__).parents[1]
REQUIREMENTS = (
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pandas",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "torch",
)
"""Packages that the predictor imports; a timm network also needs timm."""
SIGNATURE = ModelSignature(
    Schema([ColSpec(DataType.binary, "image")]),
    Schema(
        [
            ColSpec(DataType.string, "label"),
            ColSpec(Array(DataType.double), "probabilities"),
            ColSpec(DataType.double, "ambiguity"),
            ColSpec(DataType.double, "confidence"),
        ]
    ),
)


def log_served_model(run_id: str, models: Path, limits: ImageLimits = DEFAULT, readme: Path | None = None) -> ModelInfo:
    """Logs model.safetensors and model.json of `models` into the run, in the store that `configure` set.

    The model is served with the views of its card, and refuses images that are larger than `limits`. The
    model card `readme` is stored beside them. The run's metrics of the model's epoch are linked to the model.
    `model_uri` of the result loads it.
    """
    card = read_card(models / WEIGHTS)
    artifacts = {"weights": models / WEIGHTS, "card": (models / WEIGHTS).with_suffix(".json")}
    return log_script(
        run_id,
        SCRIPT,
        artifacts,
        card,
        limits=limits,
        readme=readme,
        example=example(card["image"]["size"]),
        requirements=requirements(card["architecture"]["name"]),
    )


def log_script(
    run_id: str,
    script: Path,
    artifacts: Mapping[str, Path],
    card: Mapping[str, Any],
    *,
    limits: ImageLimits,
    readme: Path | None,
    example: pd.DataFrame,
    requirements: list[str],
) -> ModelInfo:
    """Logs a script with its files, and this package's code, as a model of the run.

    Args:
        run_id: of a run in the store that `configure` set.
        script: what MLflow executes when it loads the model.
        artifacts: files and folders of the script, by its names for them; it also gets `limits`.
        card: of the model, with epoch, classes and source.
        limits: of the images that the model is given.
        readme: the model card.
        example: an input.
        requirements: packages that the script imports.
    """
    experiment_id = mlflow.MlflowClient().get_run(run_id).info.experiment_id
    mlflow.set_experiment(experiment_id=experiment_id)
    with file_transfer(), tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder, "limits.json"), asdict(limits), sealed=True)
        files = {**artifacts, "limits": Path(folder, "limits.json"), **({"readme": readme} if readme else {})}
        logged: ModelInfo = Model.log(
            None,
            mlflow.pyfunc,
            name="model",
            run_id=run_id,
            step=card["epoch"],
            python_model=str(script),
            code_paths=[str(PACKAGE)],
            artifacts={name: str(path) for name, path in files.items()},
            signature=SIGNATURE,
            input_example=example,
            pip_requirements=requirements,
            metadata={"classes": card["classes"], "source": card["source"]},
        )
    return logged


def shipped_code(script: Path | None = None) -> str:
    """Hash of the code that a served model runs: the script, by default SCRIPT, and what it imports of this package."""
    root = PACKAGE.parent
    return fingerprint({}, imported_sources((script or SCRIPT).relative_to(root), root), root)


def requirements(architecture: str, *others: str) -> list[str]:
    """Requirements for serving, and `others`, pinned to the installed versions without local suffixes such as +cpu."""
    names = (*REQUIREMENTS, *others, *(["timm"] if architecture.startswith("timm/") else []))
    return [f"{name}=={version(name).split('+')[0]}" for name in names]


def example(size: int, images: int = 1) -> pd.DataFrame:
    """A table with grey images."""
    return pd.DataFrame({"image": [encode_png(np.full((size, size), 128, np.uint8))] * images})
