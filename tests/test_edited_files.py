"""An edited or damaged file is read as what it says, or refused by one line that names it: never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from edited_files import KINDS, Kind, failures, outcome

EDITS, MANY = 25, 400


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_edits_end_without_a_traceback(tmp_path: Path, kind: Kind) -> None:
    assert failures(kind, EDITS, 0, tmp_path) == []


@pytest.mark.thorough
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_many_edits_end_without_a_traceback(tmp_path: Path, kind: Kind) -> None:
    assert failures(kind, MANY, 1, tmp_path) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("kept", [0.0, 0.5])
def test_an_empty_or_cut_off_file_is_named(tmp_path: Path, kind: Kind, kept: float) -> None:
    kind.write(tmp_path)
    (path,) = tmp_path.rglob(kind.name)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert outcome(kind, path, tmp_path) is None
