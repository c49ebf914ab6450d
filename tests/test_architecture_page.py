"""docs/architecture.md shows the layers that are enforced, and names functions where they are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from test_exports import MAY_USE

PAGE = Path(__file__).parents[1] / "docs/architecture.md"
TEXT = PAGE.read_text()


def all_below(layer: str) -> set[str]:
    """Layers that it may import, directly or not."""
    return MAY_USE[layer].union(*map(all_below, MAY_USE[layer]))


def test_the_picture_has_the_imports_that_do_not_follow_from_others() -> None:
    expected = {
        (layer, below)
        for layer, allowed in MAY_USE.items()
        for below in allowed
        if not any(below in all_below(other) for other in allowed)
    }
    shown = re.findall(r"^    (\w+) --> (\w+)$", TEXT, re.MULTILINE)
    assert len(shown) == len(set(shown)) and set(shown) == expected


def test_every_package_is_described_once() -> None:
    described = re.findall(r"^\| `(\w+)` \| \S", TEXT, re.MULTILINE)
    assert sorted(name for name in described if name in MAY_USE) == sorted(MAY_USE)


def names_in(path: Path) -> set[str]:
    """Functions, classes and methods (`Class.method`) that the file defines."""
    defined = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            defined |= {f"{node.name}.{item.name}" for item in members if isinstance(item, ast.FunctionDef)}
    return defined


@pytest.mark.parametrize(("name", "path"), re.findall(r"\[`([\w.]+)`\]\((\.\./nla/[\w/]+\.py)\)", TEXT))
def test_a_name_is_defined_where_the_page_links_it(name: str, path: str) -> None:
    assert name in names_in(PAGE.parent / path)
