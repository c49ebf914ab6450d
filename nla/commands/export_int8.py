"""The int8 form of an exported model: weights and activations of its convolutions in 8 bits, all else in float32.

Static quantisation by ONNX Runtime: the range of each activation is the smallest and largest value on calibration
images. Weights have a scale per output channel and 7 bits: processors without VNNI add products of 8 bits in pairs of
16, where 8-bit weights could overflow (ONNX Runtime, "Quantize ONNX models", reduce_range). Graph and metadata are
those of the float file otherwise, with its normalisation, views and calibration.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nla.commands.calibration_images import CalibrationImages
from nla.errors import CommandError

CALIBRATED = 512
"""Images that ranges are taken from, evenly spaced among those given: with 4 times as many, accuracy is the same."""
BATCH = 64
QUANTISED = ["Conv", "Add", "Relu"]
"""Operators of the network's body. Its last layer takes little time, and stays in float32."""


@dataclass(frozen=True)
class Comparison:
    """int8 beside float32 on the same images, as the metadata of the file keep it."""

    calibrated_on: int
    """Images that ranges were taken from; they are among those compared, and their labels are not used."""
    compared_on: int
    same_label: float
    """Share of the images that have the same most probable class."""
    largest_difference: float
    """Of a probability."""
    labelled: int
    """Images with a label that the model knows."""
    accuracy_fp32: float | None
    """On those; None without any."""
    accuracy_int8: float | None


def to_int8(exported: bytes, facts: Mapping[str, str], images: CalibrationImages) -> tuple[bytes, Comparison]:
    """The int8 form of an exported model, as a checked file, and how it compares with the float form.

    Args:
        exported: what `to_onnx` returns.
        facts: metadata of the file; `int8`, the comparison as JSON, is added.
        images: one at least.

    Raises:
        CommandError: ONNX Runtime is not installed, or the network has no convolution.
    """
    onnx = packages()
    quantised = _quantised(exported, images.images_NHWC)
    fp32_NC, int8_NC = (_probabilities(model, images.images_NHWC) for model in (exported, quantised))
    compared = compare(fp32_NC, int8_NC, images.label_N, min(CALIBRATED, len(fp32_NC)))
    proto = onnx.load_model_from_string(quantised)
    onnx.helper.set_model_props(proto, {**facts, "int8": json.dumps(asdict(compared))})
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString()), compared


def compare(fp32_NC: np.ndarray, int8_NC: np.ndarray, label_N: np.ndarray, calibrated_on: int) -> Comparison:
    """Compares probabilities of N images; labels below 0 are unknown."""
    known_N, (fp32_N, int8_N) = label_N >= 0, (p_NC.argmax(1) for p_NC in (fp32_NC, int8_NC))
    right = [float((class_N == label_N)[known_N].mean()) if known_N.any() else None for class_N in (fp32_N, int8_N)]
    return Comparison(
        calibrated_on,
        len(label_N),
        float((fp32_N == int8_N).mean()),
        float(np.abs(fp32_NC - int8_NC).max()),
        int(known_N.sum()),
        *right,
    )


def summary(compared: Comparison, where: str) -> str:
    """The comparison in a line."""
    line = (
        f"int8: calibrated on {compared.calibrated_on:,} images of {where}; of {compared.compared_on:,}, "
        f"{compared.same_label:.1%} have the label of fp32"
    )
    if compared.accuracy_fp32 is None:
        return f"{line}; without labels, accuracy is unknown"
    return (
        f"{line}; accuracy {compared.accuracy_fp32:.2%} in fp32, {compared.accuracy_int8:.2%} in int8, "
        f"on {compared.labelled:,}"
    )


def packages() -> Any:
    """The module onnx. Raises CommandError if it or ONNX Runtime is not installed."""
    try:
        import onnx
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise CommandError(f"--int8 needs onnx and onnxruntime ({error}). Run `pip install -e .[onnx]`.") from None
    return onnx


def _quantised(exported: bytes, images_NHWC: np.ndarray) -> bytes:
    """The quantised model, with the ranges of CALIBRATED of the images."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    chosen_N = np.linspace(0, len(images_NHWC) - 1, min(CALIBRATED, len(images_NHWC))).round().astype(int)
    graph = onnx.load_model_from_string(exported).graph
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        given.write_bytes(exported)
        logging.disable(logging.WARNING)  # it recommends a preparation that `to_onnx` has done, and logs to the root
        try:
            quantize_static(
                given,
                made,
                _Reader(images_NHWC[chosen_N]),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTISED,
                nodes_to_quantize=_body(graph),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        return made.read_bytes()


def _body(graph: Any) -> list[str]:
    """Names of the nodes to quantise: up to the last convolution and what follows it before a softmax.

    Probabilities are averaged and calibrated behind it; a network with attention has a softmax before it, too.

    Raises:
        CommandError: there is no convolution among them.
    """
    kinds = [node.op_type for node in graph.node]
    if "Conv" not in kinds:
        raise CommandError("--int8: the network has no convolution to quantise. Export it without --int8.")
    last = len(kinds) - 1 - kinds[::-1].index("Conv")
    body = graph.node[: kinds.index("Softmax", last)]
    return [node.name for node in body if node.op_type in QUANTISED]


def _probabilities(model: bytes, images_NHWC: np.ndarray) -> np.ndarray:
    """[N, C] float32, by ONNX Runtime on the CPU."""
    from onnxruntime import InferenceSession

    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["probabilities"], batch)[0] for batch in _batches(images_NHWC)])


def _batches(images_NHWC: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    yield from ({"images": images_NHWC[i : i + BATCH]} for i in range(0, len(images_NHWC), BATCH))


class _Reader:
    """Hands out batches one by one, as ONNX Runtime asks for them; None at the end."""

    def __init__(self, images_NHWC: np.ndarray) -> None:
        self._batches = _batches(images_NHWC)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch."""
        return next(self._batches, None)
