from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow_parts import CLASSES, constant_model, new_store, random_model, write_samples

from nla.config.register import RegisterConfig
from nla.data.images import decode
from nla.errors import DataError, RegistryError
from nla.evaluation.predict import Views, predict
from nla.io import parse_json_as, read_json_as, write_json
from nla.limits import ImageLimits
from nla.models.calibration import Calibration
from nla.models.saved_model import load_model, read_card
from nla.serving import promotion
from nla.serving.registry import load_version
from nla.tracking import MlflowTracker
from nla.tracking.run_record import RunRecord
from nla.tracking.store import brief
from pipelines import register as stage

NAME = "nla-synthetic"
METRICS = {"protocol": "p", "test": {"accuracy": 0.61234, "mean_accuracy": 0.5, "nll": 1.0}, "valid": {"accuracy": 0.7}}
LABELS = [0] * 120 + [1] * 60 + [2] * 20
"""A model that always says 0 is right on 60 %, 1 on 30 %, 2 on 10 %."""


class Bench:
    """A project with a store: trains nothing, registers anything."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root, self.uri, self.client = root, uri, MlflowClient(uri)
        self.valid = write_samples(root / "valid.parquet", LABELS)
        self.count = 0

    def run(self, fingerprint: str = "f0") -> dict[str, Any]:
        """run.json of a training that this store knows."""
        tracker = MlflowTracker(self.uri, system_metrics=False)
        params, tags = {"train": {"lr": 0.1}}, {"nla.fingerprint": fingerprint, "mlflow.source.git.commit": "c0ffee"}
        run_id = tracker.start(fingerprint, params, tags)
        tracker.log_epoch({"train_loss": 1.0}, 3)
        tracker.finish()
        known = {"mlflow_run_id": run_id, "name": f"synthetic-nla-{fingerprint}", "fingerprint": fingerprint}
        return {**known, "params": params, "tags": tags, "facts": {"workers": 2}, "history": []}

    def models(self, answer: int, **card: Any) -> Path:
        """A new folder with a model of that answer."""
        self.count += 1
        return constant_model(self.root / f"models-{self.count}", answer, **card)

    def register(self, models: Path, run: dict[str, Any] | None = None, **metrics: Any) -> dict[str, Any]:
        record = asdict(self.registration(models, self.valid, run or self.run(), RegisterConfig(), **metrics))
        assert json.loads(json.dumps(record)) == record
        return record

    def registration(
        self, models: Path, valid: Path, run: dict[str, Any], config: RegisterConfig, **metrics: Any
    ) -> stage.Registration:
        measured = stage.Metrics.model_validate(METRICS | metrics)
        return stage.register(models, measured, RunRecord.model_validate(run), valid, config, self.uri)

    def champion(self) -> int:
        return int(self.client.get_registered_model(NAME).aliases["champion"])

    def versions(self) -> list[int]:
        return sorted(int(version.version) for version in self.client.search_model_versions(f"name = '{NAME}'"))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, new_store(tmp_path, monkeypatch))


def test_the_first_is_champion(bench: Bench) -> None:
    run = bench.run()
    record = bench.register(bench.models(1), run)
    assert (record["name"], record["version"], record["decision"]) == (NAME, 1, "champion")
    assert (record["champion_before"], record["difference"]) == (None, None)
    assert record["reason"] == "nla-synthetic version 1 is champion: there was none"
    assert record["run_id"] == run["mlflow_run_id"]
    assert str(bench.root) not in json.dumps(record)
    version = bench.client.get_model_version_by_alias(NAME, "champion")
    assert version.description.startswith(f"{record['reason']}.\n\n|  | test | valid |\n")
    assert "| accuracy | 61.23% | 70.00% |" in version.description
    assert version.tags["test.accuracy"] == "0.6123"
    assert version.tags["valid.accuracy"] == "0.7000"
    assert version.tags["nla.fingerprint"] == "f0"
    assert version.tags["nla.git_commit"] == "c0ffee"
    logged = bench.client.get_logged_model(version.source.removeprefix("models:/"))
    metrics = {metric.key: metric.value for metric in logged.metrics}
    assert (metrics["train_loss"], metrics["test.accuracy"], metrics["test.nll"]) == (1.0, 0.61234, 1.0)
    assert logged.source_run_id == run["mlflow_run_id"]


def test_a_better_one_becomes_champion(bench: Bench) -> None:
    bench.register(bench.models(1))
    record = bench.register(bench.models(0))
    assert (record["decision"], record["champion_before"], bench.champion()) == ("champion", 1, 2)
    assert record["difference"] == pytest.approx(0.3)
    assert 0 < record["low"] < 0.3 < record["high"] < 0.5
    assert "right on 60.00% of the 200 validation images" in record["reason"]
    assert "version 1, on 30.00%" in record["reason"]
    assert "it is champion now" in record["reason"]


def test_a_champion_that_comes_while_another_is_judged_is_compared_too(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone elsewhere promotes version 2 while version 3 is compared with version 1."""
    bench.register(bench.models(2))
    bench.register(bench.models(0))
    bench.client.set_registered_model_alias(NAME, "champion", "1")
    judged: list[str] = []

    def judge(candidate: Any, version: Any, champion: Any, *others: Any) -> Any:
        judged.append(champion.version)
        if len(judged) == 1:
            bench.client.set_registered_model_alias(NAME, "champion", "2")
        return promotion.judge(candidate, version, champion, *others)

    monkeypatch.setattr(stage, "judge", judge)
    record = bench.register(bench.models(1))
    assert [str(number) for number in judged] == ["1", "2"]
    assert (record["decision"], record["champion_before"], bench.champion()) == ("kept", 2, 2)


