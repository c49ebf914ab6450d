from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nla.models.resnet import BLOCKS, CosineLinear, ResNet


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


PUBLISHED = [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)]


@pytest.mark.parametrize(("name", "expected"), PUBLISHED)
def test_the_published_size(name: str, expected: int) -> None:
    """Parameters with 1000 classes, as torchvision's documentation gives them."""
    assert parameters(ResNet(name, 1000)) == expected


Shape = tuple[int, ...]
Kernels = tuple[tuple[int, int], ...]

BASIC: Kernels = ((3, 1), (3, 1))
"""Side of each convolution of a block, and its channels as a multiple of the stage's."""
BOTTLENECK: Kernels = ((1, 1), (3, 1), (1, 4))
LAYOUTS: dict[str, tuple[Kernels, Shape]] = {
    "resnet18": (BASIC, (2, 2, 2, 2)),
    "resnet34": (BASIC, (3, 4, 6, 3)),
    "resnet50": (BOTTLENECK, (3, 4, 6, 3)),
}


def torchvisions_tensors(name: str) -> dict[str, Shape]:
    """Names and shapes in its order, of RGB and 1000 classes.

    A stem, four stages with a shortcut convolution in the first block where the shape changes, and a head.
    """
    tensors: dict[str, Shape] = {}

    def layer(convolution: str, norm: str, out: int, into: int, side: int) -> None:
        tensors[f"{convolution}.weight"] = (out, into, side, side)
        tensors.update({f"{norm}.{key}": (out,) for key in ("weight", "bias", "running_mean", "running_var")})
        tensors[f"{norm}.num_batches_tracked"] = ()

    kernels, depths = LAYOUTS[name]
    layer("conv1", "bn1", 64, 3, 7)
    channels = 64
    for stage, depth in enumerate(depths, start=1):
        base = 32 * 2**stage
        for block in range(depth):
            here, into = f"layer{stage}.{block}", channels
            for i, (side, factor) in enumerate(kernels, start=1):
                layer(f"{here}.conv{i}", f"{here}.bn{i}", base * factor, into, side)
                into = base * factor
            if block == 0 and (stage > 1 or into != channels):
                layer(f"{here}.downsample.0", f"{here}.downsample.1", into, channels, 1)
            channels = into
    return tensors | {"fc.weight": (1000, channels), "fc.bias": (1000,)}


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_torchvisions_names_and_shapes(name: str, size: int) -> None:
    expected = torchvisions_tensors(name)
    trained = {key: shape for key, shape in expected.items() if key.split(".")[-1] in ("weight", "bias")}
    assert sum(math.prod(shape) for shape in trained.values()) == size, "the list itself is right"
    with torch.device("meta"):
        state = ResNet(name, 1000).state_dict()
    assert [(key, tuple(tensor.shape)) for key, tensor in state.items()] == list(expected.items())


