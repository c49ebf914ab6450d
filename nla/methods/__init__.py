"""Training methods by name: NLA, `plus` beyond it, and rivals in one harness. One file a method, one line here."""

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
    """How a method is built, and the callable whose keyword-only arguments are its options."""

    build: Callable[..., Method]
    takes: Callable[..., Any]


def plain(loss: Callable[..., nn.Module]) -> Entry:
    """A loss of logits and targets."""
    return Entry(lambda context, **options: OneView(loss(**options)), loss)


def counted(loss: Callable[..., nn.Module]) -> Entry:
    """A loss of logits and targets that knows how many samples each class has."""
    return Entry(lambda context, **options: OneView(loss(context.class_counts, **options)), loss)


def strategy(method: Callable[..., Method]) -> Entry:
    """What is more than a loss."""
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
    """The method of the section `loss`. Raises ConfigError for a value out of its range."""
    # The options of NLA, which the search is for, are fields of the section itself.
    given = config.model_dump(include=OF_NLA) if config.name == "nla" else config.options
    try:
        return METHODS[config.name].build(context, **given)
    except ValueError as error:
        raise ConfigError(f"loss.options: {error}") from None


def options_of(config: LossConfig) -> dict[str, Any]:
    """`loss.options` with the published value of each option that is not given."""
    published = {
        name: parameter.default
        for name, parameter in inspect.signature(METHODS[config.name].takes).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    return published | config.options


def set_for_nla(config: LossConfig) -> list[str]:
    """Parameters of NLA that are not null."""
    return [*config.model_dump(include=OF_NLA - {"variant"}, exclude_none=True)]


def method_class(config: LossConfig) -> type[Method]:
    """The class of the method, which says what it needs of the network."""
    takes = METHODS[config.name].takes
    return takes if isinstance(takes, type) and issubclass(takes, Method) else OneView


def check_method(config: LossConfig) -> None:
    """Raises ConfigError for an unknown method, or parameters that it does not take."""
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
    """Whether a value can stand in place of the published one; a whole number can for a decimal one."""
    if isinstance(published, bool) or isinstance(value, bool):
        return type(value) is type(published)
    return isinstance(value, int | float if isinstance(published, float) else type(published))
