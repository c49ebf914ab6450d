"""A trained model in Python, and as an MLflow model that any MLflow server can serve.

    python examples/serving.py

At the end it prints the command that serves the model over HTTP.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from nla import Predictor, fit
from nla.data.images import encode_png
from nla.data.sources.synthetic import CLASSES, make_faces
from nla.serving.logged import log_served_model
from nla.tracking import configure

import mlflow  # isort: skip  # after nla, which turns its telemetry off


def main(folder: Path | None = None, faces: int = 600, epochs: int = 3) -> pd.DataFrame:
    """Trains a model and writes it into `folder`; returns the predictions of the MLflow model."""
    folder = folder or Path(tempfile.mkdtemp(prefix="nla-serving-"))
    images, label_N = make_faces(faces)
    fit((images, label_N), classes=CLASSES, epochs=epochs, batch_size=50, params={"model": {"width": 8}}).save(folder)
    files = [encode_png(image) for image in images[:3]]  # what a client would send

    prediction = Predictor.load(folder).predict(files)
    print("Predictor:", *prediction.label)

    uri = configure(folder)  # an SQLite store in the folder
    with mlflow.start_run() as run:
        model = log_served_model(run.info.run_id, folder)
    served: pd.DataFrame = mlflow.pyfunc.load_model(model.model_uri).predict(pd.DataFrame({"image": files}))
    print("MLflow:   ", *served["label"])
    print(f"MLFLOW_TRACKING_URI={uri} mlflow models serve -m {model.model_uri} --env-manager local")
    return served


if __name__ == "__main__":
    main()
