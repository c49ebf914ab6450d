"""A model's card in Markdown, with the YAML head that model hubs read (Hugging Face: `model-index` and others).

It is written from records: the JSON card beside the weights, reports/metrics.json and run.json. Names of classes and
sources, and whatever else a user could have chosen, are escaped.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from nla.evaluation.fitted_calibration import METHODS
from nla.io import read_json_as
from nla.markdown import escaped, table
from nla.models.calibration import Calibration
from nla.models.face_weights import PACKAGE
from nla.models.views import Views
from nla.serving import card_texts
from nla.text import shown
from nla.tracking.run_record import RunRecord
from nla.tracking.summary import tables

README = "README.md"
"""Name under which hubs expect the card."""
UNSTATED = "other"
"""Hugging Face's value for a licence that is not in its list."""
NOT_STATED = "not-stated"
TAGS = ["facial-expression-recognition", "emotion-recognition", "label-noise", "pytorch"]
METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "mean_accuracy": ("balanced_accuracy", "Mean class accuracy"),
    "macro_f1": ("f1", "Macro-F1"),
}
"""Metric of a report -> type and name in the head."""
CALIBRATED = {"nll": ("nll", "NLL, calibrated"), "ece": ("expected_calibration_error", "ECE, calibrated")}
LONGEST_LINE = 1 << 16
"""Longer lines of YAML would be folded, and a folded text could look like the end of the head."""


