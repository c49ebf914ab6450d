"""The runs of a study and their records: what names a record, where it is, and what it is made of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nla.config.base import DEFAULTS, section
from nla.config.evaluate import EvaluateConfig
from nla.errors import DataError, NLAError
from nla.evaluation.predict import Views
from nla.io import sha256
from nla.models.weights import weights_path
from nla.study.origin import Origin
from nla.study.record import RECORDS, Record, log_probabilities
from nla.study.specs import RunSpec
from nla.study.variants import Variants
from nla.study.worker import Result
from nla.training.job import training_config
from nla.workflow.paths import workspace
from nla.workflow.provenance import DIGITS, fingerprint
from nla.workflow.runs import RUNS


class StudyRun(NamedTuple):
    """A run of the study, with the name of its record."""

    spec: RunSpec
    record: str
    """Name of the record: FINGERPRINT-CODE, or FINGERPRINT alone if it is of an earlier version."""

    @property
    def path(self) -> Path:
        """Path of the record."""
        return RECORDS / f"{self.record}.parquet"


class StudyRuns(NamedTuple):
    """Outcome of the requested runs, in their order."""

    runs: list[StudyRun]
    failed: dict[str, NLAError]
    """Name of a record -> why there is none."""

    @property
    def done(self) -> list[StudyRun]:
        """The runs that have their records."""
        return [run for run in self.runs if run.record not in self.failed]

    def names(self, records: Iterable[str]) -> str:
        """Names of some of the runs, for a message."""
        chosen = set(records)
        return ", ".join(str(run.spec) for run in self.runs if run.record in chosen)


def record_name(run: str, code: str, frozen: bool) -> str:
    """Name of the record of a run: of this code or, in a frozen study, of the code that made it.

    Args:
        run: the run's fingerprint.
        code: fingerprint of the present code.

    Raises:
        DataError: a frozen study has several records of the run.
    """
    wanted = f"{run}-{code}"
    if not frozen:
        return wanted
    found = sorted(path.stem for path in RECORDS.glob(f"{run}*.parquet"))
    if len(found) > 1:
        raise DataError(
            f"{RECORDS}: a frozen study needs one record of each run (got {', '.join(found)}). Remove those of the "
            "code that is not compared."
        )
    return found[0] if found else wanted


def delete_records(root: Path) -> None:
    """Removes the records of the study in the current folder, and its checkpoints in the project `root`."""
    for record in RECORDS.glob("*.parquet"):
        record.unlink()
    ours = re.compile(rf"{re.escape(workspace().name)}(-[0-9a-f]{{{DIGITS}}}){{2,3}}")
    for folder in (root / RUNS).glob("*"):
        if ours.fullmatch(folder.name):
            shutil.rmtree(folder)


def views_on_test(spec: RunSpec) -> Views | None:
    """Augmented views over which test predictions are averaged; None in tuning, which does not use test."""
    config = section(EvaluateConfig, spec.params)
    return None if spec.setting is not None else Views(config.mirror, config.shift)


def run_fingerprint(spec: RunSpec, variants: Variants, root: Path) -> str:
    """Hash of the parameters, first weights and data of a run, and of how test is measured."""
    sections = {name: config.stated() for name, config in training_config(spec.params).sections.items()}
    if start := sections["model"].get("weights"):
        sections["model"]["weights"] = sha256(weights_path(start, root))
    views = section(EvaluateConfig, spec.params).stated(include={"mirror", "shift"})
    measured = views if spec.setting is None else None  # tuning does not use test
    content = {**sections, "data": variants.key(spec.data), "evaluate": measured, "defaults": DEFAULTS}
    return fingerprint(content, [], workspace())


def make_record(run: StudyRun, result: Result, origin: Origin) -> Record:
    """The record of a run."""
    data, progress, epochs = run.spec.data, result.progress, result.epochs
    predicted = {epoch: p_NC.argmax(1).astype(np.uint8) for epoch, p_NC in result.p.items()}
    unused = np.empty(0, np.uint8)  # test, in tuning
    return Record(
        method=run.spec.method,
        condition=run.spec.condition,
        noise_kind=data.noise.kind,
        noise_rate=data.noise.rate,
        imbalance_factor=data.imbalance_factor,
        seed=run.spec.seed,
        fingerprint=run.record,
        epochs=epochs["last"],
        best_epoch=epochs["given"],
        seconds=sum(row["seconds"] for row in progress.history),
        params={**training_config(run.spec.params).dump(), "data": data.model_dump(mode="json")},
        facts={**progress.facts, **asdict(origin), **result.node},
        claims=result.claims,
        valid_accuracy=[row["valid_accuracy"] for row in progress.history],
        valid_mean_accuracy=[row["valid_mean_accuracy"] for row in progress.history],
        test_accuracy=result.on_test.get("test_accuracy", []),
        test_mean_accuracy=result.on_test.get("test_mean_accuracy", []),
        best_predicted=predicted.get(epochs["given"], unused),
        last_predicted=predicted.get(epochs["last"], unused),
        clean_epoch=epochs["clean"],
        clean_accuracy=[row["clean_accuracy"] for row in progress.history],
        clean_predicted=predicted.get(epochs["clean"], unused),
        log_p={epoch: log_probabilities(p_NC) for epoch, p_NC in result.p.items()},
    )


def summary(record: Record) -> str:
    """One line on validation for the console; test results are left to the report."""
    when, minutes = f"after epoch {record.best_epoch} of {record.epochs}", record.seconds / 60
    return f"{record.score('accuracy'):.2%} on validation {when} ({minutes:.1f} min)"
