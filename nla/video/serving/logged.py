"""Logs a sequence model and its frame model as one MLflow model: `pyfunc.py`, this package's code, both with cards."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mlflow.models.model import ModelInfo

from nla.data.images import DEFAULT
from nla.limits import ImageLimits
from nla.models.saved_model import WEIGHTS, read_card
from nla.serving.logged import example, log_script, requirements
from nla.video.model_pair import FRAME_MODEL, SEQUENCE_MODEL, ModelPair
from nla.video.saved_model import load_sequence_model

SCRIPT = Path(__file__).with_name("pyfunc.py")
EXAMPLE = 3
"""Frames of the example of an input."""


def log_sequence_model(
    run_id: str, pair: ModelPair, limits: ImageLimits = DEFAULT, readme: Path | None = None
) -> ModelInfo:
    """Logs both models into the run, in the store that `configure` set, as the folders models/ and sequence/.

    Images that are larger than `limits` are refused. The model card `readme` is stored beside them. `model_uri` of the
    result loads it.
    """
    frame_card = read_card(pair.frame_model / WEIGHTS)
    _, card = load_sequence_model(pair.sequence_model / WEIGHTS)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = {}
        for name, source in ((FRAME_MODEL, pair.frame_model), (SEQUENCE_MODEL, pair.sequence_model)):
            artifacts[name] = Path(folder, name)
            artifacts[name].mkdir()
            for file in (source / WEIGHTS, (source / WEIGHTS).with_suffix(".json")):
                shutil.copy(file, artifacts[name])
        return log_script(
            run_id,
            SCRIPT,
            artifacts,
            card.model_dump(),
            limits=limits,
            readme=readme,
            example=example(frame_card["image"]["size"], EXAMPLE),
            requirements=requirements(frame_card["architecture"]["name"], "pyarrow"),
        )
