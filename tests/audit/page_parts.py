"""Drawn faces with noisy labels, prepared, and an audit of them by what is known of each face instead of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.audit.faces import MOST, faces_to_review
from nla.audit.page import write_page
from nla.audit.table import AuditInfo, labels_schema, write_labels
from nla.audit.thumbnails import thumbnails
from nla.config.data import DataConfig
from nla.data.ingest import ingest
from nla.data.prepare import prepare
from nla.data.schema import read_info
from nla.data.sources import open_source

EPOCHS = 6


@dataclass(frozen=True)
class Audited:
    """A folder with faces.parquet, the tables of `prepare` and labels.parquet."""

    root: Path
    config: DataConfig
    classes: tuple[str, ...]

    @property
    def labels(self) -> Path:
        return self.root / "labels.parquet"

    @property
    def tables(self) -> Mapping[str, Path]:
        return {split: self.root / f"{split}.parquet" for split in ("train", "valid")}

    def samples(self, split: str) -> dict[int, dict[str, Any]]:
        """Rows of a table of `prepare`, by their row in the faces."""
        return {row["row"]: row for row in pq.read_table(self.root / f"{split}.parquet").to_pylist()}


def audited(root: Path, train: int = 300, **config: Any) -> Audited:
    """Faces of the synthetic source with 20 % symmetric noise in train."""
    settings = {"synthetic": {"train": train, "valid": 104, "test": 104}, "noise": {"rate": 0.2}} | config
    data = DataConfig.model_validate(settings)
    ingest(open_source(data, root), root / "faces.parquet", on_bad="error")
    prepare(root / "faces.parquet", root, data)
    classes = read_info(root / "train.parquet").classes
    made = Audited(root, data, classes)
    rows = [row | {"split": split} for split in ("train", "valid") for row in made.samples(split).values()]
    hashes = pq.read_table(root / "faces.parquet", columns=["pixels"])["pixels"].to_pylist()
    write_labels(made.labels, labels_table(rows, hashes, classes), info_of(classes))
    return made


def write_page_of(
    path: Path, labels: Path, tables: Mapping[str, Path], *, with_images: bool = True, most: int = MOST
) -> int:
    """A page as the stage writes it; the number of its faces."""
    faces = faces_to_review(labels, most)
    write_page(path, faces, thumbnails(faces, tables) if with_images else ())
    return faces.table.num_rows


def info_of(classes: tuple[str, ...], fingerprint: str = "0123456789abcdef") -> AuditInfo:
    return AuditInfo(source="synthetic", classes=classes, folds=3, epochs=EPOCHS, fingerprint=fingerprint, data={})


def labels_table(rows: list[dict[str, Any]], hashes: list[bytes], classes: tuple[str, ...]) -> pa.Table:
    """An audit whose probabilities are softened votes, which know nothing of the noise."""
    rng = np.random.default_rng(0)
    audit = [_audit(row, hashes[row["row"]], classes, rng) for row in rows]
    for name in ("sharpness", "brightness"):
        order = np.argsort([row[name] for row in audit], kind="stable")
        for rank, place in enumerate(order.tolist()):
            audit[place][f"{name}_rank"] = rank
    return pa.Table.from_pylist(audit, labels_schema(classes))


def _audit(row: dict[str, Any], digest: bytes, classes: tuple[str, ...], rng: np.random.Generator) -> dict[str, Any]:
    truth = np.zeros(len(classes))
    truth[row["clean_label"]] = 1.0
    truth = np.array(row["posterior"]) if row["posterior"] else truth
    p = 0.8 * truth + 0.2 * rng.dirichlet(np.ones(len(classes)))
    p /= p.sum()
    label, best = row["label"], int(p.argmax())
    second = np.sort(p)[-2]
    is_ambiguous = p[best] - second < 0.25
    verdict = "ambiguous" if is_ambiguous else "clean" if best == label else "mislabelled"
    nearest = np.delete(p, label).max()
    steps = np.linspace(0.15, 1.0, EPOCHS)
    flat = 1 / len(classes)
    found: dict[str, Any] = {f"p_{name}": float(p[c]) for c, name in enumerate(classes)}
    if is_ambiguous:
        q = np.where(p > 0.1, p, 0.0)
        found |= {f"q_{name}": float(share) for name, share in zip(classes, q / q.sum(), strict=True)}
    return found | {
        "split": row["split"],
        "row": row["row"],
        "path": row["image"]["path"],
        "pixels": digest.hex(),
        "fold": 0 if row["split"] == "train" else None,
        "label": classes[label],
        "score": float(1 - p[label]),
        "self_confidence": float(p[label]),
        "margin": float(p[label] - nearest),
        "area_under_margin": float(p[label] - nearest),
        "running_self_confidence": float(p[label]),
        "naw_weight": 0.5,
        "ambiguity": float(-(p * np.log(np.maximum(p, 1e-9))).sum() / np.log(len(classes))),
        "verdict": verdict,
        "suggested": classes[best],
        "path_p_label": [float(flat + s * (p[label] - flat)) for s in steps],
        "path_p_nearest": [float(flat + s * (nearest - flat)) for s in steps],
        "duplicates": 0,
        "sharpness": float(rng.uniform(10, 500)),
        "brightness": float(rng.uniform(0.2, 0.8)),
    }
