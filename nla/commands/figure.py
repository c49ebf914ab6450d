"""`nla figure`: draws a figure for a paper from a table of predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from nla.commands.compare import FOLDER, PREFIX, read_predictions
from nla.commands.figure_file import SUFFIXES, add_title, check_format, save_figure
from nla.commands.parser import Parser
from nla.config.evaluate import EvaluateConfig
from nla.errors import CommandError, DataError
from nla.evaluation import plots
from nla.evaluation.calibration import reliability
from nla.evaluation.confusion import confusion
from nla.evaluation.metrics import per_class
from nla.io import regular

PREDICTIONS = Path(FOLDER, "test.parquet")


def main(argv: Sequence[str]) -> None:
    """Draws the requested figure."""
    options = _parser().parse_args(argv)
    check_format(options.out)
    figure = FIGURES[options.figure](*_read(options.predictions), options.predictions.stem)
    save_figure(figure, options.out, options.title)


def _confusion(p_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str], split: str) -> Figure:
    return plots.confusion_matrix(confusion(label_N, p_NC.argmax(1), len(classes)), classes, split)


def _recall(p_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str], split: str) -> Figure:
    return plots.recall_bars(per_class(confusion(label_N, p_NC.argmax(1), len(classes)), classes), split)


def _reliability(p_NC: np.ndarray, label_N: np.ndarray, classes: Sequence[str], split: str) -> Figure:
    return plots.reliability_diagram(reliability(p_NC, label_N, EvaluateConfig().bins), split)


FIGURES: dict[str, Callable[[np.ndarray, np.ndarray, Sequence[str], str], Figure]] = {
    "confusion": _confusion,
    "recall": _recall,
    "reliability": _reliability,
}


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """p_NC, label_N and the class names."""
    if not regular(path).is_file():
        raise CommandError(
            f"{path}: file not found. Run `dvc repro`, or name the predictions.parquet of `nla measure`."
        )
    table = read_predictions(str(path), path.stem)
    classes = [name.removeprefix(PREFIX) for name in table.column_names if name.startswith(PREFIX)]
    if unknown := sorted({*table["label"].to_pylist()} - {*classes}) or ["CLASS"] * (not classes):
        raise DataError(f"{path}: no column {PREFIX}{unknown[0]}. Name a table of {FOLDER}/.")
    p_NC = np.stack([table[f"{PREFIX}{name}"].to_numpy() for name in classes], axis=1)
    number = {name: c for c, name in enumerate(classes)}
    return p_NC, np.array([number[name] for name in table["label"].to_pylist()]), classes


def _parser() -> Parser:
    parser = Parser("nla figure", description="A figure for a paper, from a table of predictions.")
    parser.add_argument("figure", choices=FIGURES)
    parser.add_argument("out", type=Path, metavar="OUT", help=f"a file that ends in {SUFFIXES}")
    parser.add_argument("--predictions", type=Path, default=PREDICTIONS, metavar="PARQUET", help="(%(default)s)")
    add_title(parser)
    return parser
