"""What the benchmarks make of their measurements; the measurements themselves are no tests."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


PAGES = {"accuracy": "results", "performance": "performance", "on_ray": "ray", "tuning": "search"}


@pytest.mark.parametrize(("module", "name"), PAGES.items())
def test_a_page_of_figures_is_what_its_records_say(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    assert (ROOT / f"docs/{name}.md").read_text() == importlib.import_module(module).page()


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import turns

    return turns


@pytest.fixture
def check(turns: ModuleType) -> ModuleType:
    import check

    return check


def test_rounds_beside_other_work_do_not_count(turns: ModuleType) -> None:
    values = [(1.0, 2.0, 0.0), (1.0, 4.0, 1.2), (3.0, 2.0, 0.1), (9.0, 1.0, 0.8)]
    result = turns.compared(
        {"a": [turns.Turn(a, other) for a, _, other in values], "b": [turns.Turn(b, 0.0) for _, b, _ in values]},
        "a",
        "b",
    )
    assert (result["ratio"], result["low"], result["high"]) == (1.0, 0.5, 1.5)
    assert (result["rounds"], result["calm_rounds"]) == (4, 2)
    assert result["ratios"] == [0.5, 0.25, 1.5, 9.0]


def test_things_take_turns_and_others_are_seen(turns: ModuleType) -> None:
    order: list[str] = []

    def thing(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = turns.in_turns({"a": lambda: thing("a"), "b": lambda: thing("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [turn.value for turn in found["a"]] == [1, 4, 5]


def test_the_check_takes_no_noise_for_a_loss_and_sees_a_quarter_gone(check: ModuleType) -> None:
    known = json.loads((ROOT / f"benchmarks/records/{check.RECORD}.json").read_text())
    spread = known["std"] * (known["steps"] / check.STEPS) ** 0.5
    rng = np.random.default_rng(0)
    for rounds in (check.FEWEST, check.ROUNDS):
        noisy = rng.normal(known["ratio"], spread, (20_000, rounds))
        assert (np.median(noisy, axis=1) < check.least(known, rounds)).mean() < 1e-3
    assert check.least(known, check.ROUNDS) > 0.75 * known["ratio"]


def test_what_the_user_has_not_committed_is_there_afterwards(turns: ModuleType, tmp_path: Path) -> None:
    import users_files

    def git(*words: str) -> None:
        who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "params.yaml").write_text("committed")
    git("init")
    git("add", "--all")
    git("commit", "--message", "start")
    (tmp_path / "params.yaml").write_text("under way")
    (tmp_path / "dvc.lock").write_text("mine")
    with pytest.raises(KeyboardInterrupt), users_files.kept(tmp_path):
        users_files.take_committed(tmp_path, "params.yaml")
        assert (tmp_path / "params.yaml").read_text() == "committed"
        for name in ("dvc.lock", "best.yaml"):
            (tmp_path / name).write_text("a benchmark's")
        raise KeyboardInterrupt
    assert (tmp_path / "params.yaml").read_text() == "under way"
    assert (tmp_path / "dvc.lock").read_text() == "mine" and not (tmp_path / "best.yaml").exists()