def test_a_registered_model_that_another_clone_makes_meanwhile_is_used(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.client.create_registered_model(NAME)
    monkeypatch.setattr(MlflowClient, "search_registered_models", lambda *_: [])  # as it was a moment before
    assert bench.register(bench.models(0))["version"] == 1


@pytest.mark.parametrize("labels", [[0] * 104 + [1] * 96, [0] * 96 + [1] * 104, [2] * 200])
def test_the_champion_stays_unless_the_interval_is_above_zero(bench: Bench, labels: list[int]) -> None:
    bench.register(bench.models(1))
    write_samples(bench.valid, labels)
    record = bench.register(bench.models(0))
    assert (record["decision"], record["version"], bench.champion()) == ("kept", 2, 1)
    assert record["low"] <= 0
    assert record["difference"] == pytest.approx((labels.count(0) - labels.count(1)) / 200)
    assert "version 1 stays champion" in record["reason"]


def test_clean_labels_decide(bench: Bench) -> None:
    """The model that gives everybody's wrong label is not the better one."""
    write_samples(bench.valid, [0] * 150 + [1] * 50, given=[1] * 200)
    bench.register(bench.models(1))
    record = bench.register(bench.models(0))
    assert record["decision"] == "champion" and record["difference"] == pytest.approx(0.5)


def test_a_handful_of_images_makes_no_champion(bench: Bench) -> None:
    """Four to none: the bootstrap's interval is above zero, and the exact p .125."""
    bench.valid = write_samples(bench.root / "few.parquet", [0] * 8)
    bench.register(bench.models(1))
    bench.valid = write_samples(bench.root / "few.parquet", [0] * 4 + [2] * 26)
    record = bench.register(bench.models(0))
    assert record["low"] > 0 and record["decision"] == "kept" and "p 0.125" in record["reason"]


def test_the_present_validation_data_decide(bench: Bench) -> None:
    bench.register(bench.models(0))
    challenger, run = bench.models(1), bench.run()
    assert bench.register(challenger, run)["decision"] == "kept"
    write_samples(bench.valid, [1] * 150 + [0] * 50)
    record = bench.register(challenger, run)
    assert (record["decision"], record["version"], bench.champion()) == ("champion", 2, 2)


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ({"classes": CLASSES[::-1]}, "knows the classes surprise, happiness, neutral"),
        ({"classes": (*CLASSES, "fear")}, "knows the classes neutral, happiness, surprise, fear"),
        ({"size": 24}, "takes grey images of 24 pixels, the data hold grey of 16"),
        ({"rgb": True}, "takes rgb images of 16 pixels, the data hold grey of 16"),
    ],
)
def test_what_cannot_be_compared_is_refused(bench: Bench, before: dict[str, Any], reason: str) -> None:
    write_samples(bench.valid, LABELS, classes=before.get("classes", CLASSES))
    bench.register(bench.models(2, **before))
    write_samples(bench.valid, LABELS)
    record = bench.register(bench.models(0))
    assert (record["decision"], record["version"], bench.champion()) == ("refused", 2, 1)
    assert record["difference"] is None
    assert reason in record["reason"]
    assert "To prefer nla-synthetic version 2 nonetheless, give it the alias champion" in record["reason"]


