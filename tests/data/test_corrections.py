"""The file of corrections: whatever a person or a spreadsheet saves is read, or refused with line and reason."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nla.data.corrections import Correction, harmless, image_name, read_corrections, write_corrections
from nla.errors import DataError

CLASSES = ("anger", "fear; awe", 'the "x", y')
A, B = bytes(range(16)), bytes(range(16, 32))
LINE = f"{image_name(A)},anger,relabel,fear,,,a.png"
HEADER = "image,old,action,new,p_anger,p_fear,path"


def read(folder: Path, text: str | bytes) -> list[str]:
    """The problems of a file."""
    path = folder / "c.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [str(problem) for problem in read_corrections(path).problems]


NAMES = st.sampled_from(CLASSES)


@st.composite
def corrections(draw: st.DrawFn) -> Correction:
    action = draw(st.sampled_from(["relabel", "distribution", "drop", "keep"]))
    image, old = draw(st.binary(min_size=16, max_size=16)), draw(NAMES)
    path = draw(st.sampled_from(["a.png", "=1+1", "b,c.png", "ä\n.png", 'q".png']))
    if action == "relabel":
        return Correction(image, old, action, draw(NAMES.filter(lambda name: name != old)), path=path)
    if action == "distribution":
        part = draw(st.integers(min_value=1, max_value=9999))
        shares = {CLASSES[0]: part / 10_000, CLASSES[2]: 1 - part / 10_000}
        return Correction(image, old, action, max(shares, key=lambda name: shares[name]), shares, path=path)
    return Correction(image, old, action, path=path)  # type: ignore[arg-type]


@given(st.lists(corrections(), max_size=6, unique_by=lambda one: (one.image, one.old)))
def test_what_is_written_is_read(written: list[Correction]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "c.csv"
        write_corrections(path, written, CLASSES)
        found = read_corrections(path)
        assert found.problems == () and len(found.lines) == len(written)
        assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        for before, after in zip(written, found.lines, strict=True):
            assert (after.image, after.old, after.action, after.new) == (
                before.image,
                before.old,
                before.action,
                before.new,
            )
            assert after.shares == pytest.approx(dict(before.shares), abs=1e-4)
            assert after.path == harmless(before.path) and not after.path.startswith("=")


PLAIN = f"{HEADER}\n{LINE}\n{image_name(B)},fear,distribution,fear,0.4,0.6,b.png\n"
QUOTED = "\n".join(",".join(f'"{cell}"' for cell in line.split(",")) for line in PLAIN.splitlines())
SAVED = {
    "plain": PLAIN,
    "BOM and CRLF": "\ufeff" + PLAIN.replace("\n", "\r\n"),
    "semicolons and decimal commas": PLAIN.replace(",", ";").replace("0.", "0,"),
    "empty cells and lines at the end": PLAIN.replace("\n", ",,\n") + "\n,,,,,,,,\n",
    "tabs": PLAIN.replace(",", "\t"),
    "quotes": QUOTED,
    "other case": PLAIN.replace("distribution", "Distribution").replace(B.hex(), B.hex().upper()),
    "no label of a distribution": PLAIN.replace("distribution,fear", "distribution,"),
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED.keys())
def test_spreadsheets_save_it_in_many_ways(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.csv").write_bytes(content.encode())
    found = read_corrections(tmp_path / "c.csv")
    assert found.problems == ()
    first, second = found.lines
    assert (first.image, first.old, first.action, first.new, first.line) == (A, "anger", "relabel", "fear", 2)
    assert (second.image, second.old, second.action, second.new) == (B, "fear", "distribution", "fear")
    assert second.shares == pytest.approx({"anger": 0.4, "fear": 0.6})


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("000102,anger,drop,,,,", r"image: must be blake2b: and 32 hexadecimal digits (got '000102')"),
        (f"{A.hex()},anger,drop,,,,", f"image: must be blake2b: and 32 hexadecimal digits (got '{A.hex()}')"),
        (f"blake2b:{'g' * 32},anger,drop,,,,", "image: must be blake2b:"),
        (f"{image_name(B)},anger,relable,fear,,,", "action: unknown 'relable': did you mean 'relabel'?"),
        (f"{image_name(B)},,drop,,,,", "old: empty. Write the label that the image has"),
        (f"{image_name(B)},anger,relabel,,,,", "new: empty. Write the label that the image shall have"),
        (f"{image_name(B)},anger,relabel,anger,,,", "new: the same as old (got anger). Write action keep"),
        (f"{image_name(B)},anger,keep,fear,,,", "new: must be empty for action keep (got fear)"),
        (f"{image_name(B)},anger,drop,fear,,,", "new: must be empty for action drop (got fear)"),
        (f"{image_name(B)},anger,relabel,fear,0.5,0.5,", "only action distribution has shares (got relabel)"),
        (f"{image_name(B)},anger,distribution,,0.5,0.3,", "the shares must sum to 1, within 0.01 (got 0.8)"),
        (f"{image_name(B)},anger,distribution,,,,", "the shares must sum to 1, within 0.01 (got 0)"),
        (f"{image_name(B)},anger,distribution,,1.5,-.5,", "p_anger: must be a number from 0 to 1 (got '1.5')"),
        (f"{image_name(B)},anger,distribution,,nan,1,", "p_anger: must be a number from 0 to 1 (got 'nan')"),
        (f"{image_name(B)},anger,distribution,fear,.6,.4,", "new: must be the class with the largest share, anger"),
        (f"{image_name(B)},anger,drop", "3 instead of 7 values"),
        (f"{image_name(B)},anger,drop,,,,,x", "8 instead of 7 values"),
        (LINE, "the same image and label as in line 2. Keep one of the two lines"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, what: str) -> None:
    (problem,) = read(tmp_path, f"{HEADER}\n{LINE}\n{line}\n")
    assert problem.startswith(f"c.csv, line 3: {what}")


def test_all_bad_lines_are_named_at_once(tmp_path: Path) -> None:
    lines = [HEADER, "x,anger,drop,,,,", LINE, "y,anger,drop,,,,", "", f"{image_name(B)},a,b,c,,,"]
    assert [problem.split(":")[0] for problem in read(tmp_path, "\n".join(lines))] == [
        "c.csv, line 2",
        "c.csv, line 4",
        "c.csv, line 6",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: no column image; no column old; no column action; no column new"),
        (b"image,old,action\n", "line 1: no column new. See docs/audit.md"),
        (
            b"image,old,action,new,q_anger\n",
            "unknown column 'q_anger' (known are image, old, action, new, path and p_CLASS)",
        ),
        (b"image,old,action,new,Path\n", "unknown column 'Path' (known"),
        (b"image,old,action,new,new\n", "two columns new"),
        (b"image,old,action,new,,path\n", "unknown column ''"),
        (f"{HEADER}\n{LINE}\n".encode("utf-16"), "not CSV in UTF-8"),
        ("image,old,action,new\nä".encode("latin-1"), "not CSV in UTF-8"),
        (b'image,old,action,new\n"a', "after line 2: not CSV in UTF-8"),
        (b"image,old,action,new," + b",".join(b"p_%d" % i for i in range(1000)) + b"\n", "1,004 columns"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read(tmp_path, content)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: file not found\. Name a file .* data\.corrections"):
        read_corrections(tmp_path / "none.csv")


def test_the_committed_file_corrects_nothing() -> None:
    found = read_corrections(Path(__file__).parents[2] / "data/corrections.csv")
    assert found.lines == found.problems == ()


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"{HEADER}\n{text}".encode()))
def test_whatever_it_holds_is_read_or_refused(content: bytes) -> None:
    with TemporaryDirectory() as folder, contextlib.suppress(DataError):
        assert all(problem.startswith("c.csv, line ") for problem in read(Path(folder), content))
