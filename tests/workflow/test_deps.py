"""The code lists of dvc.yaml: generated from imports, with every other line kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from nla.errors import ConfigError
from nla.workflow.deps import main, read_code_lists, with_code

ROOT = Path(__file__).parents[2]
FILES = {
    "pipelines/fit.py": "import nla.loop\n",
    "pipelines/score.py": "from nla import metrics\n",
    "nla/__init__.py": "",
    "nla/loop.py": "import nla.optim\n",
    "nla/optim.py": "",
    "nla/metrics.py": "",
    "nla/shipped.py": "import nla.optim\n",
}
CODE = {
    "fit": ["nla/__init__.py", "nla/loop.py", "nla/optim.py", "pipelines/fit.py"],
    "score": ["nla/__init__.py", "nla/metrics.py", "nla/optim.py", "nla/shipped.py", "pipelines/score.py"],
}
PIPELINE = """\
# the header
stages:
  raw:
    cmd: ./download.sh
    deps: [nla/optim.py]
  fit:
    cmd: python -m pipelines.fit
    deps:
      # what it is trained on
      - data.csv
      - nla/loop.py  # the loop
      - nla/gone.py

      - other/repository:
          cache: false
    params: [lr]  # nla/loop.py
  score:
    desc: "- nla/loop.py"
    cmd:
      - mkdir -p out
      - python -m pipelines.score
    meta:
      code: [nla/shipped.py]  # stored with the model
    deps:
    - "models"
    outs:
    - nla/out.py
plots:
  - nla/loop.py
"""
EXPECTED = """\
# the header
stages:
  raw:
    cmd: ./download.sh
    deps: [nla/optim.py]
  fit:
    cmd: python -m pipelines.fit
    deps:
      # what it is trained on
      - data.csv
      - nla/__init__.py
      - nla/loop.py  # the loop
      - nla/optim.py
      - pipelines/fit.py

      - other/repository:
          cache: false
    params: [lr]  # nla/loop.py
  score:
    desc: "- nla/loop.py"
    cmd:
      - mkdir -p out
      - python -m pipelines.score
    meta:
      code: [nla/shipped.py]  # stored with the model
    deps:
    - "models"
    - nla/__init__.py
    - nla/metrics.py
    - nla/optim.py
    - nla/shipped.py
    - pipelines/score.py
    outs:
    - nla/out.py
