"""Provenance of a result: the source files that produced it, and a fingerprint of parameters, data and code."""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGES = ("nla", "pipelines")
CODE = Path(__file__).parents[2]
"""Folder of these packages: the project, or for a study the one it belongs to."""
DIRTY = "-dirty"
"""Behind the name of a commit from which files differ, as `git describe` puts it."""
DIGITS = 16  # hex digits of the fingerprint; 64 bits identify a run


def imported_sources(entry: Path, root: Path) -> list[Path]:
    """`entry` and every file of this project that it imports, directly or not, relative to `root`, sorted.

    Found from import statements, including those inside functions, but not in `if TYPE_CHECKING:` blocks.
    """
    seen: set[Path] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += [file for name in _imports(root / path) for file in _files(name, root)]
    return sorted(seen)


def fingerprint(params: Mapping[str, Any], files: Iterable[Path], root: Path) -> str:
    """Hash of JSON-serializable `params`, and of the code of the Python `files` and their paths below `root`."""
    digest = hashlib.sha256(json.dumps(params, sort_keys=True).encode())
    for path in sorted(files):
        digest.update(f"\n{path.as_posix()}:{_code(root / path)}".encode())
    return digest.hexdigest()[:DIGITS]


def git_commit(root: Path) -> str | None:
    """The commit, with `-dirty` appended if tracked files differ from it; None outside git."""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def code_commit(root: Path) -> str | None:
    """The commit, with DIRTY appended if the code in PACKAGES differs from it; other files may. None outside git."""
    commands = (["rev-parse", "HEAD"], ["status", "--porcelain", "--", *PACKAGES])
    try:
        commit, changed = (
            subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}{DIRTY}" if changed else commit


def _code(path: Path) -> str:
    """The file's code without comments, docstrings and layout, which do not affect results."""
    return ast.dump(_WithoutDocstrings().visit(ast.parse(path.read_text(encoding="utf-8"))))


class _WithoutDocstrings(ast.NodeTransformer):
    """Removes docstrings, and strings that document an assignment."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        is_docstring = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if is_docstring else node


def _imports(path: Path) -> Iterator[str]:
    """Dotted names that the file imports."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def _files(name: str, root: Path) -> Iterator[Path]:
    """Files that importing the dotted `name` executes: the packages above it, and the module."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return
    for depth in range(1, len(parts) + 1):
        stem = Path(*parts[:depth])
        for candidate in (stem / "__init__.py", stem.with_suffix(".py")):
            if (root / candidate).is_file():
                yield candidate
