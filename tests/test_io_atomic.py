"""A file has its name once it is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from nla.io import atomic_write


def test_it_gets_its_name_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/table.parquet"
    with atomic_write(path) as part:
        part.write_text("half")
        assert not path.exists() and part.parent == path.parent
        part.write_text("whole")
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
