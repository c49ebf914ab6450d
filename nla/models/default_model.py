"""The model that answers where none is named: the project's own, or else the one that comes with the package."""

from __future__ import annotations

import sys
from pathlib import Path

from nla.errors import WeightsError
from nla.models.saved_model import WEIGHTS
from nla.text import printable

OWN = Path("models")
"""Folder of the model of a project's last run, relative to its root."""
SHIPPED = Path(__file__).parents[1] / "pretrained"
"""Folder of the package's own model: weights, card, and README.md for readers. `make pretrained` writes it."""


def chosen_model(path: Path | str | None = None) -> Path:
    """`path`; without one OWN where it holds a model, or else SHIPPED, with a line on standard error that says so.

    A model of which a file is missing is chosen all the same: its owner must hear of it.

    Raises:
        WeightsError: no path is given, and there is neither of the two.
    """
    if path is not None:
        return Path(path)
    if has_model(OWN):
        return OWN
    if not has_model(SHIPPED):
        raise WeightsError(
            f"{OWN}: no model is here, and none comes with this installation. Train one (`make repro`), or name one, "
            "as with --model FOLDER."
        )
    line = f"{OWN}/ has no model, so the one that comes with NLA answers: {SHIPPED / 'README.md'}"
    print(printable(line), file=sys.stderr)  # nla.console needs rich, which a served model does without
    return SHIPPED


def has_model(folder: Path) -> bool:
    """Whether one of the two files of a model is in the folder."""
    weights = folder / WEIGHTS
    return weights.exists() or weights.with_suffix(".json").exists()
