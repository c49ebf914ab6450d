"""The sections of params.yaml that a training depends on, checked each and together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nla.config.augment import AugmentConfig
from nla.config.base import section
from nla.config.loss import LossConfig
from nla.config.model import RESNETS, ModelConfig
from nla.config.train import TrainConfig
from nla.errors import ConfigError
from nla.methods import check_method, method_class


class Sections(NamedTuple):
    """In the order in which Job takes them."""

    model: ModelConfig
    augment: AugmentConfig
    loss: LossConfig
    train: TrainConfig

    def dump(self) -> dict[str, dict[str, Any]]:
        """JSON-able, by name; with defaults."""
        return {name: config.model_dump(mode="json") for name, config in self._asdict().items()}


def training_sections(params: Mapping[str, Any], file: str = "params.yaml") -> Sections:
    """Those of `params`. Raises ConfigError, which names `file` for a wrong key."""
    sections = Sections(
        section(ModelConfig, params, file),
        section(AugmentConfig, params, file),
        section(LossConfig, params, file),
        section(TrainConfig, params, file),
    )
    check_method(sections.loss)
    _check_together(sections)
    return sections


def _check_together(sections: Sections) -> None:
    """Raises ConfigError for what each section allows, and all of them do not."""
    model, loss, method = sections.model, sections.loss, method_class(sections.loss)
    if method.looks_inside and model.name not in RESNETS:
        raise ConfigError(
            f"model.name: {loss.name} uses parts of the network, which are known of {', '.join(RESNETS)} alone, not of "
            f"{model.name}"
        )
    if sections.train.compile and method.looks_inside:
        raise ConfigError(
            f"train.compile: {loss.name} uses parts of the network, and the whole is compiled: set it to false"
        )
    if method.needs_linear_head and model.head != "linear":
        raise ConfigError(f"model.head: {loss.name} uses the weights of a linear head: set it to linear")
