"""What may be shown and kept of the address of a store."""

from __future__ import annotations

import re


def without_credentials(uri: str) -> str:
    """`uri` without user, password and query, each of which may hold a secret."""
    if not uri.startswith(("http:", "https:")):  # as SQLAlchemy reads it, a password may hold / and ?
        uri = re.sub(r"//[^:/@]*:[^@]*@", "//", uri, count=1)
    return re.sub(r"//[^/]*@", "//", uri.partition("?")[0])
