"""Which code made a record: what a table refuses, and what it only says."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_study import made_up

from nla.errors import DataError, TrainingError
from nla.study.origin import ENTRIES, Origin, origin_caveats
from nla.study.record import Record
from nla.workflow.provenance import CODE, code_commit, imported_sources


def records(**facts: Any) -> list[Record]:
    return [replace(record, facts={**record.facts, **facts}) for record in made_up(seeds=(0,))]


def test_the_fingerprint_is_of_what_decides_a_result_and_of_nothing_that_only_shows_it() -> None:
    files = {file.as_posix() for entry in ENTRIES for file in imported_sources(entry, CODE)}
    assert {"nla/losses/nla.py", "nla/methods/plus.py", "nla/data/synthetic_noise.py", "nla/data/loader.py"} <= files
    assert not any(file.startswith(("nla/study", "nla/tracking", "nla/tuning", "pipelines")) for file in files)
    assert Origin.here().code == Origin.here().code


def test_one_code_of_a_commit_needs_no_word() -> None:
    assert origin_caveats({"clean": records()}) == []


def test_two_codes_in_one_table_are_refused_but_not_in_two() -> None:
    one, other = records(code="a"), records(code="b")
    assert origin_caveats({"first": one, "second": other}) == []
    mixed = [*one, other[0]]
    message = r"first: records of different code in one table \(a made 6, b made 1; for example ce, clean, seed 0: "
    with pytest.raises(DataError, match=message):
        origin_caveats({"first": mixed})


@pytest.mark.parametrize("facts", [{"code": None}, {"code": None, "commit": "c0ffee-dirty"}])
def test_unknown_beside_known_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="unknown made 6"):
        origin_caveats({"clean": [*records(), *records(**facts)]})


def test_a_modified_tree_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"clean: 6 records come from code that differs from its commit .*commit the code"
    ):
        origin_caveats({"clean": records(commit="c0ffee-dirty")})


def test_records_of_an_earlier_version_are_shown_with_a_caveat() -> None:
    old = [*records(code=None), *records(code=None, commit="c0ffee-dirty")]
    (caveat,) = origin_caveats({"clean": old})
    assert "unknown for 12 records" in caveat and "6 of them" in caveat


def test_code_of_no_commit_trains_nothing() -> None:
    with pytest.raises(TrainingError, match=r"differ from commit c0ffee.*Commit the changes"):
        Origin("a", "c0ffee-dirty").require_clean()
    for commit in ("c0ffee", None):  # without git, only the fingerprint is known
        Origin("a", commit).require_clean()


def test_only_code_makes_a_tree_dirty(tmp_path: Path) -> None:
    """Not a report or a record that the study itself writes."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    assert code_commit(tmp_path) is None
    (tmp_path / "nla").mkdir()
    (tmp_path / "nla/a.py").write_text("a = 1")
    (tmp_path / "README.md").write_text("old")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    (tmp_path / "README.md").write_text("new")
    commit = code_commit(tmp_path)
    assert commit is not None and not commit.endswith("-dirty")
    (tmp_path / "nla/b.py").write_text("b = 1")
    assert code_commit(tmp_path) == f"{commit}-dirty"
