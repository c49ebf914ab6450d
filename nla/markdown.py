"""Markdown with text that others wrote, such as names of classes: it is shown as it is, and nothing else happens."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nla.text import shown

ACTIVE = re.compile(r"([\\`*_\[\]<>|#&~$@:!])")
"""Characters with an effect inside a line, in CommonMark and in the extensions of GitHub and Hugging Face: emphasis,
links and addresses, HTML and its entities, tables, headings, formulas, mentions."""


def escaped(text: str) -> str:
    """`text` in one line, without effect as Markdown."""
    return re.sub(r"(?i)\bwww\.", r"www\.", ACTIVE.sub(r"\\\1", shown(text)))


def row(cells: Sequence[str]) -> str:
    """A row of a table, of cells that are Markdown."""
    return f"| {' | '.join(cells)} |"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [row(head), "|---" * len(head) + "|", *map(row, rows)]
