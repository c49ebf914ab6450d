"""The page on which a person reviews audited labels: one file of HTML that works without a server and a network.

Faces, probabilities and small images are inside, as JSON and base64. Decisions stay in the browser, under the
fingerprint of the audit, and leave it as a file of corrections (nla/data/corrections.py).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from nla.audit.faces import Faces
from nla.audit.table import probabilities
from nla.io import atomic_write

SCRIPTS = ("review.js", "page.js")
DIGITS = 4  # of a probability


def write_page(path: Path, faces: Faces, images: Iterable[tuple[int, bytes, int]] = ()) -> None:
    """Writes the page of an audit.

    Args:
        path: file to write.
        faces: the faces on it.
        images: position of each face, a JPEG of it, and the side of that in pixels; without any, the page has only
            paths, labels and probabilities.
    """
    records, side = _records(faces), 0
    for place, jpeg, pixels in images:
        records[place]["jpeg"], side = base64.b64encode(jpeg).decode(), pixels
    content = {
        "source": faces.info.source,
        "classes": faces.info.classes,
        "fingerprint": faces.info.fingerprint,
        "total": faces.audited,
        "thumbnails": side,
        "faces": records,
    }
    with atomic_write(path) as part:
        part.write_text(_document(content, f"Labels of {faces.info.source}"), encoding="utf-8")


def _records(faces: Faces) -> list[dict[str, Any]]:
    """JSON-serializable faces, without images."""
    classes = list(faces.info.classes)
    p_NC, q_NC = (probabilities(faces.table, classes, prefix).astype(np.float64).round(DIGITS) for prefix in ("p", "q"))
    return [
        _record(row, p.tolist(), None if np.isnan(q).any() else q.tolist(), classes, copies)
        for row, p, q, copies in zip(faces.table.to_pylist(), p_NC, q_NC, faces.copies_N, strict=True)
    ]


def _record(
    row: Mapping[str, Any], p: list[float], q: list[float] | None, classes: list[str], copies: int
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
        "copies": copies,
        "duplicates": row["duplicates"],
        "p": p,
        "q": q,
        "place": [p[label], nearest],
        "trail": trail,
    }


def _rounded(value: float) -> float:
    return round(value, DIGITS)


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
