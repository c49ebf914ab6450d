"""Would the tests notice? Small changes of the code that computes losses, labels, metrics, statistics and checkpoints.

    python tests/mutation.py --n 500 --seed 0

mutmut changes one operator, number, string, argument or assignment in a function, and runs the tests that call this
function; `[tool.mutmut]` of pyproject.toml lists modules and tests. A change that they do not notice survives. All
modules have their share of a random sample. mutmut leaves out properties and other decorated functions, constants of
modules, calls of len and isinstance, and annotations; nothing else is left out.

Survivors that compute the same as the original are listed in tests/equivalent_mutants.toml, each with its proof. The
record is benchmarks/records/mutants.json. `mutmut show NAME` shows a mutant of the last call, `mutmut run NAME` tests
it once more.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from records import measured_here, read_record, write_record  # noqa: E402

from nla.evaluation.significance import wilson  # noqa: E402

EQUIVALENT = ROOT / "tests/equivalent_mutants.toml"
FOLDER = ROOT / "mutants"
"""Where mutmut works: a copy of the project with all mutants, and their verdicts."""
GOAL = 0.95
"""Least share of killed mutants."""


@dataclass(frozen=True)
class Mutant:
    """A change of a function."""

    name: str
    """mutmut's, with a number that changes with the code."""
    module: str
    function: str
    """With its class."""
    line: str
    """What is changed, as `ast.unparse` writes it: a statement, or the head of a compound one."""
    mutated: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it as long as its line is the same."""
        return f"{self.module}.{self.function}", self.line, self.mutated


def main() -> int:
    """Tests a sample of mutants, and writes the record; returns 1 if too few are killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="only what survived in the record of the same n and seed")
    options = parser.parse_args()
    os.chdir(ROOT)
    started, facts = time.monotonic(), measured_here()
    mutants = all_mutants()
    sample = drawn(mutants, min(options.n, len(mutants)), random.Random(options.seed))
    command = f"python tests/mutation.py --n {options.n} --seed {options.seed}"
    before = earlier(command, len(mutants)) if options.again else None
    verdicts = tested(sample, options.processes) if before is None else tested_again(sample, options.processes, before)
    record = {
        "command": command,
        "mutmut": version("mutmut"),
        "mutants": len(mutants),
        **summary(sample, verdicts, proofs()),
        **(at_first(before) if before else {}),
        "minutes": round((time.monotonic() - started) / 60, 1),
        **facts,
    }
    write_record("mutants", record)
    print_summary(record)
    return int(record["share_killed"] < GOAL or bool(record["killed_though_equivalent"]))


def earlier(command: str, mutants: int) -> dict[str, Any]:
    """The record of the same command on the same code."""
    record = read_record("mutants")
    if (record["command"], record["mutants"]) != (command, mutants):
        raise SystemExit("The record is of another sample. Run without --again.")
    return record


def tested_again(sample: Sequence[Mutant], processes: int, before: Mapping[str, Any]) -> dict[str, str]:
    """Verdicts on the whole sample, of which only those are tested that were not killed before."""
    alive = {mutant["name"] for mutant in (*before["survivors"], *before["equivalents"])}
    found = tested([mutant for mutant in sample if mutant.name in alive], processes)
    return {mutant.name: found.get(mutant.name, "killed") for mutant in sample}


def at_first(before: Mapping[str, Any]) -> dict[str, Any]:
    """The figures before tests were written for what survived."""
    names = ("killed", "timeouts", "survived", "equivalent", "share_killed", "share_killed_95", "minutes")
    return {"at_first": before.get("at_first", {name: before[name] for name in names})}


def all_mutants() -> list[Mutant]:
    """Every mutant that mutmut makes of the modules in pyproject.toml, in the order of their names."""
    from mutmut.configuration import config
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.file_utils import walk_mutatable_files

    found: list[Mutant] = []
    for path in sorted(walk_mutatable_files()):
        assert config().should_mutate(path)
        mutated = mutate_file_contents(str(path), path.read_text())
        found += mutants_of(module_name(path), mutated.code, mutated.mutant_names)
    return found


