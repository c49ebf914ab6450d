"""The calibration of a sequence model, fitted on the annotated frames of validation."""

from __future__ import annotations

import numpy as np

from nla.config.sequence import SequenceConfig
from nla.evaluation.fitted_calibration import FittedCalibration, fit_calibration
from nla.video.frames import NO_LABEL
from nla.video.models import SequenceClassifier
from nla.video.predict import sequence_probabilities
from nla.video.sequences import Sequences


def fit_sequence_calibration(model: SequenceClassifier, valid: Sequences, config: SequenceConfig) -> FittedCalibration:
    """Fits the probabilities that the model predicts with, of both views and all windows, to the labels as given.

    Frames of a video are alike: whole videos are cross-fitted, and standard errors are over videos.
    """
    p, labels, videos = [np.empty((0, len(valid.classes)), np.float32)], [np.empty(0, np.int64)], []
    for number, video in enumerate(valid.videos):
        own = video.label_T != NO_LABEL
        p_TC = sequence_probabilities(model, video.features_T2F, video.frame_T, config.window, config.overlap)
        p.append(p_TC[own])
        labels.append(video.label_T[own])
        videos += [number] * int(own.sum())
    return fit_calibration(np.concatenate(p), np.concatenate(labels), np.array(videos, np.int64))
