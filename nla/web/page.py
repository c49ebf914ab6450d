"""The page on which a person tries the model: one document, without anything from another address."""

from __future__ import annotations

import functools
import secrets
from importlib.resources import files
from string import Template

POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content Security Policy, level 3: only the page's own script and style, and requests to this server alone."""


def page() -> tuple[str, str]:
    """The document, and the policy that permits its script and style, by a number that is used once."""
    nonce = secrets.token_urlsafe(16)
    return _document().substitute(nonce=nonce), POLICY.format(nonce=nonce)


@functools.cache
def _document() -> Template:
    folder = files("nla.web") / "static"
    parts = {name: (folder / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js", "html")}
    text = Template(parts["html"]).safe_substitute(
        style=parts["css"].replace("$", "$$"), script=parts["js"].replace("$", "$$")
    )
    return Template(text)
