"""A pytest plugin: with NLA_FAIL_ON_SKIP=1, a skipped test that is not on the list of permitted skips is a failure.

The list, permitted_skips.txt, has one line per permitted skip: a pattern of node ids (as of fnmatch), ` | `, and the
start of the reason. A test that is skipped for another reason than the listed one counts as not permitted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

VARIABLE = "NLA_FAIL_ON_SKIP"
PERMITTED = Path(__file__).with_name("permitted_skips.txt")


class Skip(NamedTuple):
    """A skipped test, or a pattern of those that may be skipped."""

    node_id: str
    reason: str


def read_permitted(path: Path = PERMITTED) -> list[Skip]:
    """Returns the lines of the list; empty ones and those that begin with # are comments."""
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [Skip(*line.split(" | ", 1)) for line in lines if line and not line.startswith("#")]


def not_permitted(skips: Iterable[Skip], permitted: Iterable[Skip]) -> Iterator[Skip]:
    """Yields each skip that no line of the list permits."""
    permitted = list(permitted)
    for skip in skips:
        if not any(
            fnmatchcase(skip.node_id, pattern) and skip.reason.startswith(reason) for pattern, reason in permitted
        ):
            yield skip


def skips_of(config: pytest.Config) -> list[Skip]:
    """Returns every skip of this session; [] in a worker of pytest-xdist, whose controller has them all."""
    terminal = config.pluginmanager.getplugin("terminalreporter")
    reports = terminal.stats.get("skipped", []) if terminal else []
    return [Skip(report.nodeid, _reason(report)) for report in reports]


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    _, _, text = report.longrepr if isinstance(report.longrepr, tuple) else ("", 0, str(report.longrepr))
    return text.removeprefix("Skipped: ")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns success into failure; the terminal's summary, which is written afterwards, lists the skips."""
    if os.environ.get(VARIABLE) != "1" or session.exitstatus != pytest.ExitCode.OK:
        return
    if any(not_permitted(skips_of(session.config), read_permitted())):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Lists the skips that are not permitted."""
    if os.environ.get(VARIABLE) != "1":
        return
    if found := [*not_permitted(skips_of(config), read_permitted())]:
        terminalreporter.section(f"{len(found)} skips that {PERMITTED.name} does not permit", red=True, bold=True)
        for skip in found:
            terminalreporter.line(f"{skip.node_id}: {skip.reason}")