def test_a_champion_of_another_source_is_refused(bench: Bench) -> None:
    """Someone has set the alias by hand on a model of another data set."""
    bench.register(bench.models(2))
    folder = bench.models(1, source="folder")
    other = write_samples(bench.root / "other.parquet", LABELS, source="folder")
    bench.registration(folder, other, bench.run(), RegisterConfig())
    source = bench.client.get_model_version("nla-folder", "1").source
    wrong = bench.client.create_model_version(NAME, source)
    bench.client.set_registered_model_alias(NAME, "champion", wrong.version)
    record = bench.register(bench.models(0))
    assert record["decision"] == "refused"
    assert "was trained on folder" in record["reason"]


def test_a_champion_that_takes_smaller_images_is_compared(bench: Bench) -> None:
    write_samples(bench.valid, LABELS, size=24)
    bench.register(bench.models(1, size=16))
    record = bench.register(bench.models(0, size=24, rgb=True))
    assert (record["decision"], bench.champion()) == ("champion", 2)
    assert record["difference"] == pytest.approx(0.3)


def test_a_champion_whose_files_are_gone_is_refused(bench: Bench) -> None:
    bench.register(bench.models(1))
    shutil.rmtree(bench.root / "mlruns")
    record = bench.register(bench.models(0))
    assert (record["decision"], bench.champion()) == ("refused", 1)
    assert "cannot be loaded (The following failures occurred" in record["reason"]
    assert "\n" not in record["reason"] and len(record["reason"]) < 600
    assert bench.client.get_model_version(NAME, "2").description.startswith(record["reason"])


def test_mlflows_traceback_is_not_put_into_a_sentence() -> None:
    error = MlflowException(f"failures:\n##### File a #####\nno\nTraceback (most recent call last):\n{'x' * 999}")
    assert brief(error) == "failures: ##### File a ##### no"
    assert len(brief(MlflowException("y" * 999))) < 210


def test_the_same_model_is_registered_once(bench: Bench) -> None:
    models, run = bench.models(0), bench.run()
    first = bench.register(models, run)
    again = bench.register(models, run)
    assert bench.versions() == [1]
    assert (again["version"], again["decision"], again["champion_before"]) == (1, "champion", 1)
    assert again["store"] == first["store"]
    assert "champion already" in again["reason"]
    assert len(list((bench.root / "mlruns/models").iterdir())) == 1
    bench.register(bench.models(1), run)
    bench.register(models, bench.run("f1"))
    assert bench.versions() == [1, 2, 3]


def test_changed_serving_code_is_registered_and_becomes_champion(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    models, run = bench.models(0), bench.run()
    bench.register(models, run)
    bench.register(bench.models(1), run)
    monkeypatch.setattr(stage, "shipped_code", lambda: "changed")
    record = bench.register(models, run)
    assert (record["decision"], record["version"], record["champion_before"]) == ("champion", 3, 1)
    assert "the model of version 1, served by the current code" in record["reason"]
    assert (bench.register(models, run)["version"], bench.champion()) == (3, 3)


def test_changed_limits_are_registered_and_become_champion(bench: Bench) -> None:
    models, run = bench.models(0), RunRecord.model_validate(bench.run())
    measured = stage.Metrics.model_validate(METRICS)
    records = [
        stage.register(models, measured, run, bench.valid, RegisterConfig(), bench.uri, ImageLimits(pixels))
        for pixels in (10_000, 20_000, 20_000)
    ]
    assert [(record.version, record.champion_before) for record in records] == [(1, None), (2, 1), (2, 2)]
    assert bench.champion() == 2


def test_a_changed_calibration_is_registered_and_becomes_champion(bench: Bench) -> None:
    """It changes no label, so there is nothing to compare; whoever loads the champion gets it."""
    models, run = bench.models(0), bench.run()
    bench.register(models, run)
    card = read_card(models / "model.safetensors")
    write_json(models / "model.json", card | {"calibration": {"temperature": 2.0, "uniform": 0.0}})
    record = bench.register(models, run)
    assert (record["decision"], record["version"], record["champion_before"]) == ("champion", 2, 1)
    champion = bench.client.get_model_version_by_alias(NAME, "champion")
    assert load_version(champion).calibration == Calibration(2.0)
    assert bench.register(models, run)["version"] == 2


BARE, WIDE = {"mirror": False, "shift": 0}, {"mirror": True, "shift": 3}


def test_a_model_is_served_and_judged_with_the_views_that_it_was_measured_with(bench: Bench) -> None:
    models, run = random_model(bench.root / "models"), bench.run()
    images = [image["bytes"] for image in pq.read_table(bench.valid)["image"].to_pylist()]
    pixels_NHWC = np.stack([decode(image) for image in images])[..., None]
    network, _ = load_model(models / "model.safetensors")
    p = {name: predict(network, pixels_NHWC, Views(**views)) for name, views in (("bare", BARE), ("wide", WIDE))}
    right = {name: (p_NC.argmax(1) == LABELS).mean() for name, p_NC in p.items()}
    assert right["bare"] != right["wide"], "the views must matter here"

    card = models / "model.json"
    records = []
    for views in (BARE, WIDE, BARE):
        card.write_text(json.dumps(json.loads(card.read_text()) | {"views": views}))
        records.append(bench.register(models, run))
    assert [record["version"] for record in records] == [1, 2, 1], "once for each of its views"
    assert records[1]["difference"] == pytest.approx(right["wide"] - right["bare"])
    for version, name in ((1, "bare"), (2, "wide")):
        served = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}").predict(pd.DataFrame({"image": images}))
        np.testing.assert_allclose(np.stack(served["probabilities"].tolist()), p[name], atol=1e-5)


