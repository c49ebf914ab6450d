"""Using a trained model: `Predictor` in Python, and the script that MLflow serves."""

from __future__ import annotations

from nla.serving.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
