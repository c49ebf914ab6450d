"""Writes Parquet tables atomically."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nla.files.whole import whole


def write_table(path: Path, table: pa.Table) -> None:
    """Writes `table`, compressed with Zstandard."""
    with whole(path) as part:
        pq.write_table(table, part, compression="zstd")