def by_names(name: str, state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Logits by the tensors' names, stem stride2; a stage but the first halves the size in its first 3x3."""

    def layer(convolution: str, norm: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        x = F.conv2d(x, state[f"{convolution}.weight"], None, stride, state[f"{convolution}.weight"].shape[-1] // 2)
        mean, var, weight, bias = (
            state[f"{norm}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias

    kernels, depths = LAYOUTS[name]
    x = layer("conv1", "bn1", x, 2).clamp(min=0)
    for stage, depth in enumerate(depths, start=1):
        for block in range(depth):
            here, y, stride = f"layer{stage}.{block}", x, 2 if stage > 1 and block == 0 else 1
            for i, (side, _) in enumerate(kernels, start=1):
                y = layer(f"{here}.conv{i}", f"{here}.bn{i}", y, stride if side == 3 else 1)
                stride = 1 if side == 3 else stride
                y = y.clamp(min=0) if i < len(kernels) else y
            if f"{here}.downsample.0.weight" in state:
                x = layer(f"{here}.downsample.0", f"{here}.downsample.1", x, x.shape[-1] // y.shape[-1])
            x = (x + y).clamp(min=0)
    return x.mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]


@pytest.mark.parametrize("name", BLOCKS)
def test_logits_by_the_names_of_the_tensors(name: str) -> None:
    """What a file with these names means; every statistic and factor of BatchNorm is drawn, so that each counts."""
    torch.manual_seed(0)
    model = ResNet(name, 5, channels=1, width=4, stem="stride2").double().eval()
    for key, tensor in model.state_dict().items():
        if "bn" in key or "downsample.1" in key:
            if key.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5)
            elif key.endswith(("bias", "running_mean")):
                tensor.normal_(std=0.3)
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), by_names(name, model.state_dict(), x), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("stem", "side", "sizes"),
    [
        ("imagenet", 224, [56, 56, 28, 14, 7]),
        ("stride2", 48, [24, 24, 12, 6, 3]),
        ("stride1", 48, [48, 48, 24, 12, 6]),
    ],
)
@pytest.mark.parametrize(("name", "widths"), [("resnet18", [4, 4, 8, 16, 32]), ("resnet50", [4, 16, 32, 64, 128])])
def test_sizes_of_the_feature_maps(name: str, widths: list[int], stem: str, side: int, sizes: list[int]) -> None:
    model, seen = ResNet(name, 3, channels=1, width=4, stem=stem), []
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(name).register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 3)
    assert seen == [(2, width, size, size) for width, size in zip(widths, sizes, strict=True)]


@pytest.mark.parametrize(("name", "last", "channels"), [("resnet18", "bn2", 4), ("resnet50", "bn3", 16)])
def test_a_block_adds_its_shortcut(name: str, last: str, channels: int) -> None:
    """With the last BatchNorm of every block at 0, only shortcuts are left: relu(relu(x)) = relu(x)."""
    model = ResNet(name, 3, channels=1, width=4, stem="stride2").eval()
    block = model.get_submodule("layer1.1")
    torch.nn.init.zeros_(block.get_parameter(f"{last}.weight"))
    x = torch.randn(2, channels, 8, 8, generator=torch.manual_seed(0))
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize(("name", "features"), [("resnet18", 32), ("resnet50", 128)])
def test_a_cosine_head_knows_only_directions(name: str, features: int) -> None:
    model = ResNet(name, 3, channels=1, width=4, stem="stride2", head="cosine").eval()
    x_ND = torch.randn(5, features, generator=torch.manual_seed(0))
    w_CD = model.get_parameter("fc.weight").detach().double().numpy()
    expected = [[30 * x @ w / np.sqrt(x @ x) / np.sqrt(w @ w) for w in w_CD] for x in x_ND.double().numpy()]
    for factor in (1, 7):
        np.testing.assert_allclose(model.classify(factor * x_ND).detach(), expected, rtol=1e-4, atol=1e-4)
    assert "fc.bias" not in model.state_dict()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_cosine_head_has_finite_gradients(dtype: torch.dtype) -> None:
    """For features of any size, and for none at all."""
    head = CosineLinear(4, 3)
    x_ND = torch.tensor([[0.0] * 4, [6e4] * 4, [1e-7] * 4, [1, -1, 0, 2]], dtype=dtype, requires_grad=True)
    logits_NC = head(x_ND)
    logits_NC.logsumexp(1).sum().backward()
    assert logits_NC.abs().max() <= 30.001 and x_ND.grad is not None
    assert x_ND.grad.isfinite().all() and head.weight.grad is not None and head.weight.grad.isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_dropout_acts_only_in_training(name: str) -> None:
    torch.manual_seed(0)
    model = ResNet(name, 3, channels=1, width=4, stem="stride2", dropout=0.9)
    x = torch.randn(1, 1, 16, 16)
    model.eval()
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)
    model.dropout.train()
    assert not torch.equal(model(x), model(x))
