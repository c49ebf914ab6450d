"""Script that MLflow stores with a model and executes when it loads it.

Input: a table with the binary column `image` (encoded image files; JSON requests carry them as base64, which MLflow
decodes in `dataframe_split` and `dataframe_records`, and `image_content` in `instances` and `inputs`). Larger images
are refused than `data.max_pixels` and `data.max_image_bytes` permitted when the model was registered.
Output: a table with `label`, `probabilities` (calibrated, ordered as `classes` in the model's metadata), `ambiguity`
(of the probabilities before calibration) and `confidence` (the calibrated probability of the label).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from nla.errors import DataError
from nla.io import read_json_as
from nla.limits import ImageLimits
from nla.serving.base64_images import image_content
from nla.serving.predictor import Predictor


class ServedModel(PythonModel):
    """Adapts Predictor to MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the weights, with the card beside them, and the limits of images.

        Raises:
            NLAError: one of these files is missing or damaged.
        """
        path = context.artifacts.get("limits")  # missing in older models
        limits = read_json_as(Path(path), ImageLimits, "Run `dvc repro -sf register`.") if path else ImageLimits()
        self.predictor = Predictor.load(Path(context.artifacts["weights"]), limits=limits)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Returns one row per image, with the index of the input.

        Raises:
            MlflowException: an input is not an image (status 400 from the server); the message names the first, from 0.
        """
        limits = self.predictor.limits
        try:
            prediction = self.predictor.predict(
                [image_content(row, image, limits) for row, image in enumerate(model_input["image"])]
            )
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(prediction.columns(), index=model_input.index)


set_model(ServedModel())
