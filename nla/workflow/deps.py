"""The code that each stage of dvc.yaml depends on: `python -m nla.workflow.deps --write | --check`.

A stage that runs `python -m pipelines.NAME`, or `python ../pipelines/NAME.py` from a folder of its own, depends on that
script and on every file of the project that it imports, directly or not. A file that the stage uses without importing
it, such as a script that is stored with the model, is named in the stage's `meta.code`.

Of each dvc.yaml, only the list items of `deps` that name a Python file in `nla/` or `pipelines/` are generated. Every
other line is kept, comments included.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.error import YAMLError

from nla.errors import ConfigError, NLAError
from nla.io import atomic_write
from nla.workflow.provenance import PACKAGES, imported_sources

DVC_FILE = Path("dvc.yaml")
DVC_FILES = (DVC_FILE, Path("video/dvc.yaml"))
"""Relative to the project's root. Studies are left out: their records name the code that made them."""
COMMAND = re.compile(r"\bpython3? (?:-m (pipelines\.\w+)|(?:\.\./)+(pipelines/\w+)\.py\b)")


@dataclass(frozen=True)
class CodeList:
    """The code in the `deps` of one stage: as dvc.yaml lists it, and as the stage's script imports it."""

    stage: str
    listed: Sequence[str]
    imported: Sequence[str]
    lines: Sequence[int]
    """Line of each listed file, counted from 0."""
    end: int
    """Line behind the last item of `deps`."""
    prefix: str
    """Indentation and dash of an item."""

    @property
    def difference(self) -> str:
        """How the two differ, for a message; empty if they agree."""
        parts = {
            "missing": [file for file in self.imported if file not in self.listed],
            "not imported": [file for file in dict.fromkeys(self.listed) if file not in self.imported],
            "duplicate": sorted({file for file in self.listed if self.listed.count(file) > 1}),
        }
        words = [f"{what}: {', '.join(files)}" for what, files in parts.items() if files]
        return "; ".join(words) or ("" if self.listed == self.imported else "not sorted")


