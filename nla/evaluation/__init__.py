"""Evaluation of a model: metrics, intervals, figures."""
