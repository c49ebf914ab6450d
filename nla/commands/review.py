"""`nla review`: an audit of labels in the formats of Label Studio, FiftyOne and cleanlab, and what comes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nla.audit.exports import write_cleanlab, write_fiftyone, write_label_studio
from nla.audit.faces import MOST, faces_to_review
from nla.audit.reviewed import read_review
from nla.audit.table import read_labels
from nla.commands.parser import Parser, positive
from nla.console import say
from nla.data.corrections import Correction, read_corrections, write_corrections
from nla.data.schema import SPLITS
from nla.errors import CommandError

FORMATS = ("label-studio", "fiftyone", "cleanlab")
LABELS = Path("reports/audit/labels.parquet")


def main(argv: Sequence[str]) -> None:
    """Writes an audit for another program, or reads its review.

    Raises:
        DataError: a file is missing or damaged, or a review does not fit the audit.
        CommandError: the file to write has corrections that would be lost.
    """
    options = _parser().parse_args(argv)
    if options.what == "export":
        _export(options.format, options.out, options.labels, options.data, options.most)
    else:
        _import(options.file, options.out, options.labels)


def _export(form: str, out: Path, labels: Path, data: Path, most: int) -> None:
    if form == "cleanlab":
        write_cleanlab(out, labels)
        say(f"{out}: all audited labels")
        return
    faces, tables = faces_to_review(labels, most), {split: data / f"{split}.parquet" for split in SPLITS}
    write = write_label_studio if form == "label-studio" else write_fiftyone
    write(out, faces, tables)
    say(f"{out}: {faces.table.num_rows:,} of {faces.audited:,} audited labels")


def _import(file: Path, out: Path, labels: Path) -> None:
    found = read_review(file, labels)
    info, _ = read_labels(labels)
    _check_lost(out, found)
    write_corrections(out, found, info.classes)
    counts = Counter(correction.action for correction in found)
    words = ", ".join(f"{n:,} {action}" for action, n in counts.items())
    say(f"{out}: {len(found):,} lines{f' ({words})' if words else ''}")


def _check_lost(out: Path, found: Sequence[Correction]) -> None:
    """Raises CommandError if the file to write has corrections that the review does not repeat."""
    if not out.exists():
        return
    present = read_corrections(out)
    named = {(line.image, line.old) for line in found}
    lost = sum((line.image, line.old) not in named for line in present.lines) + len(present.problems)
    if lost:
        raise CommandError(
            f"--out: {out} has {lost:,} lines that would be lost. Name another file, and join the two by hand."
        )


def _parser() -> Parser:
    parser = Parser("nla review", description="An audit of labels for other programs, and their corrections.")
    what = parser.add_subparsers(dest="what", required=True)
    out = what.add_parser("export", help="write the audit for another program")
    out.add_argument("format", choices=FORMATS)
    out.add_argument("out", type=Path, metavar="OUT", help="a folder; for cleanlab, a CSV file")
    out.add_argument("--data", type=Path, default="data", help="the folder of the tables of `prepare` (%(default)s)")
    out.add_argument("--most", type=positive, default=MOST, help="the most faces, the most suspect first (%(default)s)")
    back = what.add_parser("import", help="write what was reviewed in Label Studio or FiftyOne as corrections")
    back.add_argument("file", type=Path, metavar="FILE", help="JSON that was exported there")
    back.add_argument("--out", type=Path, default="data/corrections.csv", help="the file to write (%(default)s)")
    for each in (out, back):
        each.add_argument("--labels", type=Path, default=LABELS, help="the table of the audit (%(default)s)")
    return parser
