"""The files of an audit: FOLDER/labels.parquet, summary.json and figures/; nla.audit.page writes index.html beside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nla.audit.table import AuditInfo, write_labels
from nla.io import write_json

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

LABELS, SUMMARY, FIGURES, PAGE = "labels.parquet", "summary.json", "figures", "index.html"
NAMES = ("verdicts", "wrong_labels")
"""Of the figures."""


def write_outputs(
    folder: Path, table: pa.Table, info: AuditInfo, report: Mapping[str, Any], figures: Mapping[str, Figure]
) -> None:
    """Writes the table, the summary and the figures; those of an audit before are removed first, and nothing else."""
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / FIGURES / f"{name}.png").unlink(missing_ok=True)
    if figures:
        from nla.plotting import write_figure  # slow to import, and not needed without folds

        for name, figure in figures.items():
            write_figure(figure, folder / FIGURES / f"{name}.png")
    write_labels(folder / LABELS, table, info)
    write_json(folder / SUMMARY, report)