def module_name(path: Path) -> str:
    """The name under which the file is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def mutants_of(module: str, code: str, names: Sequence[str]) -> list[Mutant]:
    """The mutants in what mutmut writes for a module: each function with its original and its mutants beside it."""
    functions = {node.name: node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}
    found = []
    for name in names:
        stem = name.rpartition("__mutmut_")[0]
        original, mutant = functions[f"{stem}__mutmut_orig"], functions[name]
        original.name = mutant.name = stem
        line, mutated = changed_line(ast.unparse(original), ast.unparse(mutant))
        qualified = stem.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
        found.append(Mutant(f"{module}.{name}", module, qualified, line, mutated))
        original.name, mutant.name = f"{stem}__mutmut_orig", name
    return found


def changed_line(original: str, mutant: str) -> tuple[str, str]:
    """The line that differs, in both."""
    pairs = list(difflib.ndiff(original.splitlines(), mutant.splitlines()))
    removed, added = (" ".join(line[2:].strip() for line in pairs if line[0] == sign) for sign in "-+")
    return removed, added


def drawn(mutants: Sequence[Mutant], n: int, rng: random.Random) -> list[Mutant]:
    """n of the mutants, of each module in proportion to its number of mutants (largest remainders)."""
    modules = Counter(mutant.module for mutant in mutants)
    exact = {module: n * count / len(mutants) for module, count in modules.items()}
    share = {module: int(quota) for module, quota in exact.items()}
    for module in sorted(exact, key=lambda module: share[module] - exact[module])[: n - sum(share.values())]:
        share[module] += 1
    return [
        mutant
        for module, count in share.items()
        for mutant in rng.sample([mutant for mutant in mutants if mutant.module == module], count)
    ]


def tested(sample: Sequence[Mutant], processes: int) -> dict[str, str]:
    """mutmut's verdict on each mutant, by its name: killed, survived, no tests, timeout, ..."""
    from mutmut.stats import status_by_exit_code

    shutil.rmtree(FOLDER, ignore_errors=True)
    names = [mutant.name for mutant in sample]
    environment = {name: value for name, value in os.environ.items() if name != "NLA_FERPLUS"} | {
        "OMP_NUM_THREADS": "1"
    }
    subprocess.run(["mutmut", "run", "--max-children", str(processes), *names], check=True, env=environment)
    codes: dict[str, int | None] = {}
    for file in FOLDER.rglob("*.py.meta"):
        codes |= json.loads(file.read_text())["exit_code_by_key"]
    return {name: status_by_exit_code[codes[name]] for name in names}


def proofs() -> dict[tuple[str, str, str], str]:
    """Why a mutant computes the same as the original, by its key."""
    listed = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    return {(entry["function"], entry["line"], entry["mutated"]): entry["proof"] for entry in listed}


def summary(
    sample: Sequence[Mutant], verdicts: Mapping[str, str], proved: Mapping[tuple[str, str, str], str]
) -> dict[str, Any]:
    """The record's figures. A timeout is no kill: on a busy machine the tests of any mutant can take too long."""
    alive = [mutant for mutant in sample if verdicts[mutant.name] != "killed"]
    equivalent = [mutant for mutant in alive if mutant.key in proved]
    left = [mutant for mutant in alive if mutant.key not in proved]
    timeouts = sum(verdicts[mutant.name] == "timeout" for mutant in left)
    n, killed, different = len(sample), len(sample) - len(alive), len(sample) - len(equivalent)
    by_module = Counter(mutant.module for mutant in sample)
    alive_in = Counter(mutant.module for mutant in alive)
    return {
        "n": n,
        "killed": killed,
        "timeouts": timeouts,
        "survived": len(left) - timeouts,
        "equivalent": len(equivalent),
        "share_killed": round(killed / n, 4),
        "share_killed_95": [round(end, 4) for end in wilson(killed, n)],
        "share_killed_of_different": round(killed / different, 4),
        "share_killed_of_different_95": [round(end, 4) for end in wilson(killed, different)],
        "survivors": [{**told(mutant), "verdict": verdicts[mutant.name]} for mutant in left],
        "equivalents": [{**told(mutant), "proof": proved[mutant.key]} for mutant in equivalent],
        "killed_though_equivalent": [told(m) for m in sample if m.key in proved and m not in alive],
        "modules": {name: {"n": count, "killed": count - alive_in[name]} for name, count in sorted(by_module.items())},
    }


def told(mutant: Mutant) -> dict[str, str]:
    """A mutant in the record."""
    return {"name": mutant.name, "function": mutant.key[0], "line": mutant.line, "mutated": mutant.mutated}


def print_summary(record: Mapping[str, Any]) -> None:
    """What survived, and the figures."""
    for survivor in record["survivors"]:
        print(f"{survivor['name']}\n  - {survivor['line']}\n  + {survivor['mutated']}")
    for mutant in record["killed_though_equivalent"]:
        print(f"{mutant['name']} is killed, but listed in {EQUIVALENT.name}. Remove it there.")
    low, high = (100 * end for end in record["share_killed_95"])
    print(
        f"{record['n']} of {record['mutants']} mutants: {record['killed']} killed, "
        f"{record['timeouts']} timeouts, {record['survived']} survived, {record['equivalent']} equivalent; "
        f"{100 * record['share_killed']:.1f} % killed (95 % CI {low:.1f} to {high:.1f}), "
        f"in {record['minutes']:.0f} minutes"
    )


if __name__ == "__main__":
    raise SystemExit(main())
