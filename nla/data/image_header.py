"""Format and size of an encoded image, from its header, before anything is decoded."""

from __future__ import annotations

from nla.errors import DataError

PNG, JPEG, BMP, WEBP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF"
"""How a file of each format begins; no other format is decoded."""
STANDALONE = {0x01, *range(0xD0, 0xD8)}  # JPEG markers without a length (ITU-T T.81, table B.1)
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers of a frame's header, SOF
SCAN = 0xDA


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels that the header of a PNG, JPEG, BMP or WebP states.

    Raises:
        DataError: the data are none of these, or end before the size.
    """
    read = next((read for signature, read in _READERS.items() if data.startswith(signature)), None)
    size = read(data) if read else None
    if size is None or 0 in size:
        raise DataError("the file is damaged or not an image (PNG, JPEG, BMP or WebP)")
    return size


def _png(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """The first frame's header, found as libjpeg finds it: bytes between two segments are skipped."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        while data[at : at + 1] == b"\xff":  # any number of fill bytes can precede a marker
            at += 1
        marker = data[at] if at < len(data) else SCAN
        at += 1
        if marker in FRAMES:
            height, width = data[at + 3 : at + 5], data[at + 5 : at + 7]
            return (int.from_bytes(width, "big"), int.from_bytes(height, "big")) if len(width) == 2 else None
        if marker == SCAN:
            return None
        if marker and marker not in STANDALONE:  # 0: not a marker, but a byte of data
            at += int.from_bytes(data[at : at + 2], "big")
    return None


def _bmp(data: bytes) -> tuple[int, int] | None:
    if len(data) < 26:
        return None
    if int.from_bytes(data[14:18], "little") == 12:  # the header of OS/2
        return int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return abs(width), abs(height)  # a negative height: the first row is at the top


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649, sections 2.5 to 2.7: a lossy, a lossless or an extended file."""
    if data[8:12] != b"WEBP" or len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


_READERS = {PNG: _png, JPEG: _jpeg, BMP: _bmp, WEBP: _webp}
