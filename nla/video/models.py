"""Networks over the features of the frames of a clip: [B, T, F] -> logits [B, T, C].

    x = features, normalised by their mean and deviation in training, projected to D
    transformer   + sines of the frame's number (optional), encoder layers with self-attention over the window
    convolution   layers of dilated convolution over time, each added to its input
    logits = linear(x)

The encoder is that of V-NAW (arXiv 2503.15970), which has 4 layers of 512 features with 1 head, and no positions. Its
code has no mask; here padding is masked, and changes nothing.

Legend: B clips, T frames of a window, F features of a frame, D features inside, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from nla.config.sequence import SequenceModelConfig
from nla.models.base import Network

LONGEST_WAVE = 10_000.0
"""Vaswani et al. 2017, section 3.5."""


@dataclass(frozen=True)
class SequenceArchitecture:
    """Everything that is needed to build the network; saved with the weights."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Literal["transformer", "convolution"]
    features: Annotated[int, Field(ge=1, le=65536)]
    """F, of the frame model."""
    num_classes: Annotated[int, Field(ge=2, le=127)]
    width: Annotated[int, Field(ge=4, le=4096)]
    layers: Annotated[int, Field(ge=1, le=48)]
    heads: Annotated[int, Field(ge=1, le=64)]
    feedforward: Annotated[int, Field(ge=1, le=16384)]
    dropout: Annotated[float, Field(ge=0, lt=1)]
    positions: bool
    kernel: Annotated[int, Field(ge=1, le=101)]

    @classmethod
    def of(cls, config: SequenceModelConfig, features: int, num_classes: int) -> SequenceArchitecture:
        """The architecture that `sequence.model` selects."""
        return cls(features=features, num_classes=num_classes, **config.model_dump())


class SequenceClassifier(Network):
    """Features of clips -> logits of their frames.

    Model files hold the state dict of `backbone`, with mean and deviation of the features.
    """

    architecture: SequenceArchitecture

    def __init__(self, architecture: SequenceArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.backbone = _Backbone(architecture)

    def forward(self, features_BTF: Tensor, mask_BT: Tensor, frame_BT: Tensor) -> Tensor:
        """Logits [B, T, C] of the frames that the mask marks; those of others mean nothing.

        Args:
            features_BTF: of any floating type.
            mask_BT: bool, False for padding; each clip has one frame at least.
            frame_BT: frame numbers, for positions.
        """
        logits: Tensor = self.backbone(features_BTF, mask_BT, frame_BT)
        return logits

    def set_scale(self, mean_F: Tensor, std_F: Tensor) -> None:
        """Sets the mean and the deviation of the features by which they are normalised."""
        for name, buffer in self.backbone.named_buffers():
            buffer.copy_({"mean_F": mean_F, "std_F": std_F}[name])

    def describe(self) -> dict[str, Any]:
        """JSON-serializable description for `build`."""
        return {"architecture": asdict(self.architecture)}

    @classmethod
    def build(cls, description: Mapping[str, Any]) -> SequenceClassifier:
        """Builds a network from the result of `describe`, randomly initialised."""
        return cls(SequenceArchitecture(**description["architecture"]))


class _Backbone(nn.Module):
    mean_F: Tensor
    std_F: Tensor

    def __init__(self, a: SequenceArchitecture) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(a.features))
        self.register_buffer("std_F", torch.ones(a.features))
        self.project = nn.Linear(a.features, a.width)
        self.positions = a.positions
        self.body = _Encoder(a) if a.name == "transformer" else _Convolutions(a)
        self.head = nn.Linear(a.width, a.num_classes)

    def forward(self, features_BTF: Tensor, mask_BT: Tensor, frame_BT: Tensor) -> Tensor:
        # Padding may hold anything, NaN included, which a product with 0 would keep.
        x_BTF = ((features_BTF.float() - self.mean_F) / self.std_F).masked_fill(~mask_BT[..., None], 0.0)
        x_BTD = self.project(x_BTF)
        if self.positions:
            x_BTD = x_BTD + waves(frame_BT - frame_BT[:, :1], x_BTD.shape[2])
        logits_BTC: Tensor = self.head(self.body(x_BTD, mask_BT))
        return logits_BTC


class _Encoder(nn.Module):
    def __init__(self, a: SequenceArchitecture) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(a.width, a.heads, a.feedforward, a.dropout, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, a.layers, enable_nested_tensor=False)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        encoded: Tensor = self.layers(x_BTD, src_key_padding_mask=~mask_BT)
        return encoded


class _Convolutions(nn.Module):
    def __init__(self, a: SequenceArchitecture) -> None:
        super().__init__()
        reach = (a.kernel - 1) // 2
        self.layers = nn.ModuleList(
            nn.Conv1d(a.width, a.width, a.kernel, padding=reach * 2**i, dilation=2**i) for i in range(a.layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(a.width) for _ in range(a.layers))
        self.dropout = nn.Dropout(a.dropout)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            inside = norm(x_BTD).masked_fill(~mask_BT[..., None], 0.0)  # as the padding of the convolution
            x_BTD = x_BTD + self.dropout(torch.relu(layer(inside.transpose(1, 2)).transpose(1, 2)))
        return x_BTD


def waves(position_BT: Tensor, width: int) -> Tensor:
    """Sines and cosines of positions, [B, T, width] float32, in waves of 2 pi to LONGEST_WAVE 2 pi frames."""
    rate_D = torch.exp(torch.arange(0, width, 2, device=position_BT.device) * (-math.log(LONGEST_WAVE) / width))
    angle_BTD = position_BT.float()[..., None] * rate_D
    return torch.stack([angle_BTD.sin(), angle_BTD.cos()], dim=-1).flatten(2)
