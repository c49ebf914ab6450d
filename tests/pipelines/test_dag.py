"""dvc.yaml is right about code, parameters and outs. No stage is run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tiny_project import DVC, PIPELINE, ROOT, Project, leaves, stage_outs, user_environment

from nla.config.base import SECTIONS, read_params
from nla.workflow.deps import read_code_lists
from nla.workflow.provenance import imported_sources
from pipelines.train import CODE

STAGES: dict[str, dict[str, Any]] = PIPELINE["stages"]
README = ROOT / "README.md"
PROMISED = {
    "data/faces.parquet",
    "data/train.parquet",
    "data/valid.parquet",
    "data/test.parquet",
    "reports/audit/labels.parquet",
    "reports/audit/summary.json",
    "best.yaml",
    "models/model.safetensors",
    "models/model.json",
    "reports/metrics.json",
    "run.json",
}


def is_code(dep: str) -> bool:
    return dep.split("/")[0] in ("nla", "pipelines")


def all_outs() -> list[str]:
    return [out for name in STAGES for out in stage_outs(name)]


def test_stages_have_the_order_of_the_data() -> None:
    assert list(STAGES) == ["ingest", "prepare", "audit", "tune", "train", "evaluate", "register"]


def test_every_stage_lists_the_code_that_its_script_imports() -> None:
    _, lists = read_code_lists(ROOT)
    assert [code.stage for code in lists] == list(STAGES)
    assert [f"{code.stage}: {code.difference}" for code in lists if code.difference] == [], "run `make deps`"


def test_the_script_stored_with_the_model_makes_register_stale() -> None:
    assert "nla/serving/pyfunc.py" in STAGES["register"]["deps"]


def test_the_fingerprint_of_training_covers_every_loss_and_method() -> None:
    """It follows import statements, and would lose a loss that is only imported lazily from the package."""
    covered = {file for entry in CODE for file in imported_sources(entry, ROOT)}
    files = [file.relative_to(ROOT) for name in ("losses", "methods") for file in (ROOT / "nla" / name).glob("*.py")]
    assert len(files) > 20
    assert set(files) - covered == {Path("nla/losses/frames.py")}, "which the models of sequences alone learn by"


@pytest.mark.parametrize("stage", STAGES)
def test_the_stage_runs_the_script_of_its_name(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m pipelines.{stage}"


GIVEN = {"${data.raw}/${data.source}", "${data.corrections}"}
"""What users give, and no stage makes."""


def test_other_deps_are_raw_files_or_outs_of_earlier_stages() -> None:
    before: set[str] = set()
    for name, stage in STAGES.items():
        for dep in stage["deps"]:
            made_before = dep in before or any(out.startswith(f"{dep}/") for out in before)
            assert is_code(dep) or made_before or dep in GIVEN, (name, dep)
        before |= set(stage_outs(name))


def test_a_plot_never_retrains_and_training_sees_no_test_image() -> None:
    train = STAGES["train"]["deps"]
    data = [dep for dep in train if not is_code(dep)]
    audit = "reports/audit/labels.parquet"  # by which train.soften learns
    assert not [dep for dep in data if ("reports" in dep and dep != audit) or "test" in dep or dep == "data"]
    assert not [dep for dep in train if "plots" in dep or "plotting" in dep or "figures" in dep]


def test_every_parameter_makes_some_stage_stale_and_the_cluster_none() -> None:
    params = read_params(ROOT / "params.yaml")
    assert tuple(params) and set(params) == set(SECTIONS)
    listed = {param for stage in STAGES.values() for param in stage["params"]}
    known = {leaf for section in SECTIONS for leaf in leaves(params[section], section)}
    covers = {param: {leaf for leaf in known if leaf == param or leaf.startswith(f"{param}.")} for param in listed}
    assert not [param for param, covered in covers.items() if not covered], "a param that params.yaml lacks"
    of_no_stage = known - set().union(*covers.values())
    assert {leaf.split(".")[0] for leaf in of_no_stage} == {"ray"}
    assert not [param for param in listed if param.split(".")[0] == "ray"]


def test_no_out_is_made_twice_and_the_promised_ones_are_made() -> None:
    outs = all_outs()
    assert len(outs) == len(set(outs))
    assert set(outs) >= PROMISED


def test_git_ignores_the_outs_that_the_cache_holds_and_no_record() -> None:
    ignored = {line.lstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    for name in all_outs():
        is_ignored = any(Path(name).match(line) or name.startswith(line) for line in ignored if line)
        assert is_ignored == (name in kept_out_of_git()), name


def kept_out_of_git() -> set[str]:
    """Outs that lie in DVC's cache, or belong to one store."""
    listed = [out for stage in STAGES.values() for out in [*stage["outs"], *stage.get("metrics", [])]]
    named = [next(iter(out.items())) if isinstance(out, dict) else (out, {}) for out in listed]
    return {name for name, settings in named if settings.get("cache", True) or name == "reports/registered.json"}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_clean_removes_what_can_be_made_again_and_no_record_of_git(tmp_path: Path) -> None:
    others = ("params.yaml", "dvc.lock", "data/raw/ferplus/fer2013.csv", "mlflow.db", "mlruns/0/meta.yaml")
    for name in (*all_outs(), ".runs/f/lock", ".logs/train.log", *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    subprocess.run(["make", "--silent", "-f", ROOT / "Makefile", "clean"], cwd=tmp_path, check=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*all_outs(), *others} - kept_out_of_git()


def test_plots_and_artifacts_are_outs() -> None:
    outs = set(all_outs())
    for plot in PIPELINE["plots"]:
        name, content = next(iter(plot.items())) if isinstance(plot, dict) else (plot, None)
        assert set(content["y"] if content else [name]) <= outs
    assert {artifact["path"] for artifact in PIPELINE["artifacts"].values()} <= outs


@pytest.mark.skipif(not README.exists(), reason="no README")
def test_paths_of_the_readme_are_outs() -> None:
    named = set(re.findall(r"\b(?:data|models|reports)/[\w/]+\.(?:parquet|safetensors|json|csv)\b", README.read_text()))
    outs = set(all_outs())
    assert not [name for name in named if name not in outs and not name.startswith("data/raw/")]


def test_the_readme_shows_the_graph_of_dvc(tmp_path: Path) -> None:
    blocks = re.findall(r"```mermaid\n(.*?)```", README.read_text() if README.exists() else "", re.DOTALL)
    if not blocks:
        pytest.skip("the README has no graph")
    shown = Project.make(tmp_path / "project").dvc("dag", "--mermaid")
    assert words(shown) in {words(block) for block in blocks}


def words(text: str) -> str:
    """Without the layout."""
    return " ".join(text.split())


@pytest.mark.parametrize("study", sorted((ROOT / "studies").glob("*/dvc.yaml")), ids=lambda path: path.parent.name)
def test_a_study_asks_no_remote_and_has_no_metrics_of_the_pipeline(study: Path) -> None:
    """Else `dvc pull` fails for tables that nobody pushed, and `dvc metrics show` has hundreds of columns."""
    stages = YAML(typ="safe", pure=True).load(study)["stages"]
    outs = [out for stage in stages.values() for out in stage["outs"]]
    assert outs
    assert [out for out in outs if not isinstance(out, dict) or next(iter(out.values()))["cache"]] == []
    assert [name for name, stage in stages.items() if "metrics" in stage or "plots" in stage] == []


@pytest.mark.slow
def test_make_lets_dvc_work_without_git_until_there_is_one(tmp_path: Path) -> None:
    """As in an unpacked zip file; there, DVC alone says that it is not a git repository."""
    project = Project.make(tmp_path / "project")
    shutil.copy2(ROOT / "Makefile", project / "Makefile")
    (project / ".git").rename(tmp_path / "git")
    assert "is not a git repository" in project.try_dvc("stage", "list").text

    def make() -> str:
        command = ["make", "--no-print-directory", "scm", f"BIN={DVC.parent}"]
        return subprocess.check_output(command, cwd=project.root, env=user_environment(), text=True)

    assert make().startswith("No git here: runs have no commit")
    assert make() == ""
    assert project.try_dvc("stage", "list").code == 0
    (tmp_path / "git").rename(project / ".git")
    assert make() == ""
    assert "no_scm" not in (project / ".dvc/config.local").read_text()
    assert project.git("status", "--porcelain", "--", ".dvc") == ""


def test_make_removes_an_empty_file_of_dvcs_locks(tmp_path: Path) -> None:
    """A killed DVC can leave one, which it refuses from then on."""
    locks = tmp_path / ".dvc/tmp/rwlock"
    locks.parent.mkdir(parents=True)
    shutil.copy2(ROOT / "Makefile", tmp_path / "Makefile")
    for content, left in (("", False), ("{}", True)):
        locks.write_text(content)
        subprocess.run(["make", "unlock"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
        assert locks.exists() == left
