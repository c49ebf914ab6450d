"""tests/mutation.py: what it takes for the line that was changed, its sample, and the list of equivalent mutants."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import random
import textwrap
from collections import Counter

import pytest
from mutation import Mutant, changed_line, drawn, mutants_of, proofs, summary

MODULE = """
def x_half__mutmut_orig(x):
    if x > 0:
        return x / 2
    return 0

def x_half__mutmut_1(x):
    if x >= 0:
        return x / 2
    return 0

class Box:
    def xǁBoxǁput__mutmut_orig(self, x): self.x = x
    def xǁBoxǁput__mutmut_1(self, x): self.x = None
"""


def test_a_mutant_is_its_function_and_the_line_that_differs() -> None:
    first, second = mutants_of("nla.m", MODULE, ["x_half__mutmut_1", "xǁBoxǁput__mutmut_1"])
    assert first.name == "nla.m.x_half__mutmut_1"
    assert first.key == ("nla.m.half", "if x > 0:", "if x >= 0:")
    assert second.key == ("nla.m.Box.put", "self.x = x", "self.x = None")


def test_a_removed_line_differs_from_nothing() -> None:
    assert changed_line("f(x)\ng(x)", "f(x)") == ("g(x)", "")


def made_up(module: str, number: int) -> Mutant:
    return Mutant(f"{module}.x_f__mutmut_{number}", module, "f", f"x = {number}", f"x = {number + 1}")


def test_each_module_has_its_share_of_the_sample() -> None:
    mutants = [made_up(module, i) for module, count in (("a", 70), ("b", 25), ("c", 5)) for i in range(count)]
    sample = drawn(mutants, 20, random.Random(0))
    assert Counter(mutant.module for mutant in sample) == {"a": 14, "b": 5, "c": 1}
    assert len({mutant.name for mutant in sample}) == 20
    assert sample == drawn(mutants, 20, random.Random(0)) != drawn(mutants, 20, random.Random(1))
    assert len(drawn(mutants, 99, random.Random(0))) == 99


def test_a_survivor_with_a_proof_is_no_gap() -> None:
    sample = [made_up("a", i) for i in range(8)]
    given = ["killed"] * 4 + ["timeout", "survived", "no tests", "survived"]
    verdicts = {mutant.name: verdict for mutant, verdict in zip(sample, given, strict=True)}
    proved = {sample[5].key: "x is not read", sample[0].key: "wrong"}
    found = summary(sample, verdicts, proved)
    counts = {name: found[name] for name in ("n", "killed", "timeouts", "survived", "equivalent", "share_killed")}
    assert counts == {"n": 8, "killed": 4, "timeouts": 1, "survived": 2, "equivalent": 1, "share_killed": 0.5}
    assert found["share_killed_of_different"] == pytest.approx(4 / 7, abs=1e-4)
    assert [survivor["line"] for survivor in found["survivors"]] == ["x = 4", "x = 6", "x = 7"]
    assert [mutant["line"] for mutant in found["killed_though_equivalent"]] == ["x = 0"]
    assert found["modules"] == {"a": {"n": 8, "killed": 4}}


@pytest.mark.parametrize("key", proofs())
def test_an_equivalent_mutant_is_still_one_of_the_code(key: tuple[str, str, str]) -> None:
    function, line, mutated = key
    source = inspect.getsource(pkgutil.resolve_name(function))
    lines = ast.unparse(ast.parse(textwrap.dedent(source))).splitlines()
    assert line in [text.strip() for text in lines]
    assert mutated != line and proofs()[key]
