"""The code that each stage depends on, in dvc.yaml: `python -m nla.workflow.deps --write | --check`.

Each stage runs `python -m pipelines.NAME`; it depends on that script and on every file of the project that the script
imports. Code that a stage uses without importing it, such as a script that is stored with the model, is named in the
stage's `meta.code`.

Only the lines `- nla/...` and `- pipelines/...` below `deps:` are written; all else in dvc.yaml is kept as it is.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nla.config.base import read_yaml
from nla.io import atomic_write
from nla.workflow.provenance import PACKAGES, imported_sources

DVC_FILE = Path("dvc.yaml")
COMMAND = re.compile(r"python -m (pipelines\.\w+)")
STAGE, KEY, ITEM = (re.compile(rf" {{{indent}}}{what}") for indent, what in ((2, r"(\w+):"), (4, r"(\w+):"), (6, "- ")))
CODE = re.compile(rf" {{6}}- (?:{'|'.join(PACKAGES)})/")


def main(argv: Sequence[str] | None = None) -> None:
    """Writes dvc.yaml, or exits with 1 and the stages whose list differs."""
    parser = argparse.ArgumentParser("python -m nla.workflow.deps", description="The code that each stage depends on.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", action="store_true", help="write it into dvc.yaml")
    action.add_argument("--check", action="store_true", help="fail if dvc.yaml differs")
    options = parser.parse_args(argv)
    root = Path.cwd()
    old = (root / DVC_FILE).read_text()
    new = with_code(old, stage_code(read_yaml(root / DVC_FILE, "run from the project's root"), root))
    if new == old:
        return
    if options.check:
        sys.exit(f"error: {DVC_FILE}: the code listed for some stage is out of date. Run `make deps`.")
    with atomic_write(root / DVC_FILE) as part:
        part.write_text(new)


def stage_code(pipeline: dict[str, Any], root: Path) -> dict[str, list[str]]:
    """Stage -> the files that it depends on, sorted; stages that run no script of this project are left out."""
    found = {}
    for name, stage in pipeline["stages"].items():
        if match := COMMAND.match(str(stage.get("cmd"))):
            script = Path(*match[1].split(".")).with_suffix(".py")
            entries = [script, *map(Path, (stage.get("meta") or {}).get("code", []))]
            files = {file for entry in entries for file in imported_sources(entry, root)}
            found[name] = sorted(file.as_posix() for file in files)
    return found


def with_code(text: str, code: dict[str, list[str]]) -> str:
    """dvc.yaml with the code of each stage as the last of its `deps`."""
    return "".join(f"{line}\n" for line in _lines(text.splitlines(), code))


def _lines(lines: Iterable[str], code: dict[str, list[str]]) -> Iterator[str]:
    stage = key = ""
    for line in [*lines, None]:
        ends = line is None or (line.strip() and not line.startswith(" " * 5))
        if key == "deps" and ends:
            yield from (f"      - {file}" for file in code.get(stage, ()))
            key = ""
        if line is None:
            return
        if match := STAGE.match(line):
            stage = match[1]
        elif match := KEY.match(line):
            key = match[1]
        if not (key == "deps" and stage in code and CODE.match(line)):
            yield line


if __name__ == "__main__":
    main()