class _Numbers(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    nll: float | None = None
    nll_low: float | None = None
    nll_high: float | None = None
    ece: float | None = None
    ece_low: float | None = None
    ece_high: float | None = None
    aurc: float | None = None


class ClassReport(BaseModel):
    """The results of a class."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    recall: float | None = None
    recall_low: float | None = None
    recall_high: float | None = None
    precision: float | None = None
    f1: float | None = None
    support: int | None = None


class SplitReport(_Numbers):
    """The results of a split."""

    rows: int | None = None
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    mean_accuracy: float | None = None
    mean_accuracy_low: float | None = None
    mean_accuracy_high: float | None = None
    macro_f1: float | None = None
    macro_f1_low: float | None = None
    macro_f1_high: float | None = None
    bayes_accuracy: float | None = None
    calibrated: _Numbers | None = None
    classes: dict[str, ClassReport] = {}


class Results(BaseModel):
    """reports/metrics.json, as far as a card shows it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str | None = None
    """Of the weights that were measured; missing in older files."""
    protocol: str | None = None
    test: SplitReport
    valid: SplitReport


def read_results(path: Path, card: Mapping[str, Any]) -> Results | None:
    """The results of the model with this card; None if the file is missing, or of another model.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    results = read_json_as(path, Results)
    return results if results.sha256 == card["sha256"] else None


def read_run(path: Path, card: Mapping[str, Any]) -> RunRecord | None:
    """The record of the training of the model with this card; None if the file is missing, or of another training.

    Raises:
        DataError: the file is damaged.
    """
    if not path.is_file():
        return None
    run = read_json_as(path, RunRecord)
    return run if run.fingerprint == card["fingerprint"] else None


def model_card(
    card: Mapping[str, Any],
    results: Results | None,
    run: RunRecord | None,
    licence: str = UNSTATED,
    licence_name: str = NOT_STATED,
) -> str:
    """The card as Markdown with a YAML head.

    Args:
        card: as `read_card` returns it.
        results: as `read_results` returns them.
        run: as `read_run` returns it.
        licence: of the weights, as Hugging Face spells it; the default states none.
        licence_name: of one that Hugging Face does not know.
    """
    name, network = f"nla-{shown(card['source'])}", escaped(card["architecture"]["name"])
    what = f"{network} that assigns one of {len(card['classes'])} classes to a cropped face"
    sections = {
        "Use": _use(card),
        "Data": data_section(card["source"], _data_facts(run)),
        "Training": _training(card, run),
    }
    yaml = head(name, card, results, "image-classification", licence, licence_name)
    return page(yaml, name, what, card, sections, results)


def page(
    head: str,
    name: str,
    what: str,
    card: Mapping[str, Any],
    sections: Mapping[str, list[str]],
    results: Results | None,
) -> str:
    """A card of a model of any kind.

    Args:
        head: YAML.
        name: of the model.
        what: the network and what it does, as Markdown.
        card: with classes, and calibration if there is one.
        sections: lines of those that differ between kinds, by their titles; the first comes before the limits of use.
        results: of the model, if they are at hand.
    """
    classes = ", ".join(map(escaped, card["classes"]))
    (first, lines), *others = sections.items()
    return "\n".join(
        [
            f"---\n{head}---\n",
            f"# {escaped(name)}: facial expressions",
            "",
            # in one line: a name could begin a list
            f"Network {what}: {classes}. Trained and measured with NLA.",
            *_section(first, lines),
            *_section("Intended use and limits", [*card_texts.USE, "", *items(card_texts.LIMITS)]),
            *(line for title, own in others for line in _section(title, own)),
            *_section("Results", _results(results)),
            *_section("Calibration", _calibration(card)),
            "",
        ]
    )


def head(
    name: str,
    card: Mapping[str, Any],
    results: Results | None,
    task: str,
    licence: str = UNSTATED,
    licence_name: str = NOT_STATED,
) -> str:
    """The YAML between the dashes; `task` as Hugging Face spells it."""
    facts: dict[str, Any] = {"license": shown(licence)}
    if licence == UNSTATED:
        facts["license_name"] = licence_name
    facts |= {"library_name": "nla", "pipeline_tag": task, "tags": TAGS, "metrics": ["accuracy", "f1"]}
    if results is not None:
        found = {"task": {"type": task}, "dataset": _dataset(card), "metrics": _metrics(results.test)}
        facts["model-index"] = [{"name": name, "results": [found]}]
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style, yaml.width = False, LONGEST_LINE
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # annotated as None
    yaml.dump(facts, text)
    return text.getvalue()


def _dataset(card: Mapping[str, Any]) -> dict[str, str]:
    return {"type": shown(card["source"]), "name": shown(card["source"]), "split": "test"}


def _metrics(test: SplitReport) -> list[dict[str, Any]]:
    groups = ((METRICS, test), (CALIBRATED, test.calibrated))
    numbers = [(known, getattr(report, key, None)) for names, report in groups for key, known in names.items()]
    return [{"type": kind, "name": name, "value": round(n, 6)} for (kind, name), n in numbers if n is not None]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def items(lines: tuple[str, ...] | list[str]) -> list[str]:
    """A list."""
    return [f"- {line}" for line in lines]


def _use(card: Mapping[str, Any]) -> list[str]:
    image, views = card["image"], Views(**card["views"])
    kind = "grey" if image["channels"] == 1 else "colour"
    return [
        "```python",
        "from pathlib import Path",
        "from nla.serving import Predictor",
        'predictor = Predictor.load(".")  # the folder with model.safetensors and model.json',
        'found = predictor.predict([Path("face.jpg").read_bytes()])',
        "print(found.label[0], found.confidence[0])",
        "```",
        "",
        f"Images are fitted to {kind} of {image['size']} x {image['size']} pixels. Probabilities are the mean over "
        f"{views.count} {'view' if views.count == 1 else 'views'} of the image, in float32, [calibrated](#calibration) "
        f"where validation supports it. No pickle is involved. SHA-256 of the weights: `{code_span(card['sha256'])}`.",
    ]


def data_section(source: str, facts: list[str]) -> list[str]:
    """What is known of a data set, and `facts` about its use here, as Markdown."""
    lines = [f"Source: {escaped(source)}. {card_texts.DATA.get(source, card_texts.OTHER_DATA)} {card_texts.TERMS}"]
    return [*lines, "", *items(facts)] if facts else lines


def _data_facts(run: RunRecord | None) -> list[str]:
    data = _params(run, "data")
    known = [(key, data[key]) for key in ("label_rule", "image_size", "imbalance_factor", "train_rows", "noise")]
    return [f"`data.{key}`: {escaped(json.dumps(value))}" for key, value in known if value is not None]


def _training(card: Mapping[str, Any], run: RunRecord | None) -> list[str]:
    lines = [epoch_line(card)]
    if run is None:
        return [*lines, "", "The record of the training is not at hand."]
    loss, weights = _params(run, "loss"), _params(run, "model")["weights"]
    facts = [f"Loss: {escaped(str(loss['name']))}"]
    facts.append(f"Augmentation: {escaped(str(_params(run, 'augment')['recipe']))}")
    facts.append(f"Start: {_start(weights)}")
    return [*lines, "", *items(facts)]


def epoch_line(card: Mapping[str, Any]) -> str:
    """Which epoch of which run the weights are."""
    return f"Epoch {card['epoch']}, chosen on validation; test selects nothing. Run `{code_span(card['fingerprint'])}`."


def _start(weights: Any) -> str:
    if not weights:
        return card_texts.FROM_SCRATCH
    name = Path(str(weights)).name  # not its folder on this machine
    return card_texts.DLIB if weights == PACKAGE else f"weights from `{code_span(name)}`; {card_texts.OTHER_START}"


def _params(run: RunRecord | None, section: str) -> Mapping[str, Any]:
    """A section of the run's parameters, in which missing keys are None."""
    found = run.params.get(section) if run else None
    return _Optional(found if isinstance(found, Mapping) else {})


class _Optional(dict[str, Any]):
    def __missing__(self, key: str) -> None:
        return None


def _results(results: Results | None) -> list[str]:
    if results is None:
        return ["The results of this model are not at hand."]
    lines = tables(results.model_dump(exclude_none=True))
    lines += ["", "In brackets: 95 % intervals."]
    return lines + ([f"Protocol: {escaped(results.protocol)}."] if results.protocol else [])


def _calibration(card: Mapping[str, Any]) -> list[str]:
    known, used = card.get("calibration") or {}, Calibration.of_card(card)
    if used.is_identity:
        return ["Probabilities are those of the network: no calibration was fitted, or none was better on validation."]
    uniform = f", then mixed with a share of {used.uniform:.3f} of the uniform distribution" if used.uniform else ""
    lines = [
        f"The log of the mean probabilities is divided by the temperature {used.temperature:.3f}{uniform}. This "
        "changes no label. It was fitted on the labels of validation as given, wrong ones included.",
    ]
    nll = known.get("nll")
    if not isinstance(nll, Mapping) or not all(isinstance(nll.get(name), float) for name in METHODS):
        return lines
    return [
        *lines,
        "",
        *table(["on validation, cross-fitted", "NLL"], [[f"`{name}`", f"{nll[name]:.4f}"] for name in METHODS]),
    ]


def code_span(text: str) -> str:
    """`text` for a code span, in which no escapes work: without its ends."""
    return shown(text).replace("`", "'")
