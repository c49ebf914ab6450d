"""Script that MLflow stores with a sequence model and executes when it loads it; the frame model is inside.

Input: a table whose rows are the frames of one clip, in order: the binary column `image` has crops of one face, as
encoded image files, or as their base64. Larger images are refused than `clips.max_pixels` and `clips.max_image_bytes`
permitted when the model was registered.
Output: for each frame `label`, `probabilities` (calibrated, ordered as `classes` in the model's metadata), `ambiguity`
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
from nla.video.streaming import StreamPredictor


class ServedSequenceModel(PythonModel):
    """Adapts StreamPredictor to MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads both models, with their cards, and the limits of images.

        Raises:
            NLAError: one of these files is missing or damaged.
        """
        files = {name: Path(path) for name, path in context.artifacts.items()}
        self.limits = read_json_as(files["limits"], ImageLimits, "Run `dvc repro -sf register` in video/.")
        self.predictor = StreamPredictor.load(files["models"], files["sequence"], self.limits)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Returns one row per frame, with the index of the input.

        Raises:
            MlflowException: a frame is not an image (status 400 from the server); the message names the first, from 1.
        """
        try:
            frames = [image_content(row, image, self.limits) for row, image in enumerate(model_input["image"], 1)]
            prediction = self.predictor.predict_clip(frames)
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        return pd.DataFrame(prediction.columns(), index=model_input.index)


set_model(ServedSequenceModel())
