"""`nla NAME ...`: runs a command. Only its own module is imported, so that help is fast."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from nla.errors import CommandError, is_explained, user_message
from nla.masking import mask_streams
from nla.signals import ended_in_order
from nla.telemetry import disable_telemetry
from nla.text import printable

COMMANDS = {
    "predict": "faces in photos: label, confidence and probabilities of each",
    "crop": "the faces of a folder of photos, as training images",
    "detector": "detectors of faces: which are here, and the weights of yunet",
    "measure": "a model on another labelled set",
    "audit": "which labels of a folder or list are probably wrong",
    "compare": "two experiments or revisions on the same images",
    "attention": "a figure of where the network looks",
    "figure": "a figure for a paper, as PDF, SVG or PNG",
    "export": "a model as ONNX",
    "card": "a folder with a model and its card, as model hubs take it",
    "review": "an audit of labels for other programs, and their corrections",
    "serve": "a model over HTTP, with a page to try it",
    "doctor": "what this machine and project have, and what to do about the rest",
}
"""Each is a module nla.commands.NAME with a function `main(argv)`."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command that `argv` names, by default that of the command line.

    An NLAError, an OSError or a lack of memory gives one message and exit code 1, a signal no message and exit code
    128 + its number.
    """
    disable_telemetry()
    mask_streams()
    try:
        with ended_in_order() as ending:
            _run(sys.argv[1:] if argv is None else argv)
    except BrokenPipeError:  # as with `nla predict faces --out - | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards what is left to flush
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        sys.exit(ending.code)
    except Exception as error:
        if not is_explained(error):
            raise
        _fail(user_message(error))


def _run(argv: Sequence[str]) -> None:
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
    elif name in COMMANDS:
        importlib.import_module(f"nla.commands.{name}").main(rest)
    else:
        from nla.config.base import nearest  # only here, as help is faster without it

        raise CommandError(f"unknown command '{name}'{nearest(name, list(COMMANDS))}")


def _help() -> str:
    lines = [f"  {name:10}{what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: nla COMMAND ...", "", *lines, "", "`nla COMMAND --help` lists its options."])


def _fail(message: str) -> NoReturn:
    sys.stdout.flush()
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
