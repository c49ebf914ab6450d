"""`nla export`: a model as ONNX, for runtimes without PyTorch.

Input: `images`, uint8 [N, H, W, C], as the Classifier takes them; the graph normalises them. Output: `probabilities`,
float32 [N, num_classes], averaged over the views in the model's card and calibrated, like all other predictions; with
`--one-view`, of the image alone, which is faster. Classes, image size, views and calibration are in the metadata.
With `--int8`, the convolutions compute in 8 bits.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nla.commands.arguments import add_model
from nla.commands.calibration_images import VALID, read_calibration_images
from nla.commands.export_int8 import packages, summary, to_int8
from nla.commands.parser import Parser
from nla.console import complain, say
from nla.errors import CommandError
from nla.evaluation.predict import mean_probabilities
from nla.io import atomic_write
from nla.models.calibration import Calibration
from nla.models.classifier import Classifier
from nla.models.default_model import chosen_model
from nla.models.saved_model import load_model, weights_file
from nla.models.views import ONE_VIEW, Views
from nla.text import shown

EXAMPLE = 2
"""Batch size of the traced example: PyTorch would treat a size of 1 as constant."""
LEAST_SAME = 0.97
"""Share of labels that int8 must keep to go without a warning; a well calibrated ResNet-18 keeps more than 99 %."""
OTHERWISE = "Calibrate by more images like those that the model will see, or export it without --int8."


class Probabilities(nn.Module):
    """uint8 [N, H, W, C] -> float32 [N, num_classes], averaged over `views`, and calibrated."""

    def __init__(self, classifier: Classifier, views: Views, calibration: Calibration) -> None:
        super().__init__()
        self.classifier, self.views, self.calibration = classifier, views, calibration

    def forward(self, images: Tensor) -> Tensor:
        return self.calibration.of_tensor(mean_probabilities(self.classifier, images, self.views))


def main(argv: Sequence[str]) -> None:
    """Writes the model as ONNX, after checking it.

    Raises:
        WeightsError: the model cannot be loaded.
        CommandError: onnx, onnxscript or, for --int8, onnxruntime is not installed.
        DataError: there are no images for --int8.
    """
    options = _parser().parse_args(argv)
    if options.calibrate and not options.int8:
        raise CommandError("--calibrate: its images are for --int8. Add --int8, or leave it out.")
    if options.int8:
        packages()
    model, card = load_model(weights_file(chosen_model(options.model)))
    views = ONE_VIEW if options.one_view else Views(**card["views"])
    facts, calibrate = metadata(card, views), options.calibrate or VALID
    images = read_calibration_images(calibrate, model.image, card["classes"]) if options.int8 else None
    data, compared = to_onnx(model, views, facts, Calibration.of_card(card)), None
    if images is not None:
        data, compared = to_int8(data, facts, images)
    with atomic_write(options.out) as part:
        part.write_bytes(data)
    image = model.image
    shape = f"uint8 [N, {image.size}, {image.size}, {image.channels}]"
    outputs = f"probabilities [N, {len(card['classes'])}], mean over {views.count} views"
    say(f"{options.out}: images {shape} -> {outputs}, {len(data) / 2**20:.1f} MiB")
    if compared is not None:
        say(summary(compared, shown(str(calibrate))))
        if compared.same_label < LEAST_SAME:
            complain(f"warning: {1 - compared.same_label:.1%} of the labels differ from those of fp32. {OTHERWISE}")


def metadata(card: Mapping[str, Any], views: Views) -> dict[str, str]:
    """Metadata of the ONNX file; `classes` is a JSON list in the order of the output, the others JSON objects."""
    facts = {name: str(card[name]) for name in ("source", "fingerprint")}
    calibration = json.dumps(asdict(Calibration.of_card(card)))
    lists = {"classes": json.dumps(card["classes"]), "views": json.dumps(asdict(views)), "calibration": calibration}
    return {**lists, "image_size": str(card["image"]["size"]), **facts}


def to_onnx(model: Classifier, views: Views, facts: Mapping[str, str], calibration: Calibration) -> bytes:
    """The model, averaged over `views` and calibrated, as a checked ONNX file for any batch size.

    Args:
        model: the network.
        views: views to average over.
        facts: metadata of the file.
        calibration: that of the card.

    Raises:
        CommandError: onnx or onnxscript is not installed.
    """
    onnx = _package()
    proto = _exported(Probabilities(model, views, calibration)).model_proto
    _remove_source_locations(proto.graph)
    onnx.helper.set_model_props(proto, dict(facts))
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString())


def _package() -> Any:
    try:
        import onnx
        import onnxscript  # noqa: F401  # PyTorch imports it
    except ImportError as error:
        raise CommandError(f"`nla export` needs onnx and onnxscript ({error}). Run `pip install -e .[onnx]`.") from None
    return onnx


def _exported(network: Probabilities) -> Any:
    """PyTorch's ONNXProgram."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it would warn that torchvision is not installed
    image = network.classifier.image
    example = torch.zeros(EXAMPLE, image.size, image.size, image.channels, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # raised inside PyTorch 2.13
        return torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            verbose=False,
        )


def _remove_source_locations(graph: Any) -> None:
    """Removes source locations, which contain paths of this machine."""
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]


def _parser() -> Parser:
    parser = Parser("nla export", description="Export a model as ONNX, for runtimes without PyTorch.")
    parser.add_argument("out", type=Path, metavar="OUT.onnx")
    add_model(parser)
    parser.add_argument(
        "--one-view", action="store_true", help="predict from the image alone, not averaged over the card's views"
    )
    parser.add_argument("--int8", action="store_true", help="convolutions in 8 bits: smaller, and faster on CPUs")
    what = f"with --int8: a table of `prepare` or a folder of crops, for the ranges of values ({VALID})"
    parser.add_argument("--calibrate", type=Path, metavar="PATH", help=what)
    return parser
