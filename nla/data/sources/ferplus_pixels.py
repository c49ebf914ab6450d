"""Parses pixels from text, `70 80 82 ...`, a block of rows at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SIDE = 48  # side of a FER2013 image, grey


def parse_pixels(text_N: pa.StringArray) -> tuple[np.ndarray, dict[int, str]]:
    """Pixels [N, 48, 48] uint8 from rows of 2,304 numbers, and row -> problem; bad rows stay 0."""
    pixels_NP = np.zeros((len(text_N), SIDE * SIDE), np.uint8)
    values_N = pc.ascii_split_whitespace(pc.ascii_trim_whitespace(text_N))
    is_full_N = pc.equal(pc.list_value_length(values_N), SIDE * SIDE).to_numpy(zero_copy_only=False)
    wrong = {
        int(i): f"{len(text_N[i].as_py().split())} instead of {SIDE * SIDE} pixels" for i in np.flatnonzero(~is_full_N)
    }
    try:
        pixels_NP[is_full_N] = _numbers(values_N.filter(pa.array(is_full_N)).flatten()).reshape(-1, SIDE * SIDE)
    except pa.ArrowInvalid:  # some row of the block has a bad value: find out which
        for i in np.flatnonzero(is_full_N):
            try:
                pixels_NP[i] = _numbers(values_N[i].values)
            except pa.ArrowInvalid:
                wrong[int(i)] = _first_that_is_none(values_N[i].as_py())
    return pixels_NP.reshape(-1, SIDE, SIDE), wrong


def _numbers(values: pa.StringArray) -> np.ndarray:
    """Converts to uint8. Raises ArrowInvalid for anything but integers from 0 to 255."""
    return np.asarray(values.cast(pa.uint8()).to_numpy())


def _first_that_is_none(values: list[str]) -> str:
    place, value = next(
        (place, value) for place, value in enumerate(values, 1) if not (value.isdecimal() and int(value) < 256)
    )
    return f"pixel {place} is {value[:20]!r}, not a number from 0 to 255"
