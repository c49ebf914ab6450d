"""Training methods: NLA, the project's own `plus`, and baselines. See nla.methods.registry for all of them by name."""

from __future__ import annotations

from nla.methods.base import Context, Method, Minibatch, Outcome
from nla.methods.registry import (
    METHODS,
    build_method,
    check_method,
    frequency_corrections,
    method_class,
    method_options,
    resolved_loss,
)

__all__ = [
    "METHODS",
    "Context",
    "Method",
    "Minibatch",
    "Outcome",
    "build_method",
    "check_method",
    "frequency_corrections",
    "method_class",
    "method_options",
    "resolved_loss",
]
