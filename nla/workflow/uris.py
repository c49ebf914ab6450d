"""Removes credentials from the address of a store."""

from __future__ import annotations

import re


def without_credentials(uri: str) -> str:
    """`uri` without user, password and query, any of which can hold a secret."""
    if not uri.startswith(("http:", "https:")):  # SQLAlchemy allows / and ? in a password
        uri = re.sub(r"//[^:/@]*:[^@]*@", "//", uri, count=1)
    return re.sub(r"//[^/]*@", "//", uri.partition("?")[0])
