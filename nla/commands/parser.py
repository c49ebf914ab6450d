"""The parser of every command."""

from __future__ import annotations

import argparse
from typing import NoReturn

from nla.text import printable


class Parser(argparse.ArgumentParser):
    """A parser whose errors escape control characters, which names of files can contain."""

    def error(self, message: str) -> NoReturn:
        """Exits with usage and message."""
        super().error(printable(message))
