"""Which replicates are reported: whole ones, of one kind of CPU, and enough of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made_up_study import made_up

from nla.errors import DataError
from nla.study.manifest import Entry
from nla.study.record import Record
from nla.study.replicates import complete

SEEDS = (0, 1, 2, 3)


def study(seeds: tuple[int, ...] = SEEDS) -> tuple[list[Entry], dict[str, Record]]:
    records = made_up(seeds=seeds, support=(9, 8, 7), claims=False)
    entries = [Entry(method=r.method, condition=r.condition, seed=r.seed, record=r.fingerprint) for r in records]
    return entries, {record.fingerprint: record for record in records}


def name_of(entries: list[Entry], **wanted: Any) -> str:
    return next(entry.record for entry in entries if wanted.items() <= entry.model_dump().items())


def test_a_whole_study_is_reported_whole() -> None:
    entries, records = study()
    assert complete(entries, records) == (entries, [])


def test_a_replicate_without_a_method_is_left_out_for_all_methods() -> None:
    entries, records = study()
    for method in ("ce", "paper"):
        del records[name_of(entries, method=method, condition="clean", seed=2)]
    found, left_out = complete(entries, records)
    assert left_out == ["clean, seed 2: no record of ce, paper."]
    assert found == [entry for entry in entries if (entry.condition, entry.seed) != ("clean", 2)]


def test_a_condition_needs_three_seeds() -> None:
    entries, records = study()
    for seed in (2, 3):
        del records[name_of(entries, method="elr", condition="clean", seed=seed)]
    found, left_out = complete(entries, records)
    assert {entry.condition for entry in found} == {"symmetric 30 %"}
    assert left_out[-1] == "clean: 2 complete seeds of 4, and 3 are needed."


def test_a_grid_of_one_seed_needs_one() -> None:
    entries, records = study((0,))
    assert complete(entries, records) == (entries, [])


@pytest.mark.parametrize(
    "other", [{"machine": {"cpu": "Another CPU"}}, {"device_name": "AVX512"}, {"precision": "bf16"}]
)
def test_a_replicate_of_two_kinds_of_cpu_is_left_out(other: dict[str, Any]) -> None:
    entries, records = study()
    moved = name_of(entries, method="elr", condition="clean", seed=1)
    records[moved] = replace(records[moved], facts={**records[moved].facts, **other})
    found, (left_out,) = complete(entries, records)
    assert left_out.startswith("clean, seed 1: records of 2 kinds of CPU (Made-up CPU, AVX2 in fp32; ")
    assert len(found) == len(entries) - 3


def test_seeds_may_be_of_different_machines() -> None:
    entries, records = study()
    for entry in entries:
        if entry.seed == 1:
            own = records[entry.record]
            records[entry.record] = replace(own, facts={**own.facts, "machine": {"cpu": "Another CPU"}})
    assert complete(entries, records).left_out == []


def test_nothing_complete_is_an_error() -> None:
    entries, _ = study()
    with pytest.raises(
        DataError, match=r"no condition has enough complete seeds \(clean, seed 0: no record of ce, elr"
    ):
        complete(entries, {})
