"""`nla serve`: a model over HTTP, with a page to try it."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nla.commands.arguments import add_device
from nla.commands.parser import Parser, positive
from nla.console import say
from nla.errors import CommandError
from nla.faces.choice import NAMES
from nla.limits import ImageLimits

if TYPE_CHECKING:
    from nla.web.live_model import ModelSource

TOKEN = "NLA_TOKEN"
SHORTEST_TOKEN = 16
"""Characters; a shorter token could be guessed."""
NEW_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe())'"
PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
LARGEST_PORT = 65_535


def main(argv: Sequence[str]) -> None:
    """Serves until a signal comes.

    Raises:
        CommandError: a package is missing, the address or token cannot be used, or there is no such device or detector.
        NLAError: the model cannot be loaded.
    """
    options = _parser().parse_args(argv)
    _require_packages()
    from nla.web.guard import LOOPBACK, is_loopback

    token = _token()
    if not is_loopback(options.host) and token is None:
        raise CommandError(
            f"--host {options.host}: other machines could use this server, so it needs a token. Set {TOKEN}, for "
            f"example to what `{NEW_TOKEN}` prints; or leave --host out."
        )
    from nla.web.app import build_app  # PyTorch takes seconds
    from nla.web.limits import ServerLimits
    from nla.web.live_model import LiveModel
    from nla.web.metrics import Metrics
    from nla.web.server import bound_socket, serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    with bound_socket(options.host, options.port) as listening:
        metrics = Metrics()
        limits = ServerLimits(
            options.max_body, options.max_images, images=ImageLimits(options.max_pixels, options.max_body)
        )
        source = _source(options.model, options.device)
        model = LiveModel(
            source, options.detector, cropped=options.cropped, count=lambda outcome: metrics.loads.labels(outcome).inc()
        )
        app = build_app(
            model,
            metrics,
            hosts=[*LOOPBACK, options.host, *options.allow_host],
            token=token,
            limits=limits,
            poll_seconds=options.poll if source.version() else None,
        )
        port = listening.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        used = model.current
        what = used.name if used.version is None else f"{used.name} version {used.version}"
        serve(app, listening, lambda: say(f"serving {what} on http://{host}:{port}"))


def _parser() -> Parser:
    parser = Parser("nla serve", description="A model over HTTP: POST /predict, and a page to try it at /.")
    add = parser.add_argument
    add("--model", default="models", help="a folder or .safetensors file, or models:/NAME@champion (%(default)s)")
    add("--host", default="127.0.0.1", help=f"address to listen on (%(default)s); others need {TOKEN}")
    add("--port", type=_port, default=8000, help="0 for any free one (%(default)s)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a further name in the header Host")
    add("--detector", choices=NAMES, default="auto", help="of faces in photos (%(default)s)")
    add("--cropped", action="store_true", help="take all images as crops of faces")
    add_device(parser)
    add("--poll", type=positive, default=10, metavar="SECONDS", help="between looks for a newer version (%(default)s)")
    add("--max-body", type=positive, default=64_000_000, metavar="BYTES", help="of a request (%(default)s)")
    add("--max-images", type=positive, default=64, metavar="N", help="of a request (%(default)s)")
    add("--max-pixels", type=positive, default=50_000_000, metavar="N", help="of an image (%(default)s)")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text[:6]) <= LARGEST_PORT):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {LARGEST_PORT}")
    return int(text)


def _source(model: str, device: str) -> ModelSource:
    if model.startswith("models:"):
        from nla.web.registry_source import RegistrySource  # which imports MLflow

        return RegistrySource(model, device)
    from nla.web.live_model import FolderSource

    return FolderSource(Path(model), device)


def _token() -> str | None:
    """The token of the environment, None without. Raises CommandError if it is too short or not plain text."""
    token = os.environ.get(TOKEN)
    if token is None:
        return None
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable() and " " not in token):
        raise CommandError(
            f"{TOKEN}: must have {SHORTEST_TOKEN} characters at least, letters, digits and signs. Set it to what "
            f"`{NEW_TOKEN}` prints, or unset it."
        )
    return token


def _require_packages() -> None:
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise CommandError(f"the package {name} is missing. Run `pip install -e .[serve]`.") from None
