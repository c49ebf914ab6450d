"""What every network is described by, and what a network with feature maps offers.

Legend: N images, D features, h x w cells of a feature map.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from torch import Tensor, nn

from nla.config.base import nearest
from nla.config.model import ModelConfig
from nla.config.network_catalog import NAMES, NETWORKS, find_network
from nla.limits import LEAST_SIDE, MOST_SIDE


def _network_name(name: str) -> str:
    if find_network(name) is None:
        raise ValueError(f"unknown network{nearest(name, NAMES)}")
    return name


def _stem_name(stem: str) -> str:
    stems = tuple(dict.fromkeys(stem for network in NETWORKS.values() for stem in network.stems))
    if stem not in stems:
        raise ValueError(f"unknown stem{nearest(stem, stems)}")
    return stem


def _int_only(number: Any) -> Any:
    if type(number) is not int:  # a Literal also takes what is equal: True and 1.0
        raise ValueError("must be a whole number")
    return number


# The limits hold for what is read from a card; a dataclass does not check them when code builds it.
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Deviation = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class ImageSpec:
    """The network's input: size in pixels, and mean and standard deviation per channel, for pixels in [0, 1]."""

    size: Annotated[int, Field(ge=1, le=512)]
    channels: Annotated[Literal[1, 3], BeforeValidator(_int_only)]
    mean: tuple[Share, ...]
    std: tuple[Deviation, ...]

    @property
    def color(self) -> Literal["grey", "rgb"]:
        """Name of the channel layout, as `nla.data.images.fit` takes it."""
        return "grey" if self.channels == 1 else "rgb"


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build the network; saved with the weights."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    """A card with a field of a later version must not build another network."""

    name: Annotated[str, AfterValidator(_network_name)]
    width: Annotated[int, Field(ge=1, le=256)]
    stem: Annotated[str, AfterValidator(_stem_name)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    num_classes: Annotated[int, Field(ge=2)]
    head: Literal["linear", "cosine"] = "linear"
    """Missing in cards that are older than this field, which means "linear"."""
    input_size: Annotated[int, Field(ge=LEAST_SIDE, le=MOST_SIDE)] | None = None
    """Side in pixels to which images are resized before they enter the network; None, as in older cards: not at all."""

    @classmethod
    def of(cls, config: ModelConfig, num_classes: int) -> Architecture:
        """The architecture that section `model` of params.yaml selects."""
        network = find_network(config.name)
        assert network is not None  # checked when the section was read
        side = config.input_size or network.input_size
        return cls(config.name, config.width, config.stem, config.dropout, num_classes, config.head, side)

    def input_side(self, image: ImageSpec) -> int:
        """Side of the images that enter the network, in pixels."""
        return self.input_size or image.size


def describe(architecture: Architecture, image: ImageSpec) -> dict[str, Any]:
    """JSON-serializable description for `Classifier.build` of a network that need not be built."""
    return {"architecture": asdict(architecture), "image": asdict(image)}


class Network(nn.Module):
    """What is trained: its backbone has all weights that are kept, and what is around it only prepares the input."""

    backbone: nn.Module
    architecture: object
    """What it was built from, for messages."""


class FeatureMapBackbone(nn.Module):
    """A network that classifies the spatial mean of its last feature maps.

    Methods that look inside the network (EAC, SCN, RUL) and Grad-CAM use these parts.
    """

    stride: int
    """Pixels between neighbouring cells of `maps`: cell i is centred on pixel offset + i * stride."""
    offset: int = 0
    """Pixel on which the first cell is centred; above 0 without padding."""
    dropout: nn.Dropout
    fc: nn.Linear
    """The last layer, D -> num_classes."""

    def maps(self, x: Tensor) -> Tensor:
        """Normalised images [N, channels, H, W] -> the last feature maps, [N, D, h, w]."""
        raise NotImplementedError

    def classify(self, features_ND: Tensor) -> Tensor:
        """Features, which are spatial means of the maps -> logits [N, num_classes]."""
        logits_NC: Tensor = self.fc(self.dropout(features_ND))
        return logits_NC

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images [N, channels, H, W] -> logits [N, num_classes]."""
        return self.classify(self.maps(x).mean(dim=(2, 3)))
