"""Reviews made in other programs, as corrections.

Label Studio's export (JSON, not JSON-MIN) has the annotations of each task: one label is the right one, several are a
distribution with equal shares, `drop` leaves the face out, and a cancelled annotation says nothing. Several annotators
are averaged. FiftyOne's export (FiftyOneImageClassificationDataset) has a label for each face: another one than that
given corrects it, none at all drops the face, and several are a distribution. A label that is still the same says
nothing there, because nobody may have looked at it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from nla.audit.exports import ACTION, DROP, LABEL, face_name
from nla.audit.table import AuditInfo, read_labels
from nla.config.base import nearest
from nla.data.corrections import Correction, image_name
from nla.data.problems import Problem, error_lines
from nla.errors import DataError
from nla.io import first_problem, read_json_as

REMEDY = "Export it again: Label Studio as JSON, FiftyOne as FiftyOneImageClassificationDataset. See docs/audit.md."
Shares = dict[str, float]


class _Lenient(BaseModel):
    """Other fields than those read here do not matter."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class _Choices(_Lenient):
    choices: list[str] = []


class _Item(_Lenient):
    type: str
    from_name: str
    value: dict[str, Any]


class _Annotation(_Lenient):
    result: list[_Item] = []
    was_cancelled: bool | None = False


class _Data(_Lenient):
    hash: str
    given: str


class _Task(_Lenient):
    data: _Data
    annotations: list[_Annotation] = []


class _Labels(_Lenient):
    classes: list[str] | None = None
    labels: dict[str, Any] = Field(min_length=1)


def read_review(path: Path, labels: Path) -> list[Correction]:
    """Reads the export of another program; which one, its content tells.

    Args:
        path: file of the program.
        labels: table of the audit that was exported to it.

    Raises:
        DataError: a file is missing or damaged, or does not fit the audit; all that does not fit is named.
    """
    info, table = read_labels(labels)
    content: Any = read_json_as(path, object, REMEDY)
    problems: list[Problem] = []
    try:
        if isinstance(content, list):
            tasks = TypeAdapter(list[_Task]).validate_python(content)
            found = [*_of_tasks(tasks, path.name, problems)]
        else:
            exported = _Labels.model_validate(content)
            found = [*_of_labels(exported, _names(table, info.classes), path.name, problems)]
    except ValidationError as error:
        raise DataError(f"{path}: {first_problem(error)}. {REMEDY}") from None
    found = [*_known(found, table, info, path.name, problems)]
    if problems:
        first = f"{path}: {len(problems):,} faces do not fit the audit {labels}. {REMEDY}"
        raise DataError("\n".join([first, *error_lines(problems, None)]))
    return found


def _of_tasks(tasks: Sequence[_Task], file: str, problems: list[Problem]) -> Iterator[Correction]:
    for number, task in enumerate(tasks, 1):
        try:
            image, old = _digest(task.data.hash), task.data.given
            correction = _of_annotations([a for a in task.annotations if not a.was_cancelled], image, old)
        except ValueError as wrong:
            problems.append(Problem(file, None, f"task {number}: {wrong}"))
            continue
        if correction:
            yield correction


def _of_annotations(annotations: Sequence[_Annotation], image: bytes, old: str) -> Correction | None:
    """What all annotators of a task say together; None if they say nothing."""
    chosen = [_choices(annotation, LABEL) for annotation in annotations]
    dropped = [DROP in _choices(annotation, ACTION) for annotation in annotations]
    if any(dropped):
        if not all(dropped):
            raise ValueError("annotators disagree whether to drop it. Decide it there")
        return Correction(image, old, "drop")
    shares: Shares = {}
    voters = [names for names in chosen if names]
    for names in voters:
        for name in names:
            shares[name] = shares.get(name, 0.0) + 1 / len(names) / len(voters)
    return _decided(image, old, shares)


def _choices(annotation: _Annotation, control: str) -> list[str]:
    items = [item for item in annotation.result if item.type == "choices" and item.from_name == control]
    return [name for item in items for name in _Choices.model_validate(item.value).choices]


def _of_labels(
    exported: _Labels, names: Mapping[str, tuple[bytes, str]], file: str, problems: list[Problem]
) -> Iterator[Correction]:
    for name, target in exported.labels.items():
        try:
            if name not in names:
                raise ValueError("no face of the audit has this name")
            image, old = names[name]
            if target is None:
                yield Correction(image, old, "drop")
                continue
            classes = [_class_of(each, exported.classes) for each in (target if isinstance(target, list) else [target])]
            correction = _decided(image, old, {each: classes.count(each) / len(classes) for each in classes})
        except ValueError as wrong:
            problems.append(Problem(file, None, f"{name}: {wrong}"))
            continue
        if correction and correction.action != "keep":
            yield correction


def _class_of(target: Any, classes: Sequence[str] | None) -> str:
    """Name of a class: as it is, as its number in `classes`, or inside of an object with confidence and attributes."""
    value = target.get("label") if isinstance(target, dict) else target
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and classes and 0 <= value < len(classes):
        return classes[value]
    raise ValueError(f"not a label (got {value!r})")


def _decided(image: bytes, old: str, shares: Shares) -> Correction | None:
    if not shares:
        return None
    most = max(shares, key=lambda name: shares[name])
    if len(shares) > 1:
        return Correction(image, old, "distribution", most, shares)
    return Correction(image, old, "keep") if most == old else Correction(image, old, "relabel", most)


def _known(
    found: Sequence[Correction], table: pa.Table, info: AuditInfo, file: str, problems: list[Problem]
) -> Iterator[Correction]:
    """The corrections with the paths of their images; those that the audit does not know become problems."""
    columns = (table[name].to_pylist() for name in ("pixels", "label", "path"))
    paths = {(pixels, label): path for pixels, label, path in zip(*columns, strict=True)}
    for one in found:
        name = image_name(one.image)
        unknown = [label for label in (one.new, *one.shares) if label is not None and label not in info.classes]
        if (one.image.hex(), one.old) not in paths:
            problems.append(Problem(file, None, f"{name}: the audit has no such image labelled {one.old}"))
        elif unknown:
            problems.append(
                Problem(file, None, f"{name}: unknown label '{unknown[0]}'{nearest(unknown[0], info.classes)}")
            )
        else:
            yield Correction(one.image, one.old, one.action, one.new, one.shares, path=paths[one.image.hex(), one.old])


def _digest(name: str) -> bytes:
    try:
        digest = bytes.fromhex(name.rpartition(":")[2])
    except ValueError:
        digest = b""
    if not digest or image_name(digest) != name:
        raise ValueError(f"data.hash: not the hash of an image (got {name!r})")
    return digest


def _names(table: pa.Table, classes: Sequence[str]) -> dict[str, tuple[bytes, str]]:
    rows = table.select(["pixels", "label"]).to_pylist()
    return {face_name(row, classes): (bytes.fromhex(row["pixels"]), row["label"]) for row in rows}
