"""Writes networks in dlib's file format, and computes them layer by layer, apart from the code under test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Written = tuple[str, tuple[int, ...], Sequence[np.ndarray]]
"""Kind, settings and arrays of a layer."""
ONE, ZERO = b"\x01\x10\x81\x04", b"\x01\x00\x01\x0b"  # 16 / 2**4 and 0 * 2**11, as dlib writes 1 and 0


MEAN = torch.tensor([122.782, 117.001, 104.298]).double().view(1, 3, 1, 1)
"""Of red, green and blue, which the file has in its header."""


def integer(value: int) -> bytes:
    size = max(1, (abs(value).bit_length() + 7) // 8)
    return bytes([size | (0x80 if value < 0 else 0)]) + abs(value).to_bytes(size, "little")


def integers(*values: int) -> bytes:
    return b"".join(integer(value) for value in values)


def text(value: str) -> bytes:
    return integer(len(value)) + value.encode()


def tensor(values: np.ndarray) -> bytes:
    return integers(2, values.size, 1, 1, 1) + values.astype("<f4").tobytes()


END = b"110" + 3 * integers(2, 0, 0, 0, 0)
"""Of each layer."""
HEADER = (
    integers(1)
    + text("loss_metric_2")
    + 2 * ONE
    + integers(*[2, 1] * 20, 3)
    + text("input_rgb_image_sized")
    + 3 * ONE
    + integers(150, 150)
)


@dataclass
class Writer:
    """A network of random weights; `layers` repeats what is written, for `compute`."""

    seed: int = 0
    records: list[bytes] = field(default_factory=list)
    layers: list[Written] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def con(self, channels: int, filters: int, side: int, stride: int, padding: int) -> None:
        weight = self.rng.normal(0, (2 / (channels * side**2)) ** 0.5, (filters, channels, side, side))
        bias = self.rng.normal(0, 0.1, filters)
        settings = (filters, side, side, stride, stride, padding, padding)
        flat = np.concatenate([weight.ravel(), bias])
        parts = integers(1, filters, channels, side, side) + integers(1, 1, filters, 1, 1)
        record = text("con_4") + tensor(flat) + integers(*settings) + parts + 3 * ONE + ZERO
        self._add("con", settings, [weight, bias], record)

    def affine(self, channels: int) -> None:
        factor, summand = self.rng.uniform(0.5, 1.0, channels), self.rng.normal(0, 0.1, channels)
        parts = 2 * integers(1, 1, channels, 1, 1)
        record = text("affine_") + tensor(np.concatenate([factor, summand])) + parts + integers(0)
        self._add("affine", (), [factor, summand], record)

    def pool(self, kind: str, side: int, stride: int) -> None:
        settings = (side, side, stride, stride, 0, 0)
        self._add(f"{kind}_pool", settings, [], text(f"{kind}_pool_2") + integers(*settings))

    def plain(self, kind: str) -> None:
        self._add(kind, (), [], text(f"{kind}_"))

    def fc(self, inputs: int, outputs: int) -> None:
        weight = self.rng.normal(0, 0.1, (inputs, outputs))
        parts = integers(1, inputs, outputs, 1, 1) + integers(1, 0, 0, 0, 0) + integers(1)
        size = integers(2, inputs, outputs, 1, 1) + weight.astype("<f4").tobytes()
        record = text("fc_2") + integers(outputs, inputs) + size + parts + 3 * ONE + ZERO
        self._add("fc", (outputs, inputs), [weight], record)

    def _add(self, kind: str, settings: tuple[int, ...], arrays: list[np.ndarray], record: bytes) -> None:
        first = b"" if self.records else integer(1)
        self.records.append(record + END + first)
        self.layers.append((kind, settings, [array.astype(np.float32) for array in arrays]))

    @property
    def content(self) -> bytes:
        return HEADER + b"".join(self.records)


def small() -> Writer:
    """One layer of each kind."""
    writer = Writer()
    writer.con(3, 2, 3, 1, 1)
    writer.affine(2)
    writer.plain("relu")
    writer.pool("max", 3, 2)
    writer.pool("avg", 2, 2)
    writer.plain("add_prev")
    writer.fc(2, 4)
    return writer


def face_network(seed: int = 0) -> Writer:
    """The layers of dlib's face recognition network."""
    writer = Writer(seed)

    def convolution(channels: int, filters: int, side: int, stride: int, padding: int) -> None:
        writer.con(channels, filters, side, stride, padding)
        writer.affine(filters)

    convolution(3, 32, 7, 2, 0)
    writer.plain("relu")
    writer.pool("max", 3, 2)
    blocks = [(32, 32, False)] * 3
    for channels, filters, number in ((32, 64, 4), (64, 128, 3), (128, 256, 3), (256, 256, 1)):
        blocks += [(channels, filters, True)] + [(filters, filters, False)] * (number - 1)
    for channels, filters, halves in blocks:
        convolution(channels, filters, 3, *((2, 0) if halves else (1, 1)))
        writer.plain("relu")
        convolution(filters, filters, 3, 1, 1)
        if halves:
            writer.pool("avg", 2, 2)
        writer.plain("add_prev")
        writer.plain("relu")
    writer.pool("avg", 0, 1)
    writer.fc(256, 128)
    return writer


def write(path: Path, writer: Writer) -> Path:
    path.write_bytes(writer.content)
    return path


def compute(layers: Iterable[Written], rgb_NHWC: np.ndarray) -> tuple[Tensor, Tensor]:
    """Layer by layer, as dlib does: the output of the 13th block [N, 256, h, w], and the 128 numbers [N, 128].

    The tag of a residual block is what entered it: after the max pool, and after each relu that follows a sum.
    """
    x = (torch.from_numpy(rgb_NHWC.astype(np.float64)).permute(0, 3, 1, 2) - MEAN) / 256
    tagged = shortcut = x
    before, blocks = "", []
    for kind, settings, arrays in layers:
        weights = [torch.from_numpy(array).double() for array in arrays]
        match kind:
            case "con":
                x = F.conv2d(x, *weights, stride=settings[3], padding=settings[5])
            case "affine":
                x = x * weights[0][:, None, None] + weights[1][:, None, None]
            case "relu":
                x = x.relu()
            case "max_pool":
                x = F.max_pool2d(x, settings[0], settings[2])
            case "avg_pool" if settings[0]:
                shortcut = F.avg_pool2d(tagged, settings[0], settings[2])
            case "avg_pool":
                x = x.mean((2, 3), keepdim=True)
            case "add_prev":
                total = torch.zeros(*(max(sizes) for sizes in zip(x.shape, shortcut.shape, strict=True)))
                total = total.double()
                for part in (x, shortcut):
                    total[:, : part.shape[1], : part.shape[2], : part.shape[3]] += part
                x = total
            case "fc":
                x = x.flatten(1) @ weights[0]
        if kind == "max_pool" or (kind == "relu" and before == "add_prev"):
            tagged = shortcut = x
            blocks.append(x)
        before = kind
    return blocks[13].float(), x.float()
