"""Stage `prepare` of video/: data/frames.parquet -> labels of all frames with noise, and images for the frame model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nla.config.base import read_params, section
from nla.config.clips import ClipsConfig
from nla.console import bar, say
from nla.io import write_json
from nla.video.prepare import prepare_clips
from nla.workflow.stage import run_stage


def main() -> None:
    """Prepares the frames as params.yaml specifies."""
    config = section(ClipsConfig, read_params())
    with bar("prepare", "frames") as progress:
        report = prepare_clips(Path("data/frames.parquet"), Path("data"), config, progress)
    write_json(Path("reports/prepare.json"), report)
    for line in summary(report):
        say(line)


def summary(report: Mapping[str, Any]) -> Iterator[str]:
    """Two lines on splits and noise for the console."""
    splits = [
        f"{split} {counts['videos']:,} videos, {counts['frames']:,} frames ({counts['annotated']:,} annotated, "
        f"{report['images'][split]:,} for the frame model)"
        for split, counts in report["splits"].items()
    ]
    yield "; ".join(splits)
    noise = report["noise"]
    flipped = f"{noise['flipped']:,} frames ({noise['measured_rate']:.2%}), {noise['kind']}, per {noise['law']}"
    yield f"synthetic label noise in train: {flipped if noise['flipped'] else 'none'}; validation and test are clean"


if __name__ == "__main__":
    run_stage(main)
