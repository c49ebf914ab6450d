"""`nla export`: a model as ONNX, for runtimes without PyTorch.

Input: `images`, uint8 [N, H, W, C], as the Classifier takes them; the graph normalises them. Output: `probabilities`,
float32 [N, num_classes], of the image as it is; averaging over more views is left to the caller. Classes and image size
are in the metadata.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nla.commands.arguments import add_model, weights_of
from nla.console import say
from nla.errors import CommandError
from nla.io import atomic_write
from nla.models.classifier import Classifier
from nla.models.saved_model import load_model

EXAMPLE = 2
"""Batch size of the traced example: PyTorch would treat a size of 1 as constant."""


class Probabilities(nn.Module):
    """uint8 [N, H, W, C] -> float32 [N, num_classes]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(images).softmax(1)


def main(argv: Sequence[str]) -> None:
    """Writes the model as ONNX, after checking it.

    Raises:
        WeightsError: the model cannot be loaded.
        CommandError: a package is not installed.
    """
    options = _parser().parse_args(argv)
    model, card = load_model(weights_of(options.model))
    data = to_onnx(model, metadata(card))
    with atomic_write(options.out) as part:
        part.write_bytes(data)
    image = model.image
    shape = f"uint8 [N, {image.size}, {image.size}, {image.channels}]"
    say(f"{options.out}: images {shape} -> probabilities [N, {len(card['classes'])}], {len(data) / 2**20:.1f} MiB")


def metadata(card: Mapping[str, Any]) -> dict[str, str]:
    """Metadata of the ONNX file; `classes` is a JSON list in the order of the output."""
    facts = {name: str(card[name]) for name in ("source", "fingerprint")}
    return {"classes": json.dumps(card["classes"]), "image_size": str(card["image"]["size"]), **facts}


def to_onnx(model: Classifier, facts: Mapping[str, str]) -> bytes:
    """The model as a checked ONNX file for any batch size, with `facts` as its metadata.

    Raises:
        CommandError: onnx or onnxscript is not installed.
    """
    onnx = _package()
    proto = _exported(model).model_proto
    _forget_the_code(proto.graph)
    onnx.helper.set_model_props(proto, dict(facts))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _package() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  # PyTorch imports it
    except ImportError as error:
        raise CommandError(f"`nla export` needs onnx and onnxscript ({error}). Run `pip install -e .[onnx]`.") from None
    return onnx


def _exported(model: Classifier) -> Any:
    """PyTorch's ONNXProgram."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would warn that torchvision is not installed
    image = model.image
    example = torch.zeros(EXAMPLE, image.size, image.size, image.channels, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # raised inside PyTorch 2.13
        return torch.onnx.export(
            Probabilities(model).eval(),
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            verbose=False,
        )


def _forget_the_code(graph: Any) -> None:
    """Removes source locations, which contain paths of this machine."""
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("nla export", description="A model as ONNX, for runtimes without PyTorch.")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    add_model(parser)
    return parser
