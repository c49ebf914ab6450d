"""What a file is that should hold weights, told by its content: a download or a clone often leaves something else."""

from __future__ import annotations

import pickletools
from pathlib import Path

from nla.io import regular

GIT_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
HTML = (b"<!doctype html", b"<html", b"<head", b"<?xml")
TENSORS_ONLY = "which is not loaded: it could run code. Only tensors are read."


def problem_of(path: Path) -> str | None:
    """Problem and next action, to follow the name of the file; None if it may hold weights.

    Raises:
        OSError: it cannot be read, or is a pipe or a device.
    """
    with regular(path).open("rb") as file:
        start = file.read(256).lstrip().lower()
    if not start:
        return "is empty. Download it again."
    if start.startswith(GIT_LFS_POINTER):
        return "is a Git LFS pointer. Run `git lfs pull` in the clone it is from."
    if start.startswith(HTML):
        return "is a web page (HTML). Download the file that the page links to."
    return None


def pickled_class(content: bytes) -> str | None:
    """Dotted name of the first class or function that a pickle refers to, without loading it; None without any."""
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL":
                return ".".join(strings[-2:])
            if isinstance(argument, str):
                strings.append(argument)
    except Exception:  # it is no pickle, or cut off; genops can raise anything
        return None
    return None
