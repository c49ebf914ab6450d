"""A folder of results that appears complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from nla.errors import CommandError
from nla.text import shown


def check_new_folder(out: Path, own: Collection[str], overwrite: bool) -> None:
    """Checks that a result can be written to `out`, before anything is computed for it.

    Args:
        out: a folder that is missing, is empty, or has a result of the same kind.
        own: files that every such result has. A folder without them is somebody's own, and is never replaced.
        overwrite: whether an earlier result may be replaced.

    Raises:
        CommandError: `out` is a file, or has files that may not be replaced.
    """
    name = shown(str(out))
    if out.exists() and not out.is_dir():
        raise CommandError(f"{name}: a file. Name a folder.")
    if not out.exists() or not any(out.iterdir()):
        return
    if any(not (out / file).is_file() for file in own):
        raise CommandError(f"{name}: the folder has other files. Name a new or an empty one.")
    if not overwrite:
        raise CommandError(f"{name}: the folder has an earlier result. Name another one, or add --overwrite.")


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yields an empty folder beside `out`, which takes its place at the end, or is deleted after an error.

    Raises:
        OSError: it cannot be written.
    """
    out = out.resolve()
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            old = part.with_suffix(".old")
            out.rename(old)
            part.rename(out)
            shutil.rmtree(old)
        else:
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
