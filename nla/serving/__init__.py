"""Serving of a trained model: `Predictor` for Python, and the script that MLflow runs."""

from __future__ import annotations

from nla.evaluation.predict import Views
from nla.serving.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor", "Views"]
