"""Training methods by name. Each is one module and one METHODS entry.

The options of a method are the keyword-only arguments of its loss or class, and their defaults are the published ones.
`method_options` returns the effective values; all code must get options from here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from nla.config.base import nearest
from nla.config.loss import LossConfig
from nla.errors import ConfigError
from nla.losses.ce import CrossEntropyLoss
from nla.losses.class_balanced import ClassBalancedLoss
from nla.losses.focal import FocalLoss
from nla.losses.gce import GeneralisedCrossEntropyLoss
from nla.losses.label_smoothing import LabelSmoothingLoss
from nla.losses.logit_adjustment import LogitAdjustedLoss
from nla.losses.nla import nla_options
from nla.losses.sce import SymmetricCrossEntropyLoss
from nla.methods.base import Context, Method, OneView
from nla.methods.ce2 import TwoViewCrossEntropy
from nla.methods.co_teaching import CoTeaching
from nla.methods.eac import ErasingAttention
from nla.methods.elr import EarlyLearning
from nla.methods.forward import ForwardCorrection
from nla.methods.ldam import LabelDistributionAwareMargin
from nla.methods.mixup import Mixup
from nla.methods.nla import NLA
from nla.methods.plus import Plus
from nla.methods.resup import ReSup
from nla.methods.rul import RelativeUncertainty
from nla.methods.scn import SelfCure
from nla.methods.sop import SparseOverParameterisation


class Entry(NamedTuple):
    """A method of the registry."""

    build: Callable[..., Method]
    """build(context, **options)."""
    options: Callable[..., dict[str, Any]]
    """options(**given): all options, given options over defaults."""
    method_class: type[Method] = OneView
    frequency_options: tuple[str, ...] = ()
    """As for Method."""


def plain(loss: Callable[..., nn.Module]) -> Entry:
    """Returns the entry for a `loss(logits, targets)`."""
    return Entry(lambda context, **options: OneView(loss(**options)), keyword_options(loss))


def counted(loss: Callable[..., nn.Module], *frequency_options: str) -> Entry:
    """Returns the entry for a `loss(logits, targets)` that takes the class counts as its first argument.

    `frequency_options` are those that correct class frequencies, each of them off at 0.
    """

    def build(context: Context, **options: Any) -> Method:
        return OneView(loss(context.class_counts, **options))

    return Entry(build, keyword_options(loss), frequency_options=frequency_options)


def strategy(method: type[Method]) -> Entry:
    """Returns the entry for a method with its own training step."""
    return Entry(method, keyword_options(method), method, method.frequency_options)


def keyword_options(function: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Returns a function that adds the defaults of `function`'s keyword-only arguments to the options it is given.

    An int given for a float option becomes a float, so that `1` and `1.0` hash to the same run.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }

    floats = {name for name, value in defaults.items() if isinstance(value, float)}

    def complete(**given: Any) -> dict[str, Any]:
        return defaults | {name: float(value) if name in floats else value for name, value in given.items()}

    return complete


METHODS: dict[str, Entry] = {
    "nla": Entry(NLA, nla_options, NLA),
    "plus": strategy(Plus),
    "forward": strategy(ForwardCorrection),
    "ce": plain(CrossEntropyLoss),
    "ce2": strategy(TwoViewCrossEntropy),
    "label_smoothing": plain(LabelSmoothingLoss),
    "focal": plain(FocalLoss),
    "class_balanced": counted(ClassBalancedLoss, "beta"),
    "logit_adjustment": counted(LogitAdjustedLoss, "tau"),
    "ldam": strategy(LabelDistributionAwareMargin),
    "gce": plain(GeneralisedCrossEntropyLoss),
    "sce": plain(SymmetricCrossEntropyLoss),
    "mixup": strategy(Mixup),
    "elr": strategy(EarlyLearning),
    "sop": strategy(SparseOverParameterisation),
    "co_teaching": strategy(CoTeaching),
    "resup": strategy(ReSup),
    "scn": strategy(SelfCure),
    "rul": strategy(RelativeUncertainty),
    "eac": strategy(ErasingAttention),
}


def method_options(loss: LossConfig) -> dict[str, Any]:
    """Returns all options of the method with their effective values: params.yaml over the published defaults.

    The section must have passed `check_method`.
    """
    return METHODS[loss.name].options(**loss.given_options)


def resolved_loss(loss: LossConfig) -> dict[str, Any]:
    """Returns the section `loss` with effective values in place of nulls and omissions, JSON-serializable.

    Pipeline run names derive from it, so that `lam: null` and `lam: 0.5` are the same run. Study record names use only
    non-default values (`Section.stated`), so adding an option leaves committed records valid.
    """
    return loss.with_options(method_options(loss))


def build_method(loss: LossConfig, context: Context) -> Method:
    """Builds the method that the section `loss` selects. Raises ConfigError for a value out of its range."""
    try:
        return METHODS[loss.name].build(context, **method_options(loss))
    except ValueError as error:
        raise ConfigError(f"{loss.options_key}: {error}") from None


def method_class(loss: LossConfig) -> type[Method]:
    """Returns the class of the method, whose class attributes declare what it needs from the network."""
    return METHODS[loss.name].method_class


def frequency_corrections(loss: LossConfig) -> dict[str, Any]:
    """Returns the options by which the method corrects class frequencies, with their values; {} if it does not."""
    options = method_options(loss)
    return {name: options[name] for name in METHODS[loss.name].frequency_options if options[name]}


def check_method(loss: LossConfig) -> None:
    """Raises ConfigError for an unknown method, or for options that the method does not take."""
    if loss.name not in METHODS:
        raise ConfigError(f"loss.name: unknown method {loss.name!r}{nearest(loss.name, list(METHODS))}")
    defaults = method_options(LossConfig(name=loss.name))
    for name in loss.unused_fields:
        got = f"(got {getattr(loss, name)!r})"
        if name in defaults:
            raise ConfigError(f"loss.{name}: {loss.name} reads this option elsewhere {got}. Set loss.options.{name}.")
        raise ConfigError(f"loss.{name}: {loss.name} has no such option; it belongs to nla {got}. Set it to null.")
    for name, value in loss.options.items():
        _check_option(loss, name, value, defaults)


def _check_option(loss: LossConfig, name: str, value: Any, defaults: dict[str, Any]) -> None:
    """Raises ConfigError if the method has no such option, or it is in the wrong section or of the wrong type."""
    key = f"loss.options.{name}"
    if name not in defaults:
        raise ConfigError(f"{key}: unknown option of {loss.name}{nearest(name, list(defaults))}")
    if loss.options_key != "loss.options":
        instead = f"{loss.options_key}.{name}"
        raise ConfigError(f"{key}: {loss.name} reads this option elsewhere (got {value!r}). Set {instead}.")
    if not _same_type(value, defaults[name]):
        kind = type(defaults[name]).__name__
        raise ConfigError(
            f"{key}: must be of type {kind} (got {value!r}). The published default is {defaults[name]!r}."
        )


def _same_type(value: Any, default: Any) -> bool:
    """Whether a value has the type of the default; an int is accepted for a float."""
    if isinstance(default, bool) or isinstance(value, bool):
        return type(value) is type(default)
    return isinstance(value, int | float if isinstance(default, float) else type(default))
