"""docs/guarantees.md: every promise names a test that exists, and whether it runs with the thorough ones."""

from __future__ import annotations

import ast
import json
import re

import pytest
from mlflow_parts import ROOT

PAGE = ROOT / "docs/guarantees.md"
ROWS = [
    line for line in PAGE.read_text().splitlines() if line.startswith("| ") and ("::" in line or "| `make " in line)
]


def test_there_are_at_least_forty() -> None:
    assert len(ROWS) >= 40


@pytest.mark.parametrize("row", ROWS)
def test_a_promise_names_its_test(row: str) -> None:
    _, fault, promised, test, _ = (cell.strip() for cell in row.split("|"))
    if program := re.fullmatch(r"`make ([\w-]+)`", test):  # runs for an hour
        assert re.search(rf"^{program[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert fault and promised and not promised.endswith("†")
        return
    found = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", test)
    assert fault and promised and found
    file, name = found.groups()
    (function,) = (
        node
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    marks = [ast.unparse(mark) for mark in function.decorator_list]
    is_thorough = "pytest.mark.thorough" in marks or marks_all(file)
    assert promised.endswith("†") == is_thorough


def marks_all(file: str) -> bool:
    """Whether the file marks all of its tests as thorough."""
    return bool(re.search(r"^pytestmark = .*thorough", (ROOT / file).read_text(), re.MULTILINE))


def test_the_figures_on_mutants_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "benchmarks/records/mutants.json").read_text())
    low, high = record["share_killed_95"]
    first = record["at_first"]
    sentence = (
        f"Of {record['n']} changes, drawn from {record['mutants']:,}, the tests noticed {first['killed']} within "
        f"{first['minutes']:.0f} minutes, and {record['killed']} after tests had been written for some of the others: "
        f"{record['share_killed']:.1%} (95 % interval {low:.1%} to {high:.1%})"
    )
    assert sentence in " ".join(PAGE.read_text().split())


def test_the_figures_on_coverage_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "benchmarks/records/coverage.json").read_text())
    sentence = (
        f"{record['share_of_branches']:.1%} of {record['branches']:,} branches and {record['share_of_lines']:.1%} of "
        f"{record['lines']:,} lines, in {record['minutes']:.0f} minutes"
    )
    assert sentence in " ".join(PAGE.read_text().split())


def test_the_figures_of_the_hour_of_kills_are_those_of_the_record() -> None:
    record = json.loads((ROOT / "benchmarks/records/soak.json").read_text())
    assert record["kills"] >= 100 and record["of_rays_processes"] >= 25
    assert record["lost_epochs"] == record["different_weights"] == 0
    sentence = (
        f"{record['kills']} kills of {len(record['trainings'])} small trainings, {record['of_rays_processes']} of them "
        "of Ray's workers, raylet or head: no epoch that was reported was trained again, and all weights were those of "
        "undisturbed trainings, bit for bit"
    )
    assert sentence in " ".join(PAGE.read_text().split())