plots:
  - nla/loop.py
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(text: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(text)


def test_write_adds_what_is_imported_and_keeps_every_other_line(project: Path) -> None:
    main(["--write"])
    assert (project / "dvc.yaml").read_text() == EXPECTED
    before = (project / "dvc.yaml").stat().st_mtime_ns
    main(["--write"])
    main(["--check"])
    assert (project / "dvc.yaml").stat().st_mtime_ns == before, "an up-to-date file is not written again"


def test_check_names_the_stage_and_the_files_that_differ(project: Path) -> None:
    main(["--write"])
    (project / "nla/loop.py").write_text("import nla.metrics\n")
    with pytest.raises(SystemExit) as caught:
        main(["--check"])
    assert caught.value.code == (
        "error: dvc.yaml: stages.fit.deps: missing: nla/metrics.py; not imported: nla/optim.py\nRun `make deps`."
    )
    assert (project / "dvc.yaml").read_text() == EXPECTED, "--check writes nothing"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("nla/loop.py  # the loop", "nla/loop.py\n      - nla/loop.py", "duplicate: nla/loop.py"),
        ("      - nla/optim.py\n      - pip", "      - pip", "missing: nla/optim.py"),
        (
            "      - nla/optim.py\n      - pipelines/fit.py",
            "      - pipelines/fit.py\n      - nla/optim.py",
            "not sorted",
        ),
    ],
)
def test_a_list_edited_by_hand_is_found_and_repaired(project: Path, old: str, new: str, problem: str) -> None:
    (project / "dvc.yaml").write_text(EXPECTED.replace(old, new, 1))
    with pytest.raises(SystemExit, match=f"stages.fit.deps: {problem}\n"):
        main(["--check"])
    main(["--write"])
    assert parsed((project / "dvc.yaml").read_text()) == parsed(EXPECTED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: {", r"dvc\.yaml: not valid YAML"),
        ("stages:\n  fit:\n    cmd: python -m pipelines.fit\n", r"stages\.fit\.deps: missing\. Add `deps:`"),
        (
            "stages:\n  fit:\n    cmd: python -m pipelines.fit\n    deps: [data.csv]\n",
            r"stages\.fit\.deps: .*one item per line\. Write each dependency on its own line",
        ),
        (
            "stages:\n  fit:\n    cmd: python -m pipelines.fitt\n    deps:\n",
            r"stages\.fit: pipelines/fitt\.py: file not found\. Correct `cmd`",
        ),
        (
            "stages:\n  fit:\n    cmd: python -m pipelines.fit\n    deps:\n    meta: {code: [nla/no.py]}\n",
            r"stages\.fit: nla/no\.py: file not found\. Correct `cmd` or `meta\.code`",
        ),
    ],
)
def test_errors_name_the_stage_and_the_next_action(project: Path, text: str, message: str) -> None:
    (project / "dvc.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_code_lists(project)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        main(["--write"])


def test_it_runs_in_the_projects_root(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dvc\.yaml: file not found\. Run this from the project's root"):
        read_code_lists(tmp_path)


COMMENTS = st.sampled_from(["", "      # a comment", "# nla/loop.py", "  "])
OTHERS = st.sampled_from(["- data.csv", '- "a: b"', "- x.csv:\n          cache: false", "- nla/data", "- nla/notes.md"])
LISTED = st.sampled_from([*CODE["fit"], "nla/gone.py", "nla/metrics.py"]).map("- {}".format)
ITEMS = st.lists(st.tuples(COMMENTS, st.one_of(OTHERS, LISTED), st.sampled_from(["", "  # why"])), max_size=9)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fit=ITEMS, score=ITEMS)
def test_any_pipeline_gets_its_code_and_keeps_the_rest(project: Path, fit: list[Any], score: list[Any]) -> None:
    text = "stages:\n"
    for name, items in (("fit", fit), ("score", score)):
        shipped = "    meta: {code: [nla/shipped.py]}\n" if name == "score" else ""
        lines = [f"{comment}\n      {item}{'' if ':' in item else note}\n" for comment, item, note in items]
        text += (
            f"  {name}:\n    cmd: python -m pipelines.{name}\n{shipped}    deps:\n{''.join(lines)}    frozen: true\n"
        )
    (project / "dvc.yaml").write_text(text)
    new = with_code(*read_code_lists(project))
    (project / "dvc.yaml").write_text(new)
    assert with_code(*read_code_lists(project)) == new, "idempotent"

    before, after = parsed(text)["stages"], parsed(new)["stages"]
    for name, code in CODE.items():
        others = [dep for dep in before[name]["deps"] or [] if not (isinstance(dep, str) and dep.endswith(".py"))]
        assert [dep for dep in after[name]["deps"] if dep not in code] == others
        assert [dep for dep in after[name]["deps"] if dep in code] == code
        assert {**before[name], "deps": 0} == {**after[name], "deps": 0}
    assert by_hand(new) == by_hand(text)


def by_hand(text: str) -> list[str]:
    """Lines that are not an item of code."""
    return [line for line in text.splitlines() if ".py" not in line or not line.lstrip().startswith("- ")]


@pytest.mark.slow
def test_the_command_reports_what_it_did(project: Path) -> None:
    def run(option: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "nla.workflow.deps", option]  # -P: this `nla`, not that of the test
        return subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)

    stale, written, fresh = run("--check"), run("--write"), run("--check")
    assert stale.returncode == 1 and stale.stderr.startswith("error: dvc.yaml: stages.fit.deps: ")
    assert (written.returncode, written.stdout) == (0, "dvc.yaml: updated fit, score\n")
    assert (fresh.returncode, fresh.stdout, fresh.stderr) == (0, "", "")


def test_a_pipeline_in_a_folder_of_its_own_has_paths_from_there(project: Path) -> None:
    folder = project / "video"
    folder.mkdir()
    text = "stages:\n  fit:\n    cmd: python ../pipelines/fit.py\n    deps:\n      - data.csv\n      - ../nla/gone.py\n"
    (folder / "dvc.yaml").write_text(text)
    found, lists = read_code_lists(project, Path("video/dvc.yaml"))
    written = YAML(typ="safe").load(with_code(found, lists))
    assert written["stages"]["fit"]["deps"] == ["data.csv", *(f"../{file}" for file in CODE["fit"])]
