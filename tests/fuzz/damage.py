"""Damages of files and requests, and how many of them are tried."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = os.environ.get("NLA_FUZZ_EXAMPLES")
FUZZ = settings(
    max_examples=int(EXAMPLES or 25),
    derandomize=EXAMPLES is None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TOKENS = [
    b"\0",
    b",",
    b"\n",
    b"\r",
    b'"',
    b":",
    b"{",
    b"\xff\xfe",
    b"\x1b[2J",
    b"../",
    b"-1",
    b"nan",
    b"1e400",
    b"9" * 400,
]


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """`valid` after one to four edits: cut off, a byte changed, bytes removed, repeated or inserted."""
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(1, 40)))
        match draw(st.sampled_from(["cut", "change", "remove", "repeat", "insert"])):
            case "cut":
                del content[start:]
            case "change":
                content[start : start + 1] = draw(st.binary(min_size=1, max_size=1))
            case "remove":
                del content[start:end]
            case "repeat":
                content[start:start] = content[start:end]
            case "insert":
                content[start:start] = draw(st.sampled_from(TOKENS) | st.binary(max_size=8))
    return bytes(content)
