"""Reads a model's predictions on a split from a file, or from a revision of this project."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nla.errors import DataError

FOLDER = "reports/predictions"
KEYS = ["row", "path"]
COLUMNS = [*KEYS, "label", "predicted"]


def read_listing(name: str, split: str) -> pa.Table:
    """Reads the Parquet file `name`, or that of `split` at the revision or experiment `name`; it has at least COLUMNS.

    Raises:
        DataError: it is missing, or not a table of predictions.
    """
    path = Path(name)
    if path.is_file():
        content: Path | pa.BufferReader = path
    elif path.suffix == ".parquet":
        raise DataError(f"{name} is missing: `dvc repro` writes {FOLDER}/{split}.parquet")
    else:
        content = pa.BufferReader(_at_revision(name, f"{FOLDER}/{split}.parquet"))
    try:
        table = pq.read_table(content)
    except pa.ArrowInvalid as error:
        raise DataError(f"{name} is no Parquet file ({error}): give one of {FOLDER}/") from None
    if lacking := [column for column in COLUMNS if column not in table.column_names]:
        raise DataError(f"{name} has no column {', '.join(lacking)}: give one of {FOLDER}/")
    return table


def _at_revision(name: str, path: str) -> bytes:
    """The content of `path` at that revision, from DVC's cache or a remote."""
    import dvc.api  # takes a second, and files do not need it
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.scm import RevError, SCMError

    try:
        return dvc.api.read(path, rev=name, mode="rb")
    except RevError:
        raise DataError(
            f"{name} is neither a file nor a revision: `dvc exp show` and `git log` list what there is"
        ) from None
    except (NotDvcRepoError, SCMError):
        raise DataError(f"{name} is no file, and here is no DVC project: give a file, or run in the project") from None
    except (DvcException, FileNotFoundError) as error:
        raise DataError(
            f"{name} has no {path} at hand ({error}): `dvc pull` gets it where a remote has it; else "
            f"`dvc exp apply {name}` or `git checkout {name}`, then `dvc repro`, makes it"
        ) from None