def test_a_run_of_another_store_is_copied(bench: Bench) -> None:
    run = bench.run() | {"mlflow_run_id": "0" * 32}
    record = bench.register(bench.models(0), run)
    assert record["run_id"] != run["mlflow_run_id"]
    assert f"This store lacks the run {'0' * 32}: {record['run_id']} repeats its params and" in record["reason"]
    stand_in = bench.client.get_run(record["run_id"])
    assert stand_in.info.status == "FINISHED"
    assert stand_in.info.run_name == "synthetic-nla-f0"
    assert stand_in.data.params == {"train.lr": "0.1", "facts.workers": "2"}
    assert stand_in.data.metrics == {
        "test.accuracy": 0.61234,
        "test.mean_accuracy": 0.5,
        "test.nll": 1.0,
        "valid.accuracy": 0.7,
    }
    assert stand_in.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert bench.register(bench.models(1), run)["run_id"] == record["run_id"]


def test_model_and_validation_data_belong_together(bench: Bench) -> None:
    with pytest.raises(DataError, match=r"trained on folder .*\(got synthetic .*Run `dvc repro`"):
        bench.register(bench.models(0, source="folder"))
    assert bench.client.search_registered_models() == []


def test_bad_name_is_one_clear_error(bench: Bench) -> None:
    with pytest.raises(RegistryError, match="MLflow store"):
        bench.registration(bench.models(0), bench.valid, bench.run(), RegisterConfig(prefix="a/b"))


def test_a_record_without_a_field_names_it(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"mlflow_run_id": null, "name": "n"}')
    with pytest.raises(DataError, match=r"run\.json: fingerprint: field required\. Run `dvc repro`\."):
        read_json_as(tmp_path / "run.json", RunRecord)
    (tmp_path / "metrics.json").write_text('{"test": 1, "valid": {}}')
    with pytest.raises(DataError, match=r"metrics\.json: test: must be an object \(got 1\)"):
        read_json_as(tmp_path / "metrics.json", stage.Metrics)


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.floats(allow_nan=False) | st.none())))
def test_a_run_record_is_written_and_read_without_a_change(history: list[dict[str, float | None]]) -> None:
    content = {"mlflow_run_id": "1", "fingerprint": "f", "name": "n", "params": {"train": {"lr": 1}}, "tags": {}}
    rows = [{**row, "epoch": epoch} for epoch, row in enumerate(history, 1)]
    text = json.dumps({**content, "facts": {"workers": 2}, "history": rows})
    record = parse_json_as(text.encode(), RunRecord, "run.json", "")
    assert json.dumps(record.model_dump()) == text, "an epoch stays an integer"


def test_the_description_names_the_model_card_of_versions_that_have_it(bench: Bench) -> None:
    readme, measured = bench.root / "README.md", stage.Metrics.model_validate(METRICS)
    readme.write_text("# card\n")
    for answer, card in ((0, None), (1, readme)):
        models, run = bench.models(answer), RunRecord.model_validate(bench.run())
        for path in (card, readme):  # again: the version is there already, and keeps its files
            config = RegisterConfig()
            stage.register(models, measured, run, bench.valid, config, bench.uri, ImageLimits(), path)
    said = [bench.client.get_model_version(NAME, number).description for number in ("1", "2")]
    assert ["artifacts/README.md" in text for text in said] == [False, True]
