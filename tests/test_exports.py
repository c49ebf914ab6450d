"""What others may import, what importing costs, and who may import what."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_parts import run_python

import nla

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "ray", "mlflow", "matplotlib", "albumentations", "sklearn", "scipy.stats", "pyarrow", "cv2"}


def test_public_names() -> None:
    from nla import NLALoss, Predictor, fit, naw_weight
    from nla.fitting import fit as fit_function
    from nla.losses import NLALoss as Loss
    from nla.losses.naw import naw_weight as weight
    from nla.serving.predictor import Predictor as Served

    assert (NLALoss, naw_weight, Predictor, fit) == (Loss, weight, Served, fit_function)
    assert set(nla.__all__) == {"NLALoss", "Predictor", "fit", "naw_weight"}
    assert all(getattr(nla, name) for name in nla.__all__)


def test_other_names_are_no_attributes() -> None:
    with pytest.raises(AttributeError, match="module 'nla' has no attribute 'NLALos'"):
        nla.NLALos  # noqa: B018


def test_the_version_is_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert nla.__version__ == project["version"]
    assert (ROOT / "nla/py.typed").exists()


def loaded_by(statement: str, folder: Path) -> set[str]:
    """Those of HEAVY that a fresh process has loaded after `statement`."""
    done = run_python(f"{statement}\nimport sys\nprint(*[name for name in {HEAVY} if name in sys.modules])", folder)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import nla", set()),
        ("import nla.config.base, nla.config.train, nla.config.best, nla.console", set()),
        ("import nla.workflow.provenance, nla.workflow.runs", set()),
        ("import pipelines.ingest", {"pyarrow", "cv2"}),
        ("import pipelines.prepare", {"pyarrow", "cv2", "sklearn"}),
        ("import pipelines.tune", {"pyarrow"}),
        ("import pipelines.audit", {"pyarrow"}),
        ("import pipelines.train", HEAVY - {"ray"}),  # which trains in its own process too
        ("import pipelines.evaluate, pipelines.register", HEAVY - {"ray", "albumentations", "scipy.stats", "sklearn"}),
        ("import nla.commands.compare", {"pyarrow"}),
        ("import nla.commands.predict", {"torch", "pyarrow", "cv2"}),  # matplotlib would take half a second more
        ("import nla.training.ray_trainers", {"ray", "pyarrow"}),  # Ray's controller loads it
        ("from nla import NLALoss, naw_weight", {"torch"}),
        ("from nla import fit", HEAVY - {"ray", "mlflow", "matplotlib"}),
    ],
)
def test_light_things_load_nothing_heavy(tmp_path: Path, statement: str, allowed: set[str]) -> None:
    assert loaded_by(statement, tmp_path) <= allowed


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all modules that the file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def users_of(package: str) -> set[str]:
    """Files under nla/ that import it."""
    files = sorted((ROOT / "nla").rglob("*.py"))
    return {str(f.relative_to(ROOT / "nla")) for f in files if package in {name.split(".")[0] for name in imports(f)}}


FIGURES = (
    "plotting.py",
    "fonts.py",
    "evaluation/plots/",
    "evaluation/figures.py",
    "study/plots.py",
    "video/plots.py",
    "tuning/plots.py",
    "audit/plots.py",
    "audit/outputs.py",
    "commands/",
)
RAY_TRAINS = tuple(f"training/{name}.py" for name in ("ray_train", "ray_store", "ray_trainers", "message_queue"))


@pytest.mark.parametrize(
    ("package", "places"),
    [
        (
            "ray",
            (
                *(f"ray_{name}.py" for name in ("cluster", "errors", "tasks")),
                *RAY_TRAINS,
                "tuning/",
                "study/scheduler.py",
                "audit/ray_folds.py",
                "web/ray_app.py",
                "video/ray_features.py",
            ),
        ),
        ("mlflow", ("tracking/", "serving/", "video/serving/", "web/registry_source.py")),
        ("matplotlib", (*FIGURES, "tracking/")),  # which names the type of a figure
        ("albumentations", ("data/augment.py",)),
        ("fastapi", ("web/",)),
        ("starlette", ("web/",)),
        ("pandas", ("serving/", "video/serving/")),
    ],
)
def test_a_heavy_library_has_its_place(package: str, places: tuple[str, ...]) -> None:
    assert {file for file in users_of(package) if not file.startswith(places)} == set()


def test_losses_are_imported_from_their_modules() -> None:
    """The package imports lazily, so that what a stage depends on would not be seen in `from nla.losses import ...`."""
    for file in (ROOT / "nla").rglob("*.py"):
        assert "nla.losses" not in imports(file), file


def test_every_public_loss_is_found() -> None:
    import nla.losses

    assert {getattr(nla.losses, name).__name__ for name in nla.losses.__all__} == set(nla.losses.__all__)
    with pytest.raises(AttributeError, match=r"module 'nla\.losses' has no attribute 'NLALos'"):
        nla.losses.NLALos  # noqa: B018


def test_losses_import_nothing_but_torch() -> None:
    for file in (ROOT / "nla/losses").glob("*.py"):
        for name in imports(file):
            assert name.split(".")[0] in {"torch", *sys.stdlib_module_names} or name.startswith("nla.losses"), file


MAY_USE = {
    "losses": set(),
    "config": set(),
    "workflow": {"config"},
    "data": {"config"},
    "models": {"config"},
    "faces": {"config", "data"},
    "methods": {"config", "losses", "models"},
    "evaluation": {"config", "data", "losses", "models"},
    "tracking": {"config", "data", "workflow"},
    "training": {"config", "data", "evaluation", "losses", "methods", "models", "workflow"},
    "serving": {"config", "data", "evaluation", "faces", "models", "tracking", "workflow"},
    "audit": {"config", "data", "evaluation", "losses", "models", "tracking", "training", "workflow"},
    "video": {
        "config",
        "data",
        "evaluation",
        "faces",
        "losses",
        "methods",
        "models",
        "serving",
        "tracking",
        "training",
        "workflow",
    },
    "tuning": {"config", "losses", "methods", "models", "tracking", "training", "workflow"},
    "study": {"config", "data", "evaluation", "models", "tracking", "training", "tuning", "workflow"},
    "web": {"config", "data", "evaluation", "faces", "models", "serving", "tracking", "workflow"},
    "commands": {
        "audit",
        "config",
        "data",
        "evaluation",
        "faces",
        "models",
        "serving",
        "tracking",
        "training",
        "video",
        "web",
        "workflow",
    },
}
"""The packages of nla, each with those below it that it may import."""


def test_every_package_has_its_place_among_the_layers() -> None:
    packages = {path.parent.name for path in (ROOT / "nla").glob("*/__init__.py")}
    assert packages == set(MAY_USE)
    seen: set[str] = set()
    for layer, below in MAY_USE.items():
        assert below <= seen, layer
        seen.add(layer)


@pytest.mark.parametrize("layer", MAY_USE)
def test_no_layer_imports_from_above(layer: str) -> None:
    for file in (ROOT / "nla" / layer).rglob("*.py"):
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == "nla" and len(parts) > 1 and parts[1] in MAY_USE:
                assert parts[1] in MAY_USE[layer] | {layer}, f"{file} imports {name}"
            assert parts[0] != "pipelines", file
