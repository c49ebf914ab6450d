"""The page on which a person reviews audited labels: one file of HTML that works without a server and a network.

Faces, probabilities and small images are inside, as JSON and base64. Decisions stay in the browser, under the
fingerprint of the audit, and leave it as a file of corrections (nla/data/corrections.py).

A face of the page is an image with a label, which is what a correction is about: identical images with one label are
one face.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nla.audit.table import AuditInfo, probabilities, read_labels
from nla.data.images import decode, encode_jpeg, fit
from nla.errors import DataError
from nla.io import atomic_write, read_batches

FACES = 2000
"""Faces of a page. A person reviews some hundred in an hour, and the file stays at a few megabytes."""
SIDE = 96
"""Largest side of a small image, in pixels."""
QUALITY = 90
ROWS = 1024  # of a table of samples, read at a time
ORDER = {"mislabelled": 0, "ambiguous": 0, "clean": 1}
"""Which verdicts come first where not all faces have room."""
SCRIPTS = ("review.js", "page.js")
DIGITS = 4  # of a probability


def write_page(
    path: Path, labels: Path, tables: Mapping[str, Path], *, thumbnails: bool = True, most: int = FACES
) -> int:
    """Writes the page of an audit.

    Args:
        path: file to write.
        labels: table of the audit.
        tables: split -> table of `prepare` with its images, for each split in the audit.
        thumbnails: whether faces are embedded; otherwise the page shows only paths, labels and probabilities.
        most: at most so many faces, those first whose label is not clean, and of these the most suspect.

    Returns:
        Number of faces on the page.

    Raises:
        DataError: a table is missing or damaged, or an image of the audit is in none.
    """
    info, audited = read_labels(labels)
    copies, rows = _distinct(audited)
    chosen = rows.take(_by_priority(audited.take(rows)))[:most]
    faces = _faces(audited.take(chosen), info, copies)
    side = 0
    if thumbnails:
        side = _add_images(faces, tables)
    content = {
        "source": info.source,
        "classes": info.classes,
        "fingerprint": info.fingerprint,
        "total": audited.num_rows,
        "thumbnails": side,
        "faces": faces,
    }
    with atomic_write(path) as part:
        part.write_text(_document(content, f"Labels of {info.source}"), encoding="utf-8")
    return len(faces)


def _distinct(audited: pa.Table) -> tuple[dict[str, int], pa.Array]:
    """How often there is each image with its label, and the most suspect row of each."""
    keys = [_key(*pair) for pair in zip(*(audited[name].to_pylist() for name in ("pixels", "label")), strict=True)]
    score_N = audited["score"].to_numpy()
    copies: dict[str, int] = {}
    first: dict[str, int] = {}
    for row in np.argsort(-score_N, kind="stable").tolist():
        copies[keys[row]] = copies.get(keys[row], 0) + 1
        first.setdefault(keys[row], row)
    return copies, pa.array(sorted(first.values()), pa.int64())


def _key(pixels: str, label: str) -> str:
    return f"{pixels} {label}"


def _by_priority(audited: pa.Table) -> pa.Array:
    rank = pa.array([ORDER[verdict] for verdict in audited["verdict"].to_pylist()], pa.int8())
    ranked = audited.select(["score"]).append_column("rank", rank)
    return pc.sort_indices(ranked, sort_keys=[("rank", "ascending"), ("score", "descending")])


def _faces(audited: pa.Table, info: AuditInfo, copies: Mapping[str, int]) -> list[dict[str, Any]]:
    """JSON-serializable faces, without images."""
    classes = list(info.classes)
    p_NC, q_NC = (probabilities(audited, classes, prefix).astype(np.float64).round(DIGITS) for prefix in ("p", "q"))
    return [
        _face(row, p.tolist(), None if np.isnan(q).any() else q.tolist(), classes, copies)
        for row, p, q in zip(audited.to_pylist(), p_NC, q_NC, strict=True)
    ]


def _face(
    row: Mapping[str, Any], p: list[float], q: list[float] | None, classes: list[str], copies: Mapping[str, int]
) -> dict[str, Any]:
    label = classes.index(row["label"])
    nearest = max(share for c, share in enumerate(p) if c != label) if len(p) > 1 else 0.0
    trail = [list(map(_rounded, pair)) for pair in zip(row["path_p_label"], row["path_p_nearest"], strict=True)]
    return {
        "id": f"{row['pixels']}-{label}",
        "image": row["pixels"],
        "split": row["split"],
        "row": row["row"],
        "path": row["path"],
        "label": label,
        "suggested": classes.index(row["suggested"]),
        "verdict": row["verdict"],
        "score": _rounded(row["score"]),
        "ambiguity": _rounded(row["ambiguity"]),
        "sharpness": row["sharpness_rank"],
        "brightness": row["brightness_rank"],
        "copies": copies[_key(row["pixels"], row["label"])],
        "duplicates": row["duplicates"],
        "p": p,
        "q": q,
        "place": [p[label], nearest],
        "trail": trail,
    }


def _rounded(value: float) -> float:
    return round(value, DIGITS)


def _add_images(faces: list[dict[str, Any]], tables: Mapping[str, Path]) -> int:
    """Adds `jpeg` to each face, and returns the side of the images in pixels."""
    side = 0
    for split in dict.fromkeys(face["split"] for face in faces):
        wanted = {face["row"]: face for face in faces if face["split"] == split}
        for batch in read_batches(tables[split], ["row", "image"], ROWS, "Run `dvc repro -f prepare`."):
            for place, row in enumerate(batch["row"].to_pylist()):
                if row in wanted:
                    pixels = decode(batch["image"][place].as_py()["bytes"])
                    small, side = _thumbnail(pixels), min(len(pixels), SIDE)
                    wanted.pop(row)["jpeg"] = base64.b64encode(small).decode()
        if wanted:
            raise DataError(f"{tables[split]}: no row {min(wanted)}, which was audited. Run `dvc repro`.")
    return side


def _thumbnail(pixels: np.ndarray) -> bytes:
    """A JPEG of at most SIDE x SIDE pixels; images of `prepare` are square."""
    return encode_jpeg(fit(pixels, min(len(pixels), SIDE), "grey" if pixels.ndim == 2 else "rgb"), QUALITY)


def _document(content: Mapping[str, Any], title: str) -> str:
    """The page, which permits its own script and style alone, and no address but data."""
    folder = files("nla.audit") / "static"
    style = (folder / "page.css").read_text(encoding="utf-8")
    script = "\n".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    policy = (
        f"default-src 'none'; img-src data:; style-src {_permitted(style)}; script-src {_permitted(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    template = Template((folder / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        policy=policy, title=html.escape(title), style=style, script=script, data=embedded_json(content)
    )


def _permitted(text: str) -> str:
    """The source expression for exactly this text (Content Security Policy, level 2)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def embedded_json(content: Any) -> str:
    """JSON that cannot end the element of HTML in which it is, whatever names and paths hold."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", text)
