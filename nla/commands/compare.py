"""`nla compare`: compares two experiments or revisions on the same images, paired by image.

`read_predictions` gets the predictions on a split from a file, or from a revision of this project.

Legend: N images that both have, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nla.commands.parser import Parser
from nla.config.evaluate import EvaluateConfig
from nla.console import say
from nla.errors import DataError
from nla.evaluation.confusion import accuracy, confusion, mean_accuracy, recall, support
from nla.evaluation.significance import mcnemar, paired_difference
from nla.io import read_columns, regular

FOLDER = "reports/predictions"
KEYS = ["row", "path"]
COLUMNS = [*KEYS, "label", "predicted"]
SCHEMA = pa.schema([(name, pa.int64() if name == "row" else pa.string()) for name in COLUMNS])
PREFIX = "p_"
"""Prefix of the probability columns, before the name of the class."""


def read_predictions(name: str, split: str) -> pa.Table:
    """Reads the Parquet file `name`, or that of `split` at the revision or experiment `name`.

    The result has COLUMNS, and those columns p_CLASS that the file has.

    Raises:
        DataError: it is missing, or not a table of predictions.
    """
    path, remedy = Path(name), f"Name a table of {FOLDER}/."
    if regular(path).is_file():
        content = path.read_bytes()
    elif path.suffix == ".parquet":
        raise DataError(f"{name}: file not found. `dvc repro` writes {FOLDER}/{split}.parquet.")
    else:
        content = _at_revision(name, f"{FOLDER}/{split}.parquet")
    table = read_columns(pa.BufferReader(content), SCHEMA, name, remedy, nullable=("path",))
    names = [column for column in pq.read_schema(pa.BufferReader(content)).names if column.startswith(PREFIX)]
    p = read_columns(pa.BufferReader(content), pa.schema([(column, pa.float32()) for column in names]), name, remedy)
    for column in names:
        table = table.append_column(column, p[column])
    return table


def _at_revision(name: str, path: str) -> bytes:
    """The content of `path` at that revision, from DVC's cache or a remote."""
    import dvc.api  # takes a second, and files do not need it
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import RevError, SCMError

    try:
        content: bytes = dvc.api.read(path, rev=name, mode="rb")
        return content
    except RevError:
        raise DataError(
            f"{name}: neither a file nor a revision. `dvc exp show` and `git log` list the revisions."
        ) from None
    except (NotDvcRepoError, SCMError):
        raise DataError(f"{name}: not a file, and not in a DVC project. Name a file, or run in the project.") from None
    except (DvcException, FileNotFoundError) as error:
        raise DataError(
            f"{name}: {path} is not in DVC's cache ({error}). Run `dvc pull` if a remote has it; else "
            f"`dvc exp apply {name}` or `git checkout {name}`, then `dvc repro`."
        ) from None


def main(argv: Sequence[str]) -> None:
    """Prints accuracy and mean accuracy of both, their difference with its interval, and the recalls.

    Raises:
        DataError: one is missing, or they do not have the same images with the same labels.
    """
    options = _parser().parse_args(argv)
    a, b = (read_predictions(name, options.split).select(COLUMNS) for name in (options.a, options.b))
    both = joined(a, b)
    for name, table in ((options.a, a), (options.b, b)):
        if unpaired := len(table) - len(both):
            say(f"only in {name}, left out: {unpaired:,} images")
    for line in compared(both, options.a, options.b):
        say(line)


def joined(a: pa.Table, b: pa.Table) -> pa.Table:
    """row, path, label, predicted_a and predicted_b of the images that both have, by row and path.

    Raises:
        DataError: there is none, an image occurs twice, or the labels differ.
    """
    for table in (a, b):
        if len(table.group_by(KEYS).aggregate([])) < len(table):
            raise DataError("duplicate images in a table. Write it again with `dvc repro`.")
    both = a.join(b, KEYS, join_type="inner", left_suffix="_a", right_suffix="_b")
    both = both.sort_by([(key, "ascending") for key in KEYS])
    if not len(both):
        raise DataError("no images in common (by row and path). Compare results on the same data.")
    different = np.flatnonzero(_column(both, "label_a") != _column(both, "label_b"))
    if different.size:
        first = both.slice(int(different[0]), 1).to_pylist()[0]
        raise DataError(
            f"the labels of {different.size:,} images differ, such as row {first['row']}, {first['path']}: "
            f"{first['label_a']} and {first['label_b']}. Compare results with the same data.label_rule."
        )
    return both.drop_columns("label_b").rename_columns({"label_a": "label"})


def compared(both: pa.Table, name_a: str, name_b: str) -> Iterator[str]:
    """The comparison, line by line."""
    label_N, a_N, b_N = (_column(both, name) for name in ("label", "predicted_a", "predicted_b"))
    classes = sorted({*label_N, *a_N, *b_N})
    a_CC, b_CC = (_confusion(label_N, predicted_N, classes) for predicted_N in (a_N, b_N))
    width = max(len(name_a), len(name_b))
    yield f"{len(both):,} images"
    for letter, name, counts_CC in zip("AB", (name_a, name_b), (a_CC, b_CC), strict=True):
        both_accuracies = f"accuracy {accuracy(counts_CC):.2%}, mean accuracy {mean_accuracy(counts_CC):.2%}"
        yield f"{letter}  {name:{width}}  {both_accuracies}"
    yield from _difference(a_N == label_N, b_N == label_N, EvaluateConfig())
    yield from _recalls(a_CC, b_CC, classes)


def _difference(right_a_N: np.ndarray, right_b_N: np.ndarray, config: EvaluateConfig) -> Iterator[str]:
    difference, low, high = (100 * x for x in paired_difference(right_b_N, right_a_N, config.bootstrap, config.seed))
    only_a, only_b = int((right_a_N & ~right_b_N).sum()), int((right_b_N & ~right_a_N).sum())
    yield f"B - A: {difference:+.2f} points of accuracy, 95 % CI {low:+.2f} to {high:+.2f}"
    p = mcnemar(only_a, only_b)
    yield f"only A is right on {only_a:,} images, only B on {only_b:,}: McNemar's exact p {p:.3g}"


def _recalls(a_CC: np.ndarray, b_CC: np.ndarray, classes: Sequence[str]) -> Iterator[str]:
    """One line per class that has images."""
    width = max(map(len, classes))
    for name, a, b, n in zip(classes, recall(a_CC), recall(b_CC), support(a_CC), strict=True):
        if n:
            yield f"  {name:{width}}  recall {a:6.1%} -> {b:6.1%}  {100 * (b - a):+6.1f}  n {n:,}"


def _confusion(label_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    number = {name: c for c, name in enumerate(classes)}
    return confusion([number[x] for x in label_N], [number[x] for x in predicted_N], len(classes))


def _column(table: pa.Table, name: str) -> np.ndarray:
    values: np.ndarray = table[name].to_numpy(zero_copy_only=False)
    return values


def _parser() -> Parser:
    parser = Parser("nla compare", description="Two experiments or revisions on the same images.")
    text = f"a git revision, a DVC experiment, or a table of {FOLDER}/"
    parser.add_argument("a", metavar="A", help=text)
    parser.add_argument("b", metavar="B", help="what is compared with it")
    parser.add_argument("--split", choices=["valid", "test"], default="test", help="of revisions (%(default)s)")
    return parser
