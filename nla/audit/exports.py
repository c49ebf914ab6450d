"""An audit in the formats of other programs, for those who review there.

| format | files | documentation |
|---|---|---|
| Label Studio | `tasks.json`, `config.xml` | labelstud.io: guide/task_format, guide/predictions, tags/choices |
| FiftyOne | `labels.json`, `data/*.png` | docs.voxel51.com: FiftyOneImageClassificationDataset |
| cleanlab | one CSV file | docs.cleanlab.ai: columns of CleanLearning.get_label_issues |

nla/audit/reviewed.py reads what comes back from the first two.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from nla.audit.faces import Faces, encoded_images
from nla.audit.table import probabilities, read_labels
from nla.audit.thumbnails import thumbnails
from nla.data.corrections import harmless, image_name
from nla.data.images import decode, encode_png
from nla.io import atomic_write, write_json, write_rows

LABEL, ACTION, DROP = "label", "action", "drop"
"""Names of Label Studio's controls, and the choice of the second one."""
LARGE = 0.5
"""Share of the largest share from which a class is suggested for an ambiguous face."""


def write_label_studio(folder: Path, faces: Faces, tables: Mapping[str, Path]) -> None:
    """Writes `tasks.json`, with small images inside and suggestions as predictions, and the labelling `config.xml`.

    Raises:
        DataError: as `encoded_images`.
    """
    rows = faces.table.to_pylist()
    images = [b""] * len(rows)
    for place, jpeg, _ in thumbnails(faces, tables):
        images[place] = jpeg
    tasks = [
        {"data": _task_data(row, image), "predictions": [_prediction(row, faces)]}
        for row, image in zip(rows, images, strict=True)
    ]
    with atomic_write(folder / "tasks.json") as part:
        part.write_text(json.dumps(tasks, indent=1), encoding="utf-8")
    with atomic_write(folder / "config.xml") as part:
        part.write_text(label_studio_config(faces.info.classes), encoding="utf-8")


def label_studio_config(classes: Sequence[str]) -> str:
    """The labelling interface: several labels at once mean a distribution."""
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in classes)
    return (
        "<View>\n"
        '  <Image name="image" value="$image"/>\n'
        '  <Text name="facts" value="$facts"/>\n'
        f'  <Choices name="{LABEL}" toName="image" choice="multiple" showInline="true">\n{choices}  </Choices>\n'
        f'  <Choices name="{ACTION}" toName="image" choice="single">\n    <Choice value="{DROP}"/>\n  </Choices>\n'
        "</View>\n"
    )


def _task_data(row: Mapping[str, Any], image: bytes) -> dict[str, Any]:
    """What a task says of its face; `hash` and `given` identify it when it comes back."""
    facts = f"labelled {row['label']}, suggested {row['suggested']}, {row['verdict']}, score {row['score']:.3f}"
    return {
        "image": f"data:image/jpeg;base64,{base64.b64encode(image).decode()}",
        "hash": image_name(bytes.fromhex(row["pixels"])),
        "given": row["label"],
        "suggested": row["suggested"],
        "verdict": row["verdict"],
        "score": round(row["score"], 4),
        "path": row["path"],
        "facts": facts,
    }


def _prediction(row: Mapping[str, Any], faces: Faces) -> dict[str, Any]:
    """The suggestion; its score is low for a suspect label, as Label Studio shows the lowest first."""
    value = {"choices": suggested_classes(row, faces.info.classes)}
    result = {"id": "suggested", "from_name": LABEL, "to_name": "image", "type": "choices", "value": value}
    return {"model_version": faces.info.fingerprint, "score": round(1 - row["score"], 4), "result": [result]}


def suggested_classes(row: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    """The suggested label; for an ambiguous face, all classes with at least LARGE of the largest share."""
    if row["verdict"] != "ambiguous":
        return [row["suggested"]]
    shares = {name: row[f"q_{name}"] or 0.0 for name in classes}
    return [name for name, share in shares.items() if share >= LARGE * max(shares.values())]


def write_fiftyone(folder: Path, faces: Faces, tables: Mapping[str, Path]) -> None:
    """Writes a FiftyOneImageClassificationDataset: labels as given, with what the audit says as attributes.

    Raises:
        DataError: as `encoded_images`.
    """
    rows, classes = faces.table.to_pylist(), list(faces.info.classes)
    names = [face_name(row, classes) for row in rows]
    for place, data in encoded_images(faces, tables):
        with atomic_write(folder / "data" / f"{names[place]}.png") as part:
            part.write_bytes(encode_png(decode(data)))
    labels = {name: _classification(row, classes) for name, row in zip(names, rows, strict=True)}
    write_json(folder / "labels.json", {"classes": classes, "labels": labels})


def face_name(row: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Name of a face's file: hash and number of the label, which identify it when it comes back."""
    return f"{row['pixels']}-{list(classes).index(row['label'])}"


def _classification(row: Mapping[str, Any], classes: list[str]) -> dict[str, Any]:
    facts = ("suggested", "verdict", "score", "split", "path")
    confidence = round(row[f"p_{row['label']}"], 4)
    attributes = {name: row[name] for name in facts}
    return {"label": classes.index(row["label"]), "confidence": confidence, "attributes": attributes}


def write_cleanlab(path: Path, labels: Path) -> None:
    """Writes all audited labels, in the order of the audit, with cleanlab's columns; labels are numbers of classes.

    Raises:
        DataError: the table of the audit is missing or damaged.
    """
    info, table = read_labels(labels)
    likely_N = probabilities(table, info.classes).argmax(axis=1)
    write_rows(path, _cleanlab_rows(table.to_pylist(), likely_N, list(info.classes)))


def _cleanlab_rows(
    rows: Sequence[Mapping[str, Any]], likely_N: np.ndarray, classes: list[str]
) -> Iterator[dict[str, Any]]:
    for row, likely in zip(rows, likely_N.tolist(), strict=True):
        yield {
            "is_label_issue": row["verdict"] == "mislabelled",
            "label_quality": round(1 - row["score"], 6),
            "given_label": classes.index(row["label"]),
            "predicted_label": likely,
            "given_class": row["label"],
            "predicted_class": classes[likely],
            "split": row["split"],
            "row": row["row"],
            "path": harmless(row["path"]),
        }
