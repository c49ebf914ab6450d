"""Which code made the records of a study: its fingerprint, its commit, and whether one table has records of one code.

The fingerprint is of the code that determines a result: how rows are prepared, trained on and predicted. Code that
schedules, records or reports can change without another fingerprint. It is part of a record's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nla.errors import DataError, TrainingError
from nla.study.record import Record
from nla.workflow.provenance import CODE, DIRTY, code_commit, fingerprint, imported_sources

ENTRIES = tuple(
    Path("nla") / module
    for module in ("data/prepare.py", "training/job.py", "training/trainer.py", "evaluation/predict.py")
)
"""The fingerprint is of these files and all that they import."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Origin:
    """The code that is running now."""

    code: str
    """Its fingerprint."""
    commit: str | None
    """Its commit, with DIRTY appended if the code differs from it; None outside git."""

    @classmethod
    def here(cls) -> Origin:
        """That of this process."""
        files = {file for entry in ENTRIES for file in imported_sources(entry, CODE)}
        return cls(fingerprint({}, files, CODE), code_commit(CODE))

    def require_clean(self) -> None:
        """Raises TrainingError if the code is in no commit, so that nobody could find the code of a record again."""
        if self.commit and self.commit.endswith(DIRTY):
            commit = self.commit.removesuffix(DIRTY)[:10]
            raise TrainingError(
                f"nla/ and pipelines/ differ from commit {commit}, so that records could not name the code that makes "
                "them. Commit the changes, then run `dvc repro`."
            )


def origin_caveats(tables: Mapping[str, Sequence[Record]]) -> list[str]:
    """What a reader must know of the code that made the records; [] if all is known.

    Raises:
        DataError: a table has records of different code, or of code that was modified after its commit.
    """
    for title, records in tables.items():
        _check_table(title, records)
    old = [record for records in tables.values() for record in records if _code(record) == UNKNOWN]
    if not old:
        return []
    dirty = sum(_is_dirty(record) for record in old)
    return [
        f"The fingerprint of the code is unknown for {len(old)} records, which are of an earlier version; {dirty} of "
        "them come from a modified working tree, so that a table can mix states of the code."
    ]


def _check_table(title: str, records: Sequence[Record]) -> None:
    by_code: dict[str, list[Record]] = {}
    for record in records:
        by_code.setdefault(_code(record), []).append(record)
    if len(by_code) > 1:
        rarest = min(by_code.values(), key=len)
        parts = ", ".join(f"{code} made {len(own)}" for code, own in by_code.items())
        raise DataError(
            f"{title}: records of different code in one table ({parts}; for example {_names(rarest)}). Remove those of "
            "the other code, and run `dvc repro` in the study's folder, which trains what is missing."
        )
    if dirty := [record for record in records if _code(record) != UNKNOWN and _is_dirty(record)]:
        raise DataError(
            f"{title}: {len(dirty)} records come from code that differs from its commit (for example {_names(dirty)}). "
            "Remove them, commit the code, and run `dvc repro` in the study's folder, which trains them again."
        )


def _code(record: Record) -> str:
    return record.facts.get("code") or UNKNOWN


def _is_dirty(record: Record) -> bool:
    return (record.facts.get("commit") or "").endswith(DIRTY)


def _names(records: Iterable[Record]) -> str:
    first = next(iter(records))
    return f"{first.method}, {first.condition}, seed {first.seed}: {first.fingerprint}.parquet"