def main(argv: Sequence[str] | None = None) -> None:
    """Writes dvc.yaml; or, with --check, exits with 1 and the differences of each stage if there are any."""
    parser = argparse.ArgumentParser("python -m nla.workflow.deps", description="The code that each stage depends on.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help=f"write the lists of {DVC_FILE}")
    action.add_argument("--check", action="store_true", help=f"fail if {DVC_FILE} is out of date")
    options = parser.parse_args(argv)
    try:
        found = [(file, *read_code_lists(Path.cwd(), file)) for file in DVC_FILES if file == DVC_FILE or file.exists()]
    except NLAError as error:
        sys.exit(f"error: {error}")
    for file, text, lists in found:
        stale = [code for code in lists if code.difference]
        if options.write and stale:
            with atomic_write(file) as part:
                part.write_text(with_code(text, lists), encoding="utf-8")
            print(f"{file}: updated {', '.join(code.stage for code in stale)}")
    if options.check:
        differ = [
            f"{file}: stages.{code.stage}.deps: {code.difference}"
            for file, _, lists in found
            for code in lists
            if code.difference
        ]
        if differ:
            sys.exit("\n".join([*(f"error: {line}" for line in differ), "Run `make deps`."]))


def read_code_lists(root: Path, file: Path = DVC_FILE) -> tuple[str, list[CodeList]]:
    """The text of `file`, a dvc.yaml in `root`, and the code list of each stage that runs a script of `pipelines`.

    Raises:
        ConfigError: the file is missing or is not valid YAML, a stage's `deps` are not a list with one item per line,
            or a file that a stage names does not exist.
    """
    try:
        text = (root / file).read_text(encoding="utf-8")
        pipeline = YAML(typ="rt").load(text)
    except FileNotFoundError:
        raise ConfigError(f"{file}: file not found. Run this from the project's root.") from None
    except YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML. Fix it:\n{error}") from None
    stages = {name: stage for name, stage in ((pipeline or {}).get("stages") or {}).items() if _script(stage)}
    lines = text.splitlines()
    return text, [_code_list(_Stage(name, stage, file, root), lines) for name, stage in stages.items()]


def with_code(text: str, lists: Sequence[CodeList]) -> str:
    """dvc.yaml with the imported files of each stage in place of the listed ones."""
    lines = text.splitlines()
    for code in sorted(lists, key=lambda code: code.end, reverse=True):  # from the end: line numbers above stay valid
        if code.difference:
            lines = list(_replaced(lines, code))
    return "".join(f"{line}\n" for line in lines)


def _replaced(lines: Sequence[str], code: CodeList) -> Iterator[str]:
    """Lines with the block of `code` where it began, or at the end of `deps`; a listed file keeps its line."""
    start = min(code.lines, default=code.end)
    old = {file: lines[line] for file, line in zip(code.listed, code.lines, strict=True)}
    yield from lines[:start]
    yield from (old.get(file, f"{code.prefix}{file}") for file in code.imported)
    yield from (line for number, line in enumerate(lines[start:], start) if number not in code.lines)


class _Stage(NamedTuple):
    """A stage of a dvc.yaml."""

    name: str
    content: Any
    file: Path
    root: Path

    @property
    def key(self) -> str:
        return f"{self.file}: stages.{self.name}"

    @property
    def up(self) -> str:
        """From the folder of the file to the root: the beginning of the paths of code."""
        return "../" * (len(self.file.parts) - 1)


def _code_list(stage: _Stage, lines: Sequence[str]) -> CodeList:
    key = f"{stage.key}.deps"
    if "deps" not in stage.content:
        raise ConfigError(f"{key}: missing. Add `deps:` to the stage.")
    deps = stage.content["deps"]
    line, column = stage.content.lc.key("deps")
    if deps is None:
        return CodeList(stage.name, [], _imported(stage), [], line + 1, f"{' ' * column}  - ")
    if not isinstance(deps, CommentedSeq) or deps.fa.flow_style() or not deps:
        raise ConfigError(
            f"{key}: not a list with one item per line. Write each dependency on its own line as `- PATH`."
        )
    at = {index: deps.lc.item(index) for index in range(len(deps))}
    code = [index for index, item in enumerate(deps) if isinstance(item, str) and _is_code(item, stage.up)]
    last, column = at[len(deps) - 1]
    prefix = re.match(r"\s*-\s*", lines[last])
    assert prefix is not None  # a block sequence
    end = last + 1
    while end < len(lines) and re.match(rf" {{{column}}}", lines[end]):  # the last item has further lines
        end += 1
    return CodeList(
        stage.name, [deps[i] for i in code], _imported(stage), [at[i][0] for i in code], end, prefix.group()
    )


def _imported(stage: _Stage) -> list[str]:
    """Files that the stage's script imports, and those of `meta.code`, with what these import; sorted."""
    entries = [Path(*_script(stage.content).split(".")).with_suffix(".py")]
    entries += map(Path, (stage.content.get("meta") or {}).get("code", ()))
    for entry in entries:
        if not (stage.root / entry).is_file():
            raise ConfigError(f"{stage.key}: {entry}: file not found. Correct `cmd` or `meta.code`.")
    return sorted({stage.up + file.as_posix() for entry in entries for file in imported_sources(entry, stage.root)})


def _script(stage: Mapping[str, Any]) -> str:
    """Module that the stage runs; empty if it is not one of `pipelines`."""
    match = COMMAND.search(str(stage.get("cmd")))
    return (match[1] or match[2].replace("/", ".")) if match else ""


def _is_code(dep: str, up: str) -> bool:
    return dep.startswith(tuple(f"{up}{package}/" for package in PACKAGES)) and dep.endswith(".py")


if __name__ == "__main__":
    main()
