"""README and docs hold: their Python runs, commands and parameters exist, links resolve, figures are the records'."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import subprocess
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pytest
import torch
from mlflow_parts import CLASSES, constant_model, new_store, write_samples
from ruamel.yaml import YAML

from nla import Predictor
from nla.config.audit import AuditConfig
from nla.config.augment import AugmentConfig
from nla.config.base import flatten, merge, read_params, section
from nla.config.clips import ClipsConfig
from nla.config.data import DataConfig
from nla.config.evaluate import EvaluateConfig
from nla.config.loss import LossConfig
from nla.config.model import ModelConfig
from nla.config.ray import RayConfig
from nla.config.register import RegisterConfig
from nla.config.sequence import SequenceConfig
from nla.config.train import TrainConfig
from nla.config.tune import TuneConfig
from nla.data.images import encode_png
from nla.losses.naw import Variant, naw_parameters, weight_at
from nla.losses.nla import NLALoss
from nla.methods import METHODS, method_options

ROOT = Path(__file__).parents[1]
README, METHODS_PAGE = ROOT / "README.md", ROOT / "docs/methods.md"
LOSS, VIDEO = ROOT / "docs/loss.md", ROOT / "docs/video.md"
SHOWN = ("accuracy", "mean_accuracy")
"""Columns of README's table of the study."""
EMBEDDING = ROOT / "docs/embedding.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OTHERS = [ROOT / "CHANGELOG.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("studies/*/README.md"))]
SECTIONS = (
    AuditConfig,
    AugmentConfig,
    DataConfig,
    EvaluateConfig,
    LossConfig,
    ModelConfig,
    RayConfig,
    RegisterConfig,
    TrainConfig,
    TuneConfig,
)


def python_blocks(page: Path) -> list[str]:
    """The fenced Python of a page, in its order."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def block(page: Path, word: str) -> str:
    """The one block that has `word` in it."""
    (found,) = (code for code in python_blocks(page) if word in code)
    return found


def commands(page: Path) -> list[str]:
    """Lines of indented blocks, those that end in a backslash joined, and one-line code in the text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
    return re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE) + re.findall(r"`([^`]+)`", text)


def settings(command: str) -> list[str]:
    """The values of -S in a command."""
    words = shlex.split(command.split(" #")[0])
    return [value for flag, value in itertools.pairwise(words) if flag == "-S"]


SETTING = [
    pytest.param(command, id=f"{page.name}: {command[:60]}")
    for page in PAGES
    for command in dict.fromkeys(commands(page))
    if command.startswith(("dvc exp run", "-S")) and " -S " in f" {command}"
]


def test_the_loss_in_your_own_loop() -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(8, 1, 6, 6), torch.randint(0, 3, (8,))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": [(images, labels)] * 4, "epochs": 5}

    def loss() -> float:
        return NLALoss("paper")(model(images), model(images.flip(-1)), labels, 0.0).item()

    before = loss()
    exec(block(README, "NLALoss"), names)
    assert loss() < 0.9 * before


def test_the_loop_of_the_loss_page_runs() -> None:
    names: dict[str, Any] = {}
    exec(block(LOSS, "naw_weight"), names)
    assert names["epoch"] == 4
    assert names["weights"].shape == (64,)
    assert 0 <= names["weights"].min() <= names["weights"].max() <= 1


def test_the_block_of_the_video_page_runs() -> None:
    names: dict[str, Any] = {}
    exec(block(VIDEO, "FrameNLALoss"), names)
    gradient = names["logits"].grad[0]
    assert gradient[names["is_annotated"]].any() and not gradient[~names["is_annotated"]].any()


