"""Image files as base64 text, in all the ways in which programs write it."""

from __future__ import annotations

import base64
import re
from typing import Any

from nla.data.image_header import BMP, JPEG, PNG, WEBP
from nla.data.images import check_bytes
from nla.errors import DataError
from nla.limits import ImageLimits

DATA_ADDRESS = re.compile(rb"^data:[\w/+.-]*;base64,")
WHITESPACE = (b" ", b"\t", b"\n", b"\r", b"\v", b"\f")
ALPHABET = bytes.maketrans(b"-_", b"+/")
SIGNATURES = (PNG, JPEG, BMP, WEBP)
"""No base64 of an image begins like an image."""


def image_content(row: int, image: Any, limits: ImageLimits) -> Any:
    """The file of an image that is still base64 text; everything else as it is, since no image file is base64.

    Raises:
        DataError: the text is longer than that of any image that would be read; it is not decoded then.
    """
    text = image.encode(errors="replace") if isinstance(image, str) else image
    if not isinstance(text, bytes) or text.startswith(SIGNATURES):
        return image
    try:
        return decoded_base64(text, limits)
    except DataError as error:
        raise DataError(f"image {row}: {error}.") from None
    except ValueError:
        return image


def decoded_base64(text: bytes, limits: ImageLimits) -> bytes:
    """The bytes that a base64 text stands for.

    As RFC 4648 allows: broken into lines, with the alphabet for addresses, without padding; also as a data: address.

    Raises:
        DataError: the text is longer than that of any image that would be read; it is not decoded then.
        ValueError: it is not base64.
    """
    check_bytes(_decoded_size(text), limits)
    text = DATA_ADDRESS.sub(b"", b"".join(text.split())).translate(ALPHABET).rstrip(b"=")
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def _decoded_size(text: bytes) -> int:
    """Bytes that a base64 text stands for, counted without a copy of it."""
    address = DATA_ADDRESS.match(text)
    others = sum(text.count(each) for each in (*WHITESPACE, b"="))
    return (len(text) - others - (address.end() if address else 0)) * 3 // 4
