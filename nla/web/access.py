"""The token of a server, which it needs if other machines can reach it."""

from __future__ import annotations

import os

from nla.errors import CommandError
from nla.web.guard import is_loopback

TOKEN = "NLA_TOKEN"
SHORTEST = 16
"""Characters; a shorter token could be guessed."""
NEW = "python -c 'import secrets; print(secrets.token_urlsafe())'"


def token_for(host: str, option: str) -> str | None:
    """The token of the environment; None if there is none, and none is needed.

    Args:
        host: the address that the server listens on.
        option: where that is set, for messages.

    Raises:
        CommandError: it is missing, although other machines reach `host`; or it is too short or not plain text.
    """
    token = os.environ.get(TOKEN)
    if token is None:
        if not is_loopback(host):
            raise CommandError(
                f"{option} {host}: other machines could use this server, so it needs a token. Set {TOKEN}, for "
                f"example to what `{NEW}` prints; or listen on 127.0.0.1."
            )
        return None
    if len(token) < SHORTEST or not (token.isascii() and token.isprintable() and " " not in token):
        raise CommandError(
            f"{TOKEN}: must have {SHORTEST} characters at least, letters, digits and signs. Set it to what "
            f"`{NEW}` prints, or unset it."
        )
    return token
