"""`nla serve`: a model over HTTP, with a page to try it."""

from __future__ import annotations

import argparse
import functools
import importlib
import logging
from collections.abc import Sequence

from nla.commands.arguments import add_device
from nla.commands.parser import Parser, between, positive
from nla.console import say
from nla.errors import CommandError
from nla.faces.choice import NAMES
from nla.web.settings import LONGEST_WAIT_MS, ServerSettings

PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
LARGEST_PORT = 65_535
USUAL = ServerSettings()


def main(argv: Sequence[str]) -> None:
    """Serves until a signal comes.

    Raises:
        CommandError: a package is missing, the address or token cannot be used, or there is no such device or detector.
        NLAError: the model cannot be loaded.
    """
    options = _parser().parse_args(argv)
    _require_packages()
    from nla.web.access import token_for

    token = token_for(options.host, "--host")
    from nla.web.assembly import assemble  # PyTorch takes seconds
    from nla.web.metrics import Metrics
    from nla.web.server import bound_socket, serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with bound_socket(options.host, options.port) as listening:
        settings = ServerSettings(**{name: getattr(options, name) for name in ServerSettings.model_fields})
        app, model = assemble(settings, Metrics(), host=options.host, token=token)
        port = listening.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        used = model.current
        what = used.name if used.version is None else f"{used.name} version {used.version}"
        serve(app, listening, lambda: say(f"serving {what} on http://{host}:{port}"))


def _parser() -> Parser:
    parser = Parser("nla serve", description="A model over HTTP: POST /predict, and a page to try it at /.")
    add, number = parser.add_argument, functools.partial(parser.add_argument, type=positive)
    add("--model", help="a folder or .safetensors file, or models:/NAME@champion (models, else NLA's own)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s); others need NLA_TOKEN")
    add("--port", type=_port, default=8000, help="0 for any free one (%(default)s)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a further name in the header Host")
    add("--detector", choices=NAMES, default=USUAL.detector, help="of faces in photos (%(default)s)")
    add("--cropped", action="store_true", help="take all images as crops of faces")
    add_device(parser)
    number("--poll", default=USUAL.poll, metavar="SECONDS", help="between looks for a newer version (%(default)s)")
    number("--max-body", default=USUAL.max_body, metavar="BYTES", help="of a request (%(default)s)")
    number("--max-images", default=USUAL.max_images, metavar="N", help="of a request (%(default)s)")
    number("--max-pixels", default=USUAL.max_pixels, metavar="N", help="of an image (%(default)s)")
    number("--max-batch", default=USUAL.max_batch, metavar="N", help="faces classified together (%(default)s)")
    add(
        "--batch-wait",
        type=between(0, LONGEST_WAIT_MS),
        default=USUAL.batch_wait,
        metavar="MS",
        help="of the first of a batch for others (%(default)s)",
    )
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:6]) <= LARGEST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {LARGEST_PORT}")
    return int(text)


def _require_packages() -> None:
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise CommandError(f"the package {name} is missing. Run `pip install -e .[serve]`.") from None
