from __future__ import annotations

import numpy as np
import pytest
import torch

from nla.models.resnet import CosineLinear, ResNet


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "expected"), [("resnet18", 11_689_512), ("resnet34", 21_797_672)])
def test_the_published_size(name: str, expected: int) -> None:
    """Parameters with 1000 classes, as torchvision's documentation gives them."""
    assert parameters(ResNet(name, 1000)) == expected


def test_torchvisions_key_names() -> None:
    """Derived from its layout: a stem, four stages, a shortcut convolution where the shape changes, a head."""

    def norm(name: str) -> list[str]:
        return [f"{name}.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]

    expected = ["conv1.weight", *norm("bn1"), "fc.weight", "fc.bias"]
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            here = f"layer{stage}.{block}"
            for i in (1, 2):
                expected += [f"{here}.conv{i}.weight", *norm(f"{here}.bn{i}")]
        if stage > 1:
            expected += [f"layer{stage}.0.downsample.0.weight", *norm(f"layer{stage}.0.downsample.1")]
    assert sorted(ResNet("resnet18", 7).state_dict()) == sorted(expected)


@pytest.mark.parametrize(
    ("stem", "side", "sizes"),
    [
        ("imagenet", 224, [56, 56, 28, 14, 7]),
        ("stride2", 48, [24, 24, 12, 6, 3]),
        ("stride1", 48, [48, 48, 24, 12, 6]),
    ],
)
def test_sizes_of_the_feature_maps(stem: str, side: int, sizes: list[int]) -> None:
    model, seen = ResNet("resnet18", 3, channels=1, width=4, stem=stem), []
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        model.get_submodule(name).register_forward_hook(lambda _, __, out: seen.append(tuple(out.shape)))
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 3)
    assert seen == [(2, width, size, size) for width, size in zip([4, 4, 8, 16, 32], sizes, strict=True)]


def test_a_block_adds_its_shortcut() -> None:
    """With the last BatchNorm of every block at 0, only shortcuts are left: relu(relu(x)) = relu(x)."""
    model = ResNet("resnet18", 3, channels=1, width=4, stem="stride2").eval()
    block = model.get_submodule("layer1.1")
    torch.nn.init.zeros_(block.get_parameter("bn2.weight"))
    x = torch.randn(2, 4, 8, 8, generator=torch.manual_seed(0))
    torch.testing.assert_close(block(x), x.relu())


def test_a_cosine_head_knows_directions_alone() -> None:
    model = ResNet("resnet18", 3, channels=1, width=4, stem="stride2", head="cosine").eval()
    x_ND = torch.randn(5, 32, generator=torch.manual_seed(0))
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


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    model = ResNet("resnet18", 3, channels=1, width=4, stem="stride2", dropout=0.9)
    x = torch.randn(1, 1, 16, 16)
    model.eval()
    torch.testing.assert_close(model(x), model(x), rtol=0, atol=0)
    model.dropout.train()
    assert not torch.equal(model(x), model(x))
