"""params.yaml and its sections: what is wrong is named, with the nearest that would be right."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import nla.config
from nla.config.base import SECTIONS, VIDEO_SECTIONS, Section, flatten, merge, read_params, section
from nla.config.data import DataConfig
from nla.config.loss import LossConfig
from nla.config.model import ModelConfig
from nla.config.ray import RayConfig
from nla.config.train import TrainConfig, check_batch
from nla.config.tune import TuneConfig
from nla.errors import ConfigError

PARAMS = Path(__file__).parents[1] / "params.yaml"


def written(folder: Path, text: str) -> dict[str, Any]:
    (folder / "params.yaml").write_text(text)
    return read_params(folder / "params.yaml")


def sections() -> dict[str, type[Section]]:
    """Every section class of nla.config by its name."""
    for module in pkgutil.iter_modules(nla.config.__path__, "nla.config."):
        importlib.import_module(module.name)
    known = [cls for cls in Section.__subclasses__() if cls.__module__.startswith("nla.config.")]
    return {cls.NAME: cls for cls in known if "NAME" in vars(cls)}


def fields(cls: type[BaseModel], prefix: str) -> Iterator[str]:
    """Dotted names of all fields, those of sections inside too."""
    for name, field in cls.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        place = f"{prefix}.{field.alias or name}"
        yield from fields(inner, place) if inner else [place]


def test_the_projects_params_hold_every_field_and_no_other() -> None:
    """No default differs silently: each value in use stands in the file."""
    params = read_params(PARAMS)
    assert tuple(params) == SECTIONS and set(sections()) == {*SECTIONS, *VIDEO_SECTIONS}
    expected = [name for section_name in SECTIONS for name in fields(sections()[section_name], section_name)]
    # A map is a value, not a section.
    params["data"]["noise"]["mapping"] = params["tune"]["space"] = params["loss"]["options"] = None
    assert sorted(flatten(params)) == sorted(expected)


@pytest.mark.parametrize("name", SECTIONS)
def test_the_projects_params_load_and_are_the_defaults(name: str) -> None:
    """Who leaves a key out gets what the file says."""
    params, kind = read_params(PARAMS), sections()[name]
    assert section(kind, params).model_dump(mode="json", by_alias=True) == params[name]
    assert section(kind, {}).model_dump(mode="json", by_alias=True) == params[name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian: {}", r"unknown section 'trian': did you mean 'train'\?"),
        ("1: {}", "unknown section '1': valid are data, audit, model, "),
        ("- train", r"must be a mapping of sections \(got \['train'\]\)\. Use data, audit, model, "),
        ("", r"must be a mapping of sections \(got None\)"),
        ("train: {lr: ", "not valid YAML at line 1. Fix it"),
        ("train: {}\ntrain: {}", "not valid YAML at line 2.*duplicate"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"(?s)params\.yaml.*{message}"):
        written(tmp_path, text)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml: file not found\. Run this from the project's root"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("cls", "content", "message"),
    [
        (TrainConfig, {"epoch": 3}, r"unknown key 'train\.epoch': did you mean 'epochs'\?"),
        (TrainConfig, {"zzz": 3}, r"unknown key 'train\.zzz': valid are seed, epochs, batch_size"),
        (DataConfig, {"noise": {"rat": 0.3}}, r"unknown key 'data\.noise\.rat': did you mean 'rate'\?"),
        (DataConfig, {"synthetic": {"trains": 500}}, r"unknown key 'data\.synthetic\.trains': did you mean 'train'\?"),
        (TrainConfig, {"epochs": "ten"}, r"train\.epochs: must be a valid integer \(got 'ten'\)"),
        (TrainConfig, {"epochs": 2.5}, r"train\.epochs: .*integer.* \(got 2\.5\)"),
        (TrainConfig, {"epochs": True}, r"train\.epochs: .*integer.* \(got True\)"),
        (TrainConfig, {"lr": "1e-4"}, r"train\.lr: must be a valid number \(got '1e-4'\)"),
        (TrainConfig, {"lr": -1}, r"train\.lr: must be greater than 0 \(got -1\)"),
        (TrainConfig, {"channels_last": "yes"}, r"train\.channels_last: .*boolean \(got 'yes'\)"),
        (TrainConfig, {"optimizer": "lion"}, r"train\.optimizer: .*'adam', 'adamw' or 'sgd' \(got 'lion'\)"),
        (
            ModelConfig,
            {"name": "resnet9"},
            r"model\.name: unknown network: did you mean 'resnet.*'\?",
        ),
        (ModelConfig, {"stem": "stride3"}, r"model\.stem: unknown stem: did you mean 'stride.'\?"),
        (ModelConfig, {"head": "cosin"}, r"model\.head: must be 'linear' or 'cosine' \(got 'cosin'\)"),
        (
            ModelConfig,
            {"name": "timm/resnet10t", "head": "cosine"},
            "model: head=cosine is only available for resnet18, resnet34, resnet50",
        ),
        (LossConfig, {"true_mean": [0.5]}, r"loss\.true_mean.* \(got "),
        (LossConfig, {"true_sign": 0}, r"loss\.true_sign: must be -1 or 1 \(got 0\)"),
        (DataConfig, {"imbalance_factor": 0.5}, r"data\.imbalance_factor: .*greater than or equal to 1"),
        (DataConfig, {"noise": {"rate": 1.0}}, r"data\.noise\.rate: must be less than 1"),
        (DataConfig, {"noise": {"kind": "asymmetric", "rate": 0.3}}, r"data\.noise: asymmetric noise needs .*mapping"),
        (DataConfig, {"noise": 5}, r"data\.noise: .*NoiseConfig \(got 5\)"),
        (
            RayConfig,
            {"num_workers": [0, 2]},
            r"ray\.num_workers: must be an integer >= 0 or \[min, max\] with .* \(got \[0, 2\]\)",
        ),
        (
            RayConfig,
            {"num_workers": -1},
            r"ray\.num_workers: must be an integer >= 0 or \[min, max\] with 1 <= min <= max \(got -1\)",
        ),
        (RayConfig, {"num_workers": [4, 2]}, r"ray\.num_workers: .* 1 <= min <= max \(got \[4, 2\]\)"),
        *(
            (RayConfig, {"num_workers": wrong}, r"ray\.num_workers: must be an integer or \[min, max\] \(got ")
            for wrong in ("2", 2.0, True, [1], [1, 2, 3], [1, 2.5], None)
        ),
        (TrainConfig, 5, r"train: .*TrainConfig \(got 5\)"),
        (TrainConfig, [], r"train: .*TrainConfig \(got \[\]\)"),
    ],
)
def test_a_value_that_is_wrong(cls: type[Section], content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"params\.yaml:\n  {message}"):
        section(cls, {cls.NAME: content})


def test_all_that_is_wrong_is_told_at_once() -> None:
    content = {"epochs": 0, "lr": "fast", "optimiser": "sgd", "precision": "fp8"}
    with pytest.raises(ConfigError) as error:
        section(TrainConfig, {"train": content})
    lines = str(error.value).splitlines()[1:]
    assert len(lines) == 4
    for word in ("train.epochs", "train.lr", "did you mean 'optimizer'?", "train.precision"):
        assert sum(word in line for line in lines) == 1


def test_numbers_are_numbers_as_dvc_reads_them(tmp_path: Path) -> None:
    params = written(tmp_path, "train: {lr: 1e-4, weight_decay: 0, epochs: 12}\nloss: {true_mean: [0.5, 1]}\n")
    assert isinstance(params["train"]["lr"], float)
    config = section(TrainConfig, params)
    assert (config.lr, config.weight_decay, config.epochs) == (1e-4, 0.0, 12)
    assert section(LossConfig, params).true_mean == (0.5, 1.0)


@pytest.mark.parametrize("params", [{}, {"train": None}, {"train": {}}])
def test_what_is_not_given_has_its_default(params: dict[str, Any]) -> None:
    assert section(TrainConfig, params) == TrainConfig()


def test_sections_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TrainConfig().epochs = 3


nested = st.recursive(
    st.none() | st.integers(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=8,
)
dicts = st.dictionaries(st.sampled_from("abc"), nested, max_size=3)


def leaves(params: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(params, dict):
        return {path: params}
    return {k: v for key, value in params.items() for k, v in leaves(value, (*path, key)).items()}


@given(dicts)
def test_flat_names_are_paths(params: dict[str, Any]) -> None:
    assert flatten(params) == {".".join(path): value for path, value in leaves(params).items()}


@given(dicts, dicts)
def test_merging_lays_changes_over(params: dict[str, Any], changes: dict[str, Any]) -> None:
    before = repr((params, changes))
    after = leaves(merge(params, changes))
    assert repr((params, changes)) == before
    wanted = leaves(changes)
    assert wanted.items() <= after.items()
    for path, value in leaves(params).items():
        covered = any(path[: len(other)] == other or other[: len(path)] == path for other in wanted)
        assert covered or after[path] == value


def test_the_batch_divides_among_every_number_of_workers_there_may_be(tmp_path: Path) -> None:
    of = section(RayConfig, written(tmp_path, "ray: {num_workers: [2, 4]}"))
    assert of.workers == (2, 4)
    fewest, most = of.workers
    check_batch(24, range(fewest, most + 1), "ray.num_workers")
    with pytest.raises(ConfigError, match=r"train\.batch_size: 64 is not divisible by 3 workers\. Change it or ray\."):
        check_batch(64, range(fewest, most + 1), "ray.num_workers")
    here = RayConfig(num_workers=0)
    assert here.in_process and here.workers == (1, 1) and not of.in_process
    check_batch(7, [1], "ray.num_workers")
    assert all(RayConfig(num_workers=one).workers == (3, 3) for one in (3, [3, 3]))


def aliases(layer: str) -> str:
    """A few hundred bytes of YAML that stand for billions of values: each layer repeats the one before."""
    lines = [f"  l{i}: &l{i} {layer.format(f'*l{i - 1}' if i else 'x')}" for i in range(15)]
    return "\n".join(["data:", *lines])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("data: " + "[" * 100 + "]" * 100, "nested more than 20 levels deep"),
        ("data: " + "[" * 100_000, "not valid YAML"),
        ("data: &d\n  raw: *d\n", "nested more than 20 levels deep"),
        ("data: " + "1" * 5000, "not valid YAML"),
        (aliases("[{0}, {0}, {0}, {0}, {0}, {0}]"), "more than 100,000 values"),
        (aliases("{{a: {0}, b: {0}, c: {0}, d: {0}, e: {0}, f: {0}}}"), "more than 100,000 values"),
        ("train: {lr: .inf}", r"train\.lr: must be a finite number \(got inf\)"),
        ("ray: {images_in_memory: .inf}", r"ray\.images_in_memory: must be a finite number"),
        ("loss: {options: {q: [1, .nan]}}", r"loss\.options\.q: must be a finite number"),
        ("train: {lr: 1e400}", r"train\.lr: must be a finite number"),
        ("ray: {images_in_memory: 1e308}", r"ray\.images_in_memory: must be at most 1e\+30 in size \(got 1e\+308\)"),
        ("train: {lr: -2.0e30}", r"train\.lr: must be at most 1e\+30 in size"),
        ("train: {seed: 100000000000000000000}", r"train\.seed: whole numbers must be smaller than 2\^63"),
        ('model: {weights: "a\\0b"}', r"model\.weights: no text or path can hold this \(got 'a\\x00b'\)"),
        ('model: {weights: "\\ud800"}', r"model\.weights: no text or path can hold this"),
    ],
)
def test_hostile_yaml_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"params\.yaml: {problem}"):
        read_params(path)


BOUNDS: dict[str, tuple[int, int] | None] = {
    "data.max_pixels": (256, 2**30),
    "data.max_image_bytes": (100, 2**31 - 1),
    "data.max_columns": (2, 2**20),
    "data.synthetic.train": (100, 10_000_000),
    "data.synthetic.valid": (100, 10_000_000),
    "data.synthetic.test": (100, 10_000_000),
    "data.synthetic.seed": None,
    "data.image_size": (16, 512),
    "data.seed": None,
    "data.train_rows": None,  # at most those that there are
    "audit.faces": (1, 100_000),
    "audit.folds": (0, 100),
    "audit.epochs": (2, 100_000),
    "audit.seed": None,
    "model.width": (4, 256),
    "model.input_size": (16, 512),
    "loss.true_sign": (-1, 1),
    "train.seed": None,
    "train.epochs": (1, 100_000),
    "train.batch_size": (1, 1_000_000),
    "train.patience": None,  # at most train.epochs
    "evaluate.shift": (0, 512),
    "evaluate.bins": (2, 1000),
    "evaluate.bootstrap": (100, 100_000),
    "evaluate.seed": None,
    "tune.num_samples": (0, 100_000),
    "tune.epochs": (1, 100_000),
    "tune.seed": (0, 2**31 - 1),
    "tune.grace_epochs": (1, 100_000),
    "tune.max_failed": None,  # at most the trials
    "register.bootstrap": (100, 100_000),
    "register.seed": None,
    "ray.num_workers": (0, 10_000),
    "ray.cpus_per_worker": (1, 10_000),
    "ray.workers_per_trial": (1, 10_000),
    "ray.cpus_per_trial": (1, 10_000),
    "ray.max_concurrent_trials": (1, 100_000),
    "ray.max_failures": (0, 10_000),
}
"""Least and greatest value of each whole number; None where a huge one asks for neither memory nor work."""


def whole_numbers(cls: type[BaseModel], prefix: str) -> Iterator[str]:
    """Dotted names of the fields that take a whole number."""
    for name, field in cls.model_fields.items():
        place = f"{prefix}.{field.alias or name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from whole_numbers(field.annotation, place)
        elif any(kind in str(field.annotation) for kind in ("int", "Literal[-1, 1]")) and "dict" not in str(
            field.annotation
        ):
            yield place


def with_value(name: str, value: int) -> dict[str, Any]:
    """Nested params of one value."""
    nested_params: Any = value
    for key in reversed(name.split(".")):
        nested_params = {key: nested_params}
    return dict(nested_params)


def test_the_bounds_are_those_of_every_whole_number() -> None:
    found = [name for section_name in SECTIONS for name in whole_numbers(sections()[section_name], section_name)]
    assert sorted(found) == sorted(BOUNDS)


@pytest.mark.parametrize("name", BOUNDS)
def test_whole_numbers_that_ask_for_endless_work_or_memory_are_refused(tmp_path: Path, name: str) -> None:
    def read(value: int) -> Section:
        params = written(tmp_path, json.dumps(with_value(name, value)))
        return section(sections()[name.partition(".")[0]], params)

    if BOUNDS[name] is None:
        read(2**63 - 1)
        return
    least, greatest = BOUNDS[name] or (0, 0)
    read(least), read(greatest)
    for wrong in (least - 1, greatest + 1, 10**12):
        with pytest.raises(ConfigError, match=rf"params\.yaml:\n  {name}: must be .* \(got {wrong}\)"):
            read(wrong)


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"reduction": 1.0000001}, r"tune\.reduction: must be greater than or equal to 1\.1 \(got 1\.0000001\)"),
        (
            {"num_samples": 50_001, "space": {"train": {"lr": {"grid": [0.1, 0.2]}}}},
            "num_samples and grids make 100,002 trials, more than 100,000: lower them",
        ),
        ({"space": {"train": {"epochs": {"randint": [1, 1_000_002]}}}}, "randint has more than 1,000,000 values"),
        ({"space": {"train": {"lr": {"quniform": [0, 1, 1e-9]}}}}, "quniform has more than 1,000,000 values"),
    ],
)
def test_searches_without_end_are_refused(tune: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        section(TuneConfig, {"tune": tune})


def test_the_greatest_searches_are_read() -> None:
    space = {"train": {"lr": {"quniform": [0, 1, 1e-6]}, "epochs": {"randint": [1, 1_000_001]}}}
    assert section(TuneConfig, {"tune": {"num_samples": 100_000, "reduction": 1.1, "space": space}}).trials == 100_000


def test_the_largest_number_is_read(tmp_path: Path) -> None:
    params = written(tmp_path, "ray: {images_in_memory: 1e30}\ntune: {time_budget: 1e30}")
    assert section(RayConfig, params).image_bytes == int(1e30 * 2**30)
    assert section(TuneConfig, params).time_budget == 1e30
