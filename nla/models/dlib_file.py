"""The file format in which dlib saves a network, as a list of layers in the order of the computation.

The format is that of dlib's serialisation (http://dlib.net, dlib/serialize.h, dlib/dnn): an integer is a control byte,
whose low four bits are the number of bytes that follow and whose high bit is the sign, and these bytes, little-endian;
a real number is two integers, mantissa and binary exponent; a text is its length and its bytes; a truth value is the
character 0 or 1; a tensor is the integer 2, four sizes, and float32. A file is a header with the loss and the version
of each layer, the input, and then one record per layer, from the input to the output.

Every byte is accounted for, and sizes are compared with what is left of the file before anything is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nla.errors import WeightsError
from nla.io import regular

LARGEST = 1 << 26
"""Bytes; the face recognition network has 22.5 million."""
MOST_LAYERS = 1000
LONGEST_TEXT = 40
BZIP2 = b"BZh"


@dataclass(frozen=True)
class Layer:
    """One layer, as the file states it."""

    kind: str
    """con, affine, relu, max_pool, avg_pool, add_prev or fc."""
    settings: tuple[int, ...] = ()
    """con: filters, height, width, strides, paddings; pools: height, width, strides, paddings; fc: outputs, inputs."""
    arrays: tuple[np.ndarray, ...] = ()
    """float32. con: weight [filters, channels, height, width] and bias [filters]; affine: factor [channels] and summand
    [channels]; fc: weight [inputs, outputs]."""


class _Malformed(Exception):
    """The content is not what the format prescribes."""


def read_layers(path: Path) -> list[Layer]:
    """The layers of a network that dlib has saved, in the order of the computation.

    Raises:
        WeightsError: the file is too large, compressed, cut off or damaged, or has layers of another kind.
        OSError: it cannot be read, or is a pipe or a device.
    """
    size = regular(path).stat().st_size
    if size > LARGEST:
        raise WeightsError(
            f"model.weights: {path} is too large for a network of dlib (got {size:,} bytes, at most {LARGEST:,}). "
            "Give the file of face_recognition_models."
        )
    content = path.read_bytes()
    if content.startswith(BZIP2):
        raise WeightsError(f"model.weights: {path} is compressed. Run `bunzip2` on it.")
    reader = _Reader(content)
    try:
        return _network(reader)
    except _Malformed as problem:
        raise WeightsError(
            f"model.weights: {path} is damaged, or no network that dlib has saved in a format known here (byte "
            f"{reader.at:,}: {problem}). Use the file of face_recognition_models."
        ) from None


def _network(reader: _Reader) -> list[Layer]:
    reader.expect("version of the loss", 1)
    reader.text({"loss_metric_2"})
    for _ in range(2):  # margin and threshold of the loss
        reader.real()
    for _ in range(MOST_LAYERS):
        if reader.peek() > 3:  # no version, but the length of the next text
            break
        reader.integer()
    reader.text({"input_rgb_image_sized"})
    for _ in range(3):  # mean of red, green, blue
        reader.real()
    for _ in range(2):  # height and width
        reader.integer()
    layers: list[Layer] = []
    while not reader.ended:
        if len(layers) == MOST_LAYERS:
            raise _Malformed(f"more than {MOST_LAYERS} layers")
        layers.append(_READERS[reader.text(_READERS)](reader))
        _end_of_layer(reader)
        if len(layers) == 1:
            reader.expect("samples per image", 1)
    return layers


def _con(reader: _Reader) -> Layer:
    flat = reader.tensor()
    settings = reader.integers(7)
    shape, biases = reader.alias(), reader.alias()
    filters = settings[0]
    fits = (shape[0], *shape[2:]) == settings[:3] and biases == (1, filters, 1, 1) and min(shape) > 0
    if not fits or math.prod(shape) + filters != flat.size:
        raise _Malformed(f"a convolution of {shape} with {flat.size:,} weights")
    for _ in range(4):  # factors of learning rate and weight decay, for weights and biases
        reader.real()
    weight, bias = flat[:-filters].reshape(shape), flat[-filters:]
    return Layer("con", settings, (weight, bias))


def _affine(reader: _Reader) -> Layer:
    flat = reader.tensor()
    factors, summands = reader.alias(), reader.alias()
    reader.expect("mode of an affine layer", 0)  # one factor per channel
    channels = flat.size // 2
    if not factors == summands == (1, channels, 1, 1) or not channels or flat.size % 2:
        raise _Malformed(f"an affine layer of {factors} and {summands} with {flat.size:,} weights")
    return Layer("affine", (), (flat[:channels], flat[channels:]))


def _fc(reader: _Reader) -> Layer:
    outputs, inputs = reader.integers(2)
    flat = reader.tensor()
    weights, biases = reader.alias(), reader.alias()
    reader.expect("mode of a linear layer", 1)  # without bias
    fits = weights == (inputs, outputs, 1, 1) and min(weights) > 0 and not any(biases)
    if not fits or flat.size != inputs * outputs:
        raise _Malformed(f"a linear layer of {weights} with {flat.size:,} weights")
    for _ in range(4):  # as of a convolution
        reader.real()
    return Layer("fc", (outputs, inputs), (flat.reshape(inputs, outputs),))


_READERS: dict[str, Callable[[_Reader], Layer]] = {
    "con_4": _con,
    "affine_": _affine,
    "relu_": lambda reader: Layer("relu"),
    "max_pool_2": lambda reader: Layer("max_pool", reader.integers(6)),
    "avg_pool_2": lambda reader: Layer("avg_pool", reader.integers(6)),
    "add_prev_": lambda reader: Layer("add_prev"),
    "fc_2": _fc,
}
"""By the names in the file, which end with a version."""


def _end_of_layer(reader: _Reader) -> None:
    """What follows each layer: three truth values, and three tensors of a training that are empty in a clean file."""
    for _ in range(3):
        reader.truth()
    for _ in range(3):
        if reader.tensor().size:
            raise _Malformed("data of an unfinished training, which dlib's `clean` removes")


class _Reader:
    """The values of a file, one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    @property
    def ended(self) -> bool:
        return self.at == len(self.content)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > len(self.content) - self.at:
            raise _Malformed(f"{count:,} bytes expected, {len(self.content) - self.at:,} left")
        start, self.at = self.at, self.at + count
        return self.content[start : self.at]

    def integer(self) -> int:
        control = self.take(1)[0]
        count = control & 0x0F
        if not 1 <= count <= 8 or control & 0x70:
            raise _Malformed(f"no integer begins with {control:#04x}")
        value = int.from_bytes(self.take(count), "little")
        return -value if control & 0x80 else value

    def integers(self, count: int) -> tuple[int, ...]:
        return tuple(self.integer() for _ in range(count))

    def peek(self) -> int:
        """The next integer, which stays the next."""
        at = self.at
        value = self.integer()
        self.at = at
        return value

    def real(self) -> None:
        """Skips a real number: none of them is needed."""
        self.integers(2)

    def expect(self, what: str, value: int) -> None:
        if (got := self.integer()) != value:
            raise _Malformed(f"{what} {value} expected, got {got}")

    def text(self, known: Iterable[str]) -> str:
        """The next text, which must be one of the known ones."""
        length = self.integer()
        if not 0 <= length <= LONGEST_TEXT:
            raise _Malformed(f"a text of {length:,} bytes")
        text = self.take(length).decode("ascii", "backslashreplace")
        if text not in known:
            raise _Malformed(f"{', '.join(known)} expected, got {text!r}")
        return text

    def truth(self) -> None:
        """Skips a truth value."""
        if (got := self.take(1)) not in (b"0", b"1"):
            raise _Malformed(f"a truth value expected, got {got!r}")

    def alias(self) -> tuple[int, ...]:
        """The four sizes of a part of the layer's tensor."""
        self.expect("version of a part of a tensor", 1)
        return self._sizes()

    def tensor(self) -> np.ndarray:
        """The values of a tensor, float32 [n], a copy; all finite."""
        self.expect("version of a tensor", 2)
        values = np.frombuffer(self.take(4 * math.prod(self._sizes())), "<f4").astype(np.float32)
        if not np.isfinite(values).all():
            raise _Malformed("values that are not finite")
        return values

    def _sizes(self) -> tuple[int, ...]:
        sizes = self.integers(4)
        if min(sizes) < 0:
            raise _Malformed(f"a negative size in {sizes}")
        return sizes