@pytest.mark.slow
def test_the_trained_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """By its files, and by the registry."""
    from nla.tracking.run_record import RunRecord
    from pipelines.register import Metrics, register

    uri = new_store(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    models = constant_model(tmp_path / "models", 1)
    valid = write_samples(tmp_path / "valid.parquet", [0, 1, 2])
    Path("face.png").write_bytes(encode_png(np.full((20, 20), 128, np.uint8)))
    run = RunRecord(mlflow_run_id=None, fingerprint="f0", name="f0", params={}, tags={}, facts={}, history=[])
    register(models, Metrics(test={"accuracy": 0.5}, valid={}), run, valid, RegisterConfig(), uri)
    names: dict[str, Any] = {}
    for word in ("Predictor", "champion"):
        exec(block(README, word), names)
        assert CLASSES[1] in capsys.readouterr().out
    assert names["prediction"].label == (CLASSES[1],)
    assert list(names["champion"].predict(names["pd"].DataFrame({"image": [names["face"]]}))["label"]) == [CLASSES[1]]


def test_training_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of README and the page; the models that they save are read again."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    names: dict[str, Any] = {"images": rng.integers(0, 256, (80, 16, 16), np.uint8), "labels": np.arange(80) % 2}
    exec(block(README, "fit("), names)
    assert Predictor.load("my-model").classes == ("happy", "sad")
    page: dict[str, Any] = {}
    exec(block(EMBEDDING, "fit("), page)
    assert len(page["result"].history) == 2
    assert Predictor.load("my-model").predict(page["images"][:3]).label == page["prediction"].label


def test_no_block_is_left_out() -> None:
    """Every block is run by a test above, those of the pages on adding by the tests that follow them.

    These are tests/methods/test_adding.py, tests/models/test_added_network.py and tests/data/test_added_source.py; and
    tests/video/test_streaming.py for streams.
    """
    assert len(python_blocks(README)) == 4
    pages = {
        "README.md",
        "datasets.md",
        "embedding.md",
        "loss.md",
        "methods.md",
        "networks.md",
        "serving.md",
        "video.md",
    }
    assert {page.name for page in PAGES if python_blocks(page)} == pages


def test_figures_are_those_of_the_records() -> None:
    """Those of the README, against the records of the benchmarks and of `dvc repro`."""
    text = " ".join(README.read_text().split())
    names = ("reference-0", "reference-1", "reference-2", "longer", "noisy")
    *references, longer, noisy = (json.loads((ROOT / f"benchmarks/records/{name}.json").read_text()) for name in names)
    tests = [record["metrics"]["test"] for record in references]
    accuracies, means = ([100 * test[key] for test in tests] for key in ("accuracy", "mean_accuracy"))
    for figure in (
        f"**{mean(accuracies):.2f} ± {stdev(accuracies):.2f} on test**",
        f"mean accuracy {mean(means):.2f} ± {stdev(means):.2f}",
        f"{mean(record['training_seconds'] / 60 for record in references):.1f} minutes of training",
        f"has {longer['metrics']['test']['accuracy']:.2%} after {longer['epochs']} epochs",
        f"{longer['training_seconds'] / 60:.1f} minutes of an Intel CPU",
        f"`plus` has {noisy['metrics']['test']['accuracy']:.2%} after {noisy['epochs']} epochs",
    ):
        assert figure in text
    first = references[0]["command"].split()
    stated = [command.split() for command in commands(README)]
    assert any(sorted([*words, "-S", "train.seed=0"]) == sorted(first) for words in stated), "seed 0 is the default"
    # The committed metrics: `dvc repro` with other parameters leaves others in the workspace.
    committed = subprocess.run(["git", "show", "HEAD:reports/metrics.json"], cwd=ROOT, check=True, capture_output=True)
    drawn = json.loads(committed.stdout)["test"]
    assert f"test accuracy {drawn['accuracy']:.2%}" in text
    assert f"the model reaches {drawn['bayes_ratio']:.1%} of it" in text


def test_the_table_of_the_study_is_that_of_its_results() -> None:
    conditions = json.loads((ROOT / "studies/ferplus/results.json").read_text())["conditions"]
    methods = next(iter(conditions.values()))["methods"]
    rows = [line for line in README.read_text().splitlines() if re.match(r"\| `(\w+)` \|", line)]
    expected = []
    for name in methods:
        scores = [condition["methods"][name] for condition in conditions.values()]
        stated = [
            f"{100 * score[key]['mean']:.1f} ± {100 * score[key]['std']:.1f}" for score in scores for key in SHOWN
        ]
        expected.append(f"| `{name}` | {' | '.join(stated)} |")
    assert rows == expected


def test_methods_of_the_page() -> None:
    """Each row of its table, against the options of the method."""
    tables = re.sub(r"^```.*?^```", "", METHODS_PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| ([^|]+) \|", tables, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(METHODS)
    for name, cell in rows:
        listed = {option: float(value) for option, value in re.findall(r"`(\w+)` (-?[\d.]+)", cell)}
        assert name == "nla" or listed == method_options(LossConfig(name=name)), name


@pytest.mark.parametrize("command", SETTING)
def test_parameters_of_commands_are_valid(command: str) -> None:
    given = settings(command)
    assert given
    is_video = any(text.startswith(("clips.", "sequence.")) for text in given)
    params = read_params(ROOT / ("video/params.yaml" if is_video else "params.yaml"))
    known = flatten(params).keys() | {"data.noise.mapping"}
    for text in given:
        key, value = text.removeprefix("+").split("=", 1)
        assert (key in known) != text.startswith("+")
        change: Any = YAML(typ="safe", pure=True).load(value)
        for name in reversed(key.split(".")):
            change = {name: change}
        params = merge(params, change)
    for kind in (*SECTIONS, ClipsConfig, SequenceConfig):
        section(kind, params)


def test_commands_with_parameters_are_found() -> None:
    assert len(SETTING) >= 8


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Ids of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [re.match(r"make (?:[A-Z]+=\S+ )?([\w-]+)", command) for command in commands(page)]
    assert {match[1] for match in named if match} <= targets


def test_values_of_the_loss_page() -> None:
    rows = re.findall(r"^\| (released|paper) \| ([01]) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", LOSS.read_text(), re.M)
    assert len(rows) == 15
    for variant, eps, *numbers in rows:
        p_GT, p_NN, expected = map(float, numbers)
        assert weight(variant, p_GT, p_NN, float(eps)) == pytest.approx(expected, abs=6e-4)


def test_values_of_the_video_page() -> None:
    rows = re.findall(r"^\| ([01]) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", VIDEO.read_text(), re.MULTILINE)
    assert len(rows) == 13
    for row in rows:
        eps, p_GT, p_NN, expected = map(float, row)
        assert weight("released-video", p_GT, p_NN, eps) == pytest.approx(expected, abs=6e-4)


def weight(variant: Variant, p_GT: float, p_NN: float, progress: float) -> float:
    """At progress 1, which training never reaches, eps is 1 to seven digits."""
    return float(weight_at(torch.tensor(p_GT), torch.tensor(p_NN), progress, naw_parameters(variant)))


def test_defaults_of_the_loss_page() -> None:
    """Each row of its table of arguments, against the loss itself."""
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]+ \| ([^|]+) \| ([^|]+) \|$", LOSS.read_text(), re.MULTILINE)
    stated = {name: cells for names, *cells in rows for name in re.findall(r"`(\w+)`", names)}
    assert stated.keys() == LossConfig.model_fields.keys() - {"name", "options", "variant"}
    for column, variant in enumerate(("released", "paper")):
        loss = NLALoss(variant)  # type: ignore[arg-type]
        actual = vars(loss.naw) | {"lam": loss.lam, "consistency": loss.consistency}
        actual |= {"consistency_reduction": loss.reduction}
        for name in actual:
            assert_stated(stated[name], column, name, actual[name])


def assert_stated(cells: list[str], column: int, name: str, actual: object) -> None:
    text = cells[0] if cells[column] == "same" else cells[column]
    values = ast.literal_eval("[" + re.sub(r"`(\w+)`", r"'\1'", text) + "]")
    paired = name.startswith(("true_", "false_")) and len(values) == 2
    value = values[1 if paired and name.startswith("false_") else 0]
    assert json.loads(json.dumps(value)) == json.loads(json.dumps(actual)), name
