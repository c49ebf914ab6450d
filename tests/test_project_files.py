"""Files for the hosting site and for contributors: valid by their schemas, and in agreement with the project."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
SCHEMAS = {
    ".github/workflows/ci.yml": "vendor.github-workflows",
    ".github/actions/setup/action.yml": "vendor.github-actions",
    ".github/ISSUE_TEMPLATE/bug.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/question.yml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    "CITATION.cff": "vendor.citation-file-format",
}


def read_yaml(name: str) -> Any:
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text())


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
def test_a_file_is_valid_by_its_schema(name: str, schema: str) -> None:
    """The schemas come with check-jsonschema, so that nothing is downloaded."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(ROOT / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_yaml_file_of_the_hosting_site_has_a_schema() -> None:
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*.yml")}
    assert files == {name for name in SCHEMAS if name.startswith(".github/")}


def test_the_workflow_runs_targets_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    named = {match[1] for run in runs if (match := re.fullmatch(r"make ([\w-]+)", run))}
    assert len(named) == len(runs), "only targets of make, so that they can be run by hand"
    assert {"test", "test-thorough", "build"} <= named <= targets


def test_the_workflow_runs_every_supported_python() -> None:
    tested = read_yaml(".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert project()["requires-python"] == f">={tested[0]},<3.{int(tested[-1].split('.')[1]) + 1}"


def test_pre_commit_has_the_checks_of_make_lint() -> None:
    config = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], check=True)
    hooks = [hook for repo in read_yaml(config.name)["repos"] for hook in repo["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}, "the pinned tools, and no download"
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    assert [hook["entry"] for hook in hooks] == [line.strip() for line in recipe[1].splitlines()]


def test_the_citation_is_of_this_version_and_of_the_paper_in_the_readme() -> None:
    citation, readme = read_yaml("CITATION.cff"), (ROOT / "README.md").read_text()
    assert (citation["version"], citation["license"]) == (project()["version"], project()["license"])
    (paper,) = citation["references"]
    authors = " and ".join(f"{author['family-names']}, {author['given-names']}" for author in paper["authors"])
    for text in (paper["title"], authors, paper["doi"], paper["collection-title"]):
        assert f"{{{text}}}" in readme, text


def test_the_changelog_has_a_section_for_this_version() -> None:
    """With the date of the citation; above it, a place for what is not released yet."""
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    citation = read_yaml("CITATION.cff")
    assert headings[:2] == ["[Unreleased]", f"[{citation['version']}] - {citation['date-released']}"]


def test_the_test_files_that_pages_name_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    named = {name for page in pages for name in re.findall(r"tests/[\w/]+\.py", page.read_text())}
    made_by_the_reader = {"tests/losses/test_poly.py"}
    assert {name for name in named if not (ROOT / name).is_file()} == made_by_the_reader
