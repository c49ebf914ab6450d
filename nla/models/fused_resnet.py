"""A trained ResNet rewritten for prediction on a CPU: half the time, and the same outputs up to rounding.

BatchNorm is folded into the convolution before it, whose weights are stored channels-last, and ReLU and the addition of
the shortcut are done by the convolution itself, while its output is in the processor's cache. The operators are those
of oneDNN that `torch.compile` puts into its programs; here they take no compiler and no seconds at the start.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from nla.models.classifier import Classifier
from nla.models.resnet import BasicBlock, Bottleneck, ResNet


def fused(classifier: Classifier, dtype: torch.dtype = torch.float32) -> Classifier | None:
    """A classifier with the same outputs; None where nothing is gained: another network, device or build of PyTorch.

    The last layer is shared with `classifier`, all other weights are copies.

    Args:
        classifier: the trained network.
        dtype: of the convolutions, float32 or bfloat16; the mean of the last feature maps and the last layer are
            computed in float32.
    """
    if not (isinstance(classifier.backbone, ResNet) and _is_supported(classifier, dtype)):
        return None
    faster = copy.copy(classifier)
    faster._modules = {**classifier._modules, "backbone": _FusedResNet(classifier.backbone, dtype)}
    faster._buffers = dict(classifier._buffers)
    faster.memory_format = torch.channels_last
    return faster.eval()


def _is_supported(classifier: Classifier, dtype: torch.dtype) -> bool:
    """Whether the operators are there, on a processor that can compute in `dtype`."""
    on_cpu = next(classifier.parameters()).device.type == "cpu"
    if not (on_cpu and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")):
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Convolution:
    """A convolution with its BatchNorm, for inputs [N, C, H, W] stored channels-last."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> None:
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        self.dtype, self.bias = dtype, bias.detach().to(dtype)
        self.weight = weight.detach().to(dtype, memory_format=torch.channels_last)
        self.geometry = (convolution.padding, convolution.stride, convolution.dilation, convolution.groups)

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """The output; with `then` "relu", its ReLU."""
        operator = torch.ops.mkldnn._convolution_pointwise.default
        y: Tensor = operator(x.to(self.dtype), self.weight, self.bias, *self.geometry, then, [], "")
        return y

    def add_to(self, shortcut: Tensor, x: Tensor) -> Tensor:
        """relu(output + shortcut), which overwrites the shortcut."""
        operator = torch.ops.mkldnn._convolution_pointwise_.binary
        y: Tensor = operator(shortcut, x, self.weight, self.bias, *self.geometry, "add", 1.0, "relu", [], "")
        return y


class _FusedBlock:
    """A block of a ResNet, which overwrites its input."""

    def __init__(self, block: BasicBlock | Bottleneck, dtype: torch.dtype) -> None:
        pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2)]
        if isinstance(block, Bottleneck):
            pairs.append((block.conv3, block.bn3))
        *self.inner, self.last = (_Convolution(*pair, dtype) for pair in pairs)
        self.shortcut = None if block.downsample is None else _Convolution(*_pair(block.downsample), dtype)

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.inner:
            y = convolution(y, "relu")
        return self.last.add_to(x if self.shortcut is None else self.shortcut(x), y)


def _pair(shortcut: nn.Sequential) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution, norm = shortcut
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return convolution, norm


class _FusedResNet(nn.Module):
    """Normalised images [N, channels, H, W] -> logits [N, num_classes] float32. Several threads can use it."""

    def __init__(self, network: ResNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.stem = _Convolution(network.conv1, network.bn1, dtype)
        self.maxpool, self.fc = network.maxpool, network.fc
        blocks = (module for module in network.modules() if isinstance(module, BasicBlock | Bottleneck))
        self.blocks = [_FusedBlock(block, dtype) for block in blocks]

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.stem(x, "relu"))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.fc(x.mean(dim=(2, 3), dtype=torch.float32))
        return logits
