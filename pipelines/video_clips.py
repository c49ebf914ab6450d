"""Stage `clips` of video/: videos of faces, or drawn ones -> data/frames.parquet, every frame with its label."""

from __future__ import annotations

from pathlib import Path

from nla.config.base import read_params, section
from nla.config.clips import ClipsConfig
from nla.console import bar, say
from nla.data.ingest import ingest
from nla.io import write_json
from nla.video.frames import FRAMES
from nla.video.sources import open_source
from nla.workflow.stage import log_file, run_stage

REPORT = Path("reports/clips.json")


def main() -> None:
    """Reads the source of params.yaml."""
    config = section(ClipsConfig, read_params())
    source = open_source(config, Path(config.raw) / config.source)
    listing = log_file().with_name("clips-problems.txt")
    with bar(f"clips {config.source}", "frames") as progress:
        report = ingest(
            source,
            Path("data/frames.parquet"),
            on_bad=config.on_bad,
            schema=FRAMES,
            listing=listing,
            progress=progress,
            unit="frames or files",
            key="clips.on_bad",
        )
    write_json(REPORT, report)
    for line in (*report["warnings"], *report["notes"]):
        say(line)
    if problems := report["problems"]:
        say(f"{len(problems):,} frames or files left out, see {REPORT}")


if __name__ == "__main__":
    run_stage(main)
