"""Training methods by name: NLA, the project's own `plus`, and rivals. Each method has one file, and one line here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn

from nla.config.base import nearest
from nla.config.loss import OF_NLA, LossConfig
from nla.errors import ConfigError
from nla.losses import (
    ClassBalancedLoss,
    CrossEntropyLoss,
    FocalLoss,
    GeneralisedCrossEntropyLoss,
    LabelSmoothingLoss,
    LogitAdjustedLoss,
    SymmetricCrossEntropyLoss,
)
from nla.methods.base import Context, Method, Minibatch, OneView, Outcome
from nla.methods.co_teaching import CoTeaching
from nla.methods.eac import ErasingAttention
from nla.methods.elr import EarlyLearning
from nla.methods.ldam import LabelDistributionAwareMargin
from nla.methods.mixup import Mixup
from nla.methods.nla import NLA
from nla.methods.plus import Plus
from nla.methods.rul import RelativeUncertainty
from nla.methods.scn import SelfCure

__all__ = [
    "METHODS",
    "Context",
    "Method",
    "Minibatch",
    "Outcome",
    "build_method",
    "check_method",
    "method_class",
    "options_of",
]


class Entry(NamedTuple):
    """The function that builds a method, and the callable whose keyword-only arguments are the method's options."""

    build: Callable[..., Method]
    takes: Callable[..., Any]


def plain(loss: Callable[..., nn.Module]) -> Entry:
    """Returns the entry of a loss of logits and targets."""
    return Entry(lambda context, **options: OneView(loss(**options)), loss)


def counted(loss: Callable[..., nn.Module]) -> Entry:
    """Returns the entry of a loss of logits and targets that takes the class counts as its first argument."""
    return Entry(lambda context, **options: OneView(loss(context.class_counts, **options)), loss)


def strategy(method: Callable[..., Method]) -> Entry:
    """Returns the entry of a method that is more than a loss."""
    return Entry(method, method)


METHODS: dict[str, Entry] = {
    "nla": strategy(NLA),
    "plus": strategy(Plus),
    "ce": plain(CrossEntropyLoss),
    "label_smoothing": plain(LabelSmoothingLoss),
    "focal": plain(FocalLoss),
    "class_balanced": counted(ClassBalancedLoss),
    "logit_adjustment": counted(LogitAdjustedLoss),
    "ldam": strategy(LabelDistributionAwareMargin),
    "gce": plain(GeneralisedCrossEntropyLoss),
    "sce": plain(SymmetricCrossEntropyLoss),
    "mixup": strategy(Mixup),
    "elr": strategy(EarlyLearning),
    "co_teaching": strategy(CoTeaching),
    "scn": strategy(SelfCure),
    "rul": strategy(RelativeUncertainty),
    "eac": strategy(ErasingAttention),
}


def build_method(config: LossConfig, context: Context) -> Method:
    """Builds the method that the section `loss` selects. Raises ConfigError for a value out of its range."""
    # The options of NLA are fields of the section itself.
    given = config.model_dump(include=OF_NLA) if config.name == "nla" else config.options
    try:
        return METHODS[config.name].build(context, **given)
    except ValueError as error:
        raise ConfigError(f"loss.options: {error}") from None


def options_of(config: LossConfig) -> dict[str, Any]:
    """Returns `loss.options`, completed with the published values of the options that are not given."""
    published = {
        name: parameter.default
        for name, parameter in inspect.signature(METHODS[config.name].takes).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return published | config.options


def set_for_nla(config: LossConfig) -> list[str]:
    """Returns the names of the NLA parameters that are not null."""
    return [*config.model_dump(include=OF_NLA - {"variant"}, exclude_none=True)]


def method_class(config: LossConfig) -> type[Method]:
    """Returns the class of the method, whose attributes state what it needs from the network."""
    takes = METHODS[config.name].takes
    return takes if isinstance(takes, type) and issubclass(takes, Method) else OneView


def check_method(config: LossConfig) -> None:
    """Raises ConfigError for an unknown method, or for parameters that the method does not take."""
    if config.name not in METHODS:
        raise ConfigError(f"loss.name: unknown method {config.name!r}{nearest(config.name, list(METHODS))}")
    valid = options_of(config.model_copy(update={"options": {}}))
    for name in set_for_nla(config) if config.name != "nla" else ():
        instead = f"set loss.options.{name}" if name in valid else "leave it null"
        raise ConfigError(f"loss.{name} is a parameter of nla, which {config.name} does not look at: {instead}")
    for name, value in config.options.items():
        if name not in valid:
            raise ConfigError(f"loss.options: {config.name} has no option {name!r}{nearest(name, list(valid))}")
        if not _alike(value, valid[name]):
            kind = type(valid[name]).__name__
            raise ConfigError(f"loss.options.{name}: {value!r} is no {kind}, such as {valid[name]!r}")


def _alike(value: Any, published: Any) -> bool:
    """Whether a value has the type of the published one; an int is accepted for a float."""
    if isinstance(published, bool) or isinstance(value, bool):
        return type(value) is type(published)
    return isinstance(value, int | float if isinstance(published, float) else type(published))
