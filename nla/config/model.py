"""`model`: the network and its initial weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from nla.config.base import Section, nearest
from nla.config.network_catalog import NAMES, NETWORKS, find_network
from nla.limits import LEAST_SIDE, MOST_SIDE


class ModelConfig(Section):
    """The network and its initial weights."""

    NAME: ClassVar[str] = "model"

    name: str = "resnet18"
    """A key of nla.config.network_catalog.NETWORKS, or timm/NAME for any timm network (`pip install -e .[timm]`)."""
    width: Annotated[int, Field(ge=4, le=256)] = 16
    """Channels after the stem, for networks with a width; the ResNet paper uses 64."""
    stem: str = "stride2"
    """imagenet: 7x7 stride 2 and max pooling; stride2: 3x3 stride 2; stride1: 3x3 stride 1."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability before the last layer."""
    head: Literal["linear", "cosine"] = "linear"
    """The last layer. cosine: scaled cosines of features and class weights, as in LDAM."""
    input_size: Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] | None = None
    """Side to which the network resizes its images, on its device; null: that of the network in NETWORKS, if any, or
    else the images stay as they are."""
    weights: str | None = None
    """Initial weights: a local file, or face_recognition_models, the package; null: random initialisation."""

    @field_validator("name")
    @classmethod
    def _name_exists(cls, name: str) -> str:
        if find_network(name) is None:
            raise ValueError(f"unknown network{nearest(name, NAMES)}")
        return name

    @field_validator("stem")
    @classmethod
    def _stem_exists(cls, stem: str) -> str:
        stems = tuple(dict.fromkeys(stem for network in NETWORKS.values() for stem in network.stems))
        if stem not in stems:
            raise ValueError(f"unknown stem{nearest(stem, stems)}")
        return stem

    @model_validator(mode="after")
    def _network_has_what_is_set(self) -> Self:
        network = find_network(self.name)
        assert network is not None  # checked above
        if self.head not in network.heads:
            others = [name for name, other in NETWORKS.items() if self.head in other.heads]
            raise ValueError(f"head={self.head} is only available for {', '.join(others)}, not for {self.name}")
        if network.stems and self.stem not in network.stems:
            raise ValueError(f"stem={self.stem} is not available for {self.name}: valid are {', '.join(network.stems)}")
        if self.input_size is not None and self.input_size < network.smallest_input:
            raise ValueError(
                f"input_size={self.input_size} is too small for {self.name}, which needs at least "
                f"{network.smallest_input}"
            )
        return self
