"""Text for messages, terminals and logs: shortened, and with escapes in place of control characters."""

from __future__ import annotations

import re

UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tabs and line ends, characters that reverse the direction of text, and bytes of names that
are not UTF-8. A terminal would obey them, and an output in UTF-8 would refuse the last ones."""


def shortened(text: str, limit: int = 60) -> str:
    """`text`, cut to `limit` characters, for a message."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def printable(text: str) -> str:
    """`text` with escapes such as \\x1b in place of what a terminal would obey; line ends and tabs stay."""
    return UNPRINTABLE.sub(_escape, text)


def shown(name: str) -> str:
    """The name of a file or class for a line of text: `printable`, and without line ends and tabs."""
    return printable(name.replace("\n", "\\n").replace("\t", "\\t"))


def is_utf8(name: str) -> bool:
    """Whether the name of a file is text in UTF-8; Python keeps the bytes of other names as surrogates."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is not UTF-8: see os.fsdecode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
