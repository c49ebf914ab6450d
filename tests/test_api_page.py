"""docs/api.md is made from the docstrings as they are, and has every public name with its description."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

import nla

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def build_api(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("build_api")


def test_the_page_is_current(build_api: ModuleType) -> None:
    assert (DOCS / "api.md").read_text() == build_api.page(), "run `make docs`"


def test_every_public_name_has_a_section_with_a_text(build_api: ModuleType) -> None:
    sections = dict(part.split("\n", 1) for part in (DOCS / "api.md").read_text().split("\n### ")[1:])
    for module in map(importlib.import_module, build_api.MODULES):
        for name in build_api.public_names(module):
            text = sections[f"{module.__name__}.{name}"].split("\n## ")[0].rpartition("```")[2]
            assert text.strip(), f"{module.__name__}.{name} has no docstring"
    assert all(f"nla.{name}" in (DOCS / "api.md").read_text() for name in nla.__all__)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a, b: int = 3) -> str: ...", "f(a, b: int = 3) -> str"),
        ("def f(self, *, a=1, **b: int): ...", "f(*, a=1, **b: int)"),
        ("def f(*a: int, b: str) -> None: ...", "f(*a: int, b: str) -> None"),
        ("class A(B):\n    def __init__(self, x: int) -> None: ...", "class A(x: int)  # B"),
        ("class A(B): ...", "class A  # B"),
    ],
)
def test_signatures(build_api: ModuleType, source: str, expected: str) -> None:
    (node,) = ast.parse(source).body
    assert build_api.signature(node) == expected


def test_sections_become_lists(build_api: ModuleType) -> None:
    docstring = "Does it.\n\n    Args:\n        a: first,\n            and more.\n        b, c: others."
    source = f'def f():\n    """{docstring}\n    """'
    (node,) = ast.parse(source).body
    lines = [line for line in build_api.paragraphs(node) if line]
    assert lines == ["Does it.", "Args:", "- `a`: first,", "  and more.", "- `b, c`: others."]
