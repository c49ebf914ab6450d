"""dlib's file format: every value comes back, and whatever is wrong is one message."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from dlib_writer import END, HEADER, integer, integers, small, tensor, text, write
from hypothesis import given
from hypothesis import strategies as st

from nla.errors import WeightsError
from nla.models.dlib_file import LARGEST, read_layers

GOOD = small().content
CON = text("con_4")


def test_every_layer_comes_back(tmp_path: Path) -> None:
    writer = small()
    layers = read_layers(write(tmp_path / "net.dat", writer))
    assert [layer.kind for layer in layers] == ["con", "affine", "relu", "max_pool", "avg_pool", "add_prev", "fc"]
    for layer, (kind, settings, arrays) in zip(layers, writer.layers, strict=True):
        assert (layer.kind, layer.settings) == (kind, settings)
        assert all(np.array_equal(*pair) for pair in zip(layer.arrays, arrays, strict=True))


def problem_of(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(WeightsError) as raised:
        read_layers(path)
    message = str(raised.value)
    assert message.startswith(f"model.weights: {path} ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x01", "1 bytes expected, 0 left"),
        (b"\x00" + GOOD[1:], "no integer begins with 0x00"),
        (b"\x09" + GOOD[1:], "no integer begins with 0x09"),
        (b"\x11" + GOOD[1:], "no integer begins with 0x11"),
        (integer(2) + GOOD[2:], "version of the loss 1 expected, got 2"),
        (GOOD.replace(b"loss_metric_2", b"loss_binary_2"), "loss_metric_2 expected, got 'loss_binary_2'"),
        (integer(1) + integer(10**12), "a text of 1,000,000,000,000 bytes"),
        (integer(1) + integer(-3), "a text of -3 bytes"),
        (GOOD.replace(b"con_4", b"con_5"), "fc_2 expected, got 'con_5'"),
        (GOOD.replace(b"con_4", b"c\xffn\x1b4"), r"fc_2 expected, got 'c\\xffn\x1b4'"),
        (HEADER + CON + integers(2, 2**62, 2**62, 2**62, 2**62), "bytes expected, "),
        (HEADER + CON + integers(2, -1, 1, 1, 1), "a negative size in (-1, 1, 1, 1)"),
        (HEADER + CON + integers(1, 1, 1, 1, 1), "version of a tensor 2 expected, got 1"),
        (HEADER + CON + tensor(np.array([np.nan])), "values that are not finite"),
        (HEADER + CON + tensor(np.array([np.inf])), "values that are not finite"),
        (
            HEADER + CON + tensor(np.zeros(0)) + integers(0, 3, 3, 1, 1, 0, 0, 1, 0, 2**62, 3, 3, 1, 1, 0, 1, 1),
            "a convolution of (0, 4611686018427387904, 3, 3) with 0 weights",
        ),
        (
            HEADER + CON + tensor(np.zeros(9)) + integers(1, 3, 3, 1, 1, 0, 0, 1, 1, 1, 3, 3, 1, 1, 1, 1, 1),
            "a convolution of (1, 1, 3, 3) with 9 weights",
        ),
        (
            HEADER + text("affine_") + tensor(np.zeros(3)) + integers(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0),
            "an affine layer of (1, 1, 1, 1) and (1, 1, 1, 1) with 3 weights",
        ),
        (HEADER + text("affine_") + tensor(np.zeros(2)) + integers(*[1] * 11), "mode of an affine layer 0 expected"),
        (
            HEADER + text("fc_2") + integers(0, 2**62) + tensor(np.zeros(0)) + integers(1, 2**62, 0, 1, 1)
            + integers(1, 0, 0, 0, 0, 1),
            "a linear layer of (4611686018427387904, 0, 1, 1) with 0 weights",
        ),
        (HEADER + text("relu_") + b"2" + END[1:] + integer(1), "a truth value expected, got b'2'"),
        (HEADER + text("relu_") + END[:3] + tensor(np.zeros(5)), "data of an unfinished training"),
        (HEADER + text("relu_") + END + integer(2), "samples per image 1 expected, got 2"),
        (HEADER + text("relu_") + END + integer(1) + 1001 * (text("relu_") + END), "more than 1000 layers"),
        (GOOD[:17] + 4 * integer(1) + 2000 * integer(2), r"input_rgb_image_sized expected, got '\x01\x02'"),
        (GOOD + b"\x01", "1 bytes expected, 0 left"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    message = problem_of(tmp_path / "net.dat", content)
    assert problem in message
    assert "Use the file of face_recognition_models." in message


def test_a_compressed_file_says_so(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "net.dat.bz2", b"BZh91AY&SY").endswith("is compressed. Run `bunzip2` on it.")


def test_a_file_of_another_size_class_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.dat"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"is too large .* \(got 67,108,865 bytes, at most 67,108,864\)"):
        read_layers(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@given(st.integers(0, len(GOOD) - 1))
def test_a_cut_off_file_has_fewer_layers_or_is_refused(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    path = tmp_path_factory.getbasetemp() / "cut.dat"
    path.write_bytes(GOOD[:kept])
    try:
        assert len(read_layers(path)) < 7
    except WeightsError as error:
        assert " left)" in str(error)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=0, max_size=9), st.integers(0, 9))
def test_a_changed_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, at: int, put: bytes, removed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.dat"
    path.write_bytes(GOOD[:at] + put + GOOD[at + removed :])
    try:
        layers = read_layers(path)
    except WeightsError as error:
        assert str(error).strip() and "\n" not in str(error)
    else:
        assert sum(array.nbytes for layer in layers for array in layer.arrays) <= len(GOOD)
        assert all(np.isfinite(array).all() for layer in layers for array in layer.arrays)
