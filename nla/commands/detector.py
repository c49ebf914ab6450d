"""`nla detector`: which detectors of faces are here, and the installation of YuNet's weights."""

from __future__ import annotations

import contextlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nla.commands.parser import Parser
from nla.console import bar, say
from nla.errors import CommandError, WeightsError
from nla.faces.choice import available
from nla.faces.detector_file import FILE, MOST_BYTES, URL, install
from nla.io import regular
from nla.text import shown

PATIENCE = 30
"""Seconds that a server may be silent."""
BLOCK = 1 << 14


def main(argv: Sequence[str]) -> None:
    """Lists the detectors, or installs YuNet's weights.

    Raises:
        CommandError: the weights cannot be downloaded.
        WeightsError: they are other ones.
        OSError: the file cannot be read, or the weights cannot be written.
    """
    options = _parser().parse_args(argv)
    if options.what == "list":
        for line in listed():
            say(line)
        return
    source = options.source
    content = _downloaded(source) if source.startswith(("https://", "http://")) else _read(Path(source))
    say(f"yunet is ready: {install(content, shown(source))}")


def listed() -> Iterator[str]:
    """A line for each detector, and what to do for one that is not ready."""
    for found in available():
        yield f"{found.name:6} {'ready' if found.is_ready else 'missing':8} {found.text}"
        if found.remedy:
            yield f"{'':15} {found.remedy}"


def _read(path: Path) -> bytes:
    """Raises WeightsError if the file is much larger than the weights; it is not read then."""
    size = regular(path).stat().st_size
    if size > MOST_BYTES:
        raise WeightsError(f"{shown(str(path))}: not {FILE}: it has {size:,} bytes. Get it from {URL}.")
    return path.read_bytes()


def _downloaded(url: str) -> bytes:
    """What a server sends, up to MOST_BYTES. Raises CommandError if it cannot be had."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer, bar("download", "bytes") as update:
            return b"".join(_blocks(answer, update))
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise CommandError(
            f"{shown(url)}: cannot be downloaded ({shown(str(reason))}). Download it on another way, and run `nla "
            "detector get FILE`."
        ) from None


def _blocks(answer: http.client.HTTPResponse, update: Callable[[int, int], None]) -> Iterator[bytes]:
    done, total = 0, 0
    with contextlib.suppress(ValueError):
        total = int(answer.headers.get("Content-Length") or 0)
    while done <= MOST_BYTES and (block := answer.read(BLOCK)):
        done += len(block)
        update(done, max(total, done))
        yield block


def _parser() -> Parser:
    parser = Parser("nla detector", description="Detectors of faces: which are here, and the weights of yunet.")
    what = parser.add_subparsers(dest="what", required=True)
    what.add_parser("list", help="which detectors can be used, and what to do for the others")
    get = what.add_parser("get", help=f"install {FILE} after checking its sha256")
    source = "the file, or an address; without it, that of OpenCV's model zoo"
    get.add_argument("source", nargs="?", default=URL, metavar="FILE|URL", help=source)
    return parser
