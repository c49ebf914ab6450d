"""A tree of images as a Hugging Face data set, with the bytes in an Arrow table, as in NLA.

    python benchmarks/hugging_face.py TREE CACHE    seconds, printed

`load_dataset` alone keeps one path per row, and opens the files again in every epoch.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any


def embedded(tree: Path, cache: Path) -> dict[str, Any]:
    """The splits, each with the bytes of its files; nothing is decoded."""
    import datasets
    from datasets.table import embed_table_storage

    datasets.disable_progress_bars()
    splits = datasets.load_dataset("imagefolder", data_dir=str(tree), cache_dir=str(cache))
    return splits.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    import datasets  # noqa: F401  its import is not timed

    started = time.perf_counter()
    embedded(Path(sys.argv[1]), Path(sys.argv[2]))
    print(time.perf_counter() - started)
