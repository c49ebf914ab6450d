"""The page in a real browser, by keys and by mouse, and what `prepare` makes of the file that it exports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from browser import CHROMIUM, Page, browser
from page_parts import Audited, audited, write_page_of
from test_page import EVIL, evil_page

from nla.data.corrections import Correction, read_corrections
from nla.data.prepare import prepare

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    made = audited(tmp_path_factory.mktemp("audited"))
    write_page_of(made.root / "index.html", made.labels, made.tables)
    return made


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page
        assert not [event for event in page.events if event["method"] == "Runtime.exceptionThrown"]


@pytest.fixture
def page(chromium: Page, made: Audited) -> Page:
    """The page as it is opened for the first time."""
    chromium.resize(1280, 900)
    chromium.open(made.root / "index.html")
    chromium.run("localStorage.clear()")
    chromium.open(made.root / "index.html")
    return chromium


def current(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.run("({...current(), jpeg: null})")
    return found


def shown(page: Page) -> list[str]:
    """Ids of the faces that fit the filters."""
    found: list[str] = page.run("list.map((face) => face.id)")
    return found


def wanted(made: Audited, **like: str) -> list[str]:
    """The same, from the audit's table, the most suspect first."""
    table = [row for row in pq.read_table(made.labels).to_pylist() if all(row[key] == like[key] for key in like)]
    table.sort(key=lambda row: -round(row["score"], 4))
    return [f"{row['pixels']}-{made.classes.index(row['label'])}" for row in table]


def exported(page: Page, folder: Path) -> tuple[Correction, ...]:
    page.key("e")
    (folder / "corrections.csv").write_bytes(page.downloaded("corrections.csv"))
    found = read_corrections(folder / "corrections.csv")
    assert found.problems == ()
    return found.lines


def test_a_review_by_keys_and_mouse_ends_in_the_tables(page: Page, made: Audited, tmp_path: Path) -> None:
    decided: dict[str, tuple[str, int | None]] = {}

    def press(key: str, action: str | None, to: int | None = None) -> None:
        """One decision on the chosen face; the next one is chosen then."""
        face = current(page)
        page.key(key)
        if action is not None:
            decided[face["id"]] = (action, to)
        assert current(page)["id"] != face["id"]

    page.click("#verdicts button:nth-child(2)")
    assert shown(page) == wanted(made, verdict="mislabelled")
    press("a", "relabel", current(page)["suggested"])
    press("Enter", "relabel", current(page)["suggested"])
    press("d", "drop")
    press("k", "keep")
    press("s", None)
    other = next(c for c in range(8) if c not in (current(page)["label"], current(page)["suggested"]))
    press(str(other + 1), "relabel", other)
    press(str(current(page)["label"] + 1), "keep")

    undone = page.run("review.steps.at(-1).id")
    page.key("z")
    assert current(page)["id"] == undone and decided.pop(undone) == ("keep", None)
    page.key("z", modifiers=2)
    assert decided.pop(current(page)["id"]) == ("relabel", other)

    page.choose("#review", "skipped")
    assert len(shown(page)) == 1
    page.choose("#review", "decided")
    assert set(shown(page)) == set(decided)
    page.choose("#review", "all")

    page.click("#verdicts button:nth-child(3)")
    assert shown(page) == wanted(made, verdict="ambiguous")
    for button, action in (
        ("#accept", "distribution"),
        ("#drop", "drop"),
        ("#keep", "keep"),
        ("#accept", "distribution"),
    ):
        face = current(page)["id"]
        page.click(button)
        decided[face] = (action, None)
    page.key("Enter")  # the list has the focus after a click, and the button is not pressed once more
    decided[page.run("review.steps.at(-1).id")] = ("distribution", None)
    page.key("ArrowRight", "ArrowDown", "Home", "End")
    assert page.run("at") == len(shown(page)) - 1

    page.click("#verdicts button:nth-child(1)")
    page.choose("#given", "3")
    page.choose("#split", "valid")
    assert shown(page) == wanted(made, label=made.classes[3], split="valid")
    page.key("Home")
    face = current(page)["id"]
    page.click("#classes li:nth-child(2) button")
    decided[face] = ("relabel", 1)

    page.open(made.root / "index.html")
    assert f"{len(decided)} of 404 reviewed" in page.text("#status"), "progress is kept"
    lines = exported(page, tmp_path)
    assert {f"{line.image.hex()}-{made.classes.index(line.old)}": line.action for line in lines} == {
        key: action for key, (action, _) in decided.items()
    }

    report = prepare(
        made.root / "faces.parquet",
        tmp_path,
        made.config,
        corrections=read_corrections(tmp_path / "corrections.csv"),
    )
    assert report["corrections"]["not_in_the_splits"] == 0
    hashes = pq.read_table(made.root / "faces.parquet", columns=["pixels"])["pixels"].to_pylist()
    audit = {(row["split"], row["row"]): row for row in pq.read_table(made.labels).to_pylist()}
    corrected = Audited(tmp_path, made.config, made.classes)
    for split in ("train", "valid"):
        after = corrected.samples(split)
        for place, row in made.samples(split).items():
            action, to = decided.get(f"{hashes[place].hex()}-{row['label']}", (None, None))
            found = after.pop(place, None)
            assert (found is None) == (action == "drop")
            if found is None:
                continue
            assert found["is_corrected"] == (action in ("relabel", "distribution"))
            if action == "relabel":
                assert found["label"] == to and found["target"] is None
            elif action == "distribution":
                q = [audit[split, place][f"q_{name}"] for name in made.classes]
                assert found["label"] == int(np.argmax(q)) and found["target"] == pytest.approx(q, abs=2e-4)
            else:
                assert found == row
        assert not after


def test_progress_belongs_to_one_audit_and_undo_goes_back_to_the_start(
    page: Page, made: Audited, tmp_path: Path
) -> None:
    page.key("a", "d", "k")
    assert page.run("review.steps.length") == 3
    text = (made.root / "index.html").read_text().replace("0123456789abcdef", "fedcba9876543210")
    (tmp_path / "other.html").write_text(text)
    page.open(tmp_path / "other.html")
    assert page.run("review.steps.length") == 0 and page.run("document.getElementById('undo').disabled")
    page.open(made.root / "index.html")
    page.key("z", "z", "z", "z")
    assert page.run("review.steps.length") == 0 and page.text("#status").startswith("Undone")
    assert exported(page, tmp_path) == ()


def test_a_damaged_store_is_not_believed(page: Page, made: Audited) -> None:
    for kept in ("nonsense", "{}", "[1]", json.dumps([{"id": "x", "decision": {"action": "relabel", "to": 99}}])):
        page.run(f"localStorage.setItem(review.key, {json.dumps(kept)})")
        page.open(made.root / "index.html")
        assert page.run("review.steps.length") == 0


def test_no_name_is_run_and_all_come_back_as_they_were(chromium: Page, made: Audited, tmp_path: Path) -> None:
    path = evil_page(made, tmp_path)
    chromium.run("localStorage.clear()")
    chromium.events.clear()
    chromium.open(path)
    assert chromium.run("document.querySelectorAll('main script, main img[onerror]').length") == 0
    names = chromium.run("[...document.querySelectorAll('.classes .name')].map((e) => e.textContent)")
    assert names[: len(EVIL)] == list(EVIL)
    chromium.choose("#given", "0")
    chromium.key("2", "3", "d")
    lines = exported(chromium, tmp_path)
    by_hand = [line for line in lines if line.action == "relabel"]
    assert [line.new for line in by_hand] == list(EVIL[1:3]) and {line.old for line in lines} == {EVIL[0]}
    assert not [
        event for event in chromium.events if event["method"].startswith(("Page.javascriptDialog", "Runtime.exc"))
    ]


def test_it_asks_no_network_for_anything(page: Page, made: Audited) -> None:
    page.events.clear()
    page.open(made.root / "index.html")
    page.key("a", "e")
    page.downloaded("corrections.csv")
    asked = [
        event["params"]["request"]["url"] for event in page.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert asked and all(url.startswith(("file:", "data:", "blob:")) for url in asked)


def test_thousands_of_faces_are_drawn_as_they_come_into_sight(page: Page, made: Audited, tmp_path: Path) -> None:
    text = (made.root / "index.html").read_text()
    data = page.run("document.getElementById('data').textContent")
    content = json.loads(data)
    faces = content["faces"]
    content["faces"] = [{**faces[i % len(faces)], "id": f"{i}", "path": f"{i}.png"} for i in range(2000)]
    (tmp_path / "many.html").write_text(text.replace(data, json.dumps(content).replace("<", "\\u003c")))
    page.open(tmp_path / "many.html")
    assert page.run("list.length") == 2000 and page.run("document.querySelectorAll('.tile').length") < 100
    assert page.run("document.querySelector('#tile-0 img').complete")
    page.key("End")
    page.wait("document.querySelector('#tile-1999') !== null")
    assert page.run("document.querySelectorAll('.tile').length") < 100
    box = page.run("document.querySelector('#tile-1999').getBoundingClientRect().toJSON()")
    grid = page.run("document.querySelector('#grid').getBoundingClientRect().toJSON()")
    assert grid["top"] <= box["top"] and box["bottom"] <= grid["bottom"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_every_control_has_a_name(page: Page, width: int, dark: bool) -> None:
    page.resize(width, 844, dark=dark)
    assert page.run("document.documentElement.scrollWidth") <= width
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "slider", "listbox", "option", "image", "img", "progressbar", "textbox"}
    controls = [node for node in tree if not node["ignored"] and node["role"].get("value") in roles]
    assert len(controls) > 25
    assert not [node for node in controls if not node.get("name", {}).get("value")]
    pairs = [("body", "--ink", "--ground"), *(("body", text, "--sheet") for text in TEXTS)]
    for _, text, ground in pairs:
        assert contrast(page, text, ground) >= 4.5, (text, ground)


TEXTS = ("--ink", "--quiet", "--accent", "--mislabelled", "--ambiguous", "--clean")


def contrast(page: Page, text: str, ground: str) -> float:
    """The ratio of two of the page's colours (WCAG 2.2)."""

    def luminance(name: str) -> float:
        value = page.run(f"getComputedStyle(document.documentElement).getPropertyValue('{name}')").strip()
        channels = [int(value[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(text), luminance(ground)))
    return (high + 0.05) / (low + 0.05)


def test_focus_is_seen_wherever_it_is(page: Page) -> None:
    """Tab leads through all controls, each with an outline, and the list shows its chosen face."""
    seen = set()
    page.run("document.activeElement.blur()")
    for _ in range(40):
        page.key("Tab")
        found = page.run(
            "(() => { const e = document.activeElement; const style = getComputedStyle(e.id === 'grid' ?"
            " e.querySelector('[aria-selected=true]') : e); return [e.id || e.textContent, style.outlineStyle,"
            " parseFloat(style.outlineWidth)]; })()"
        )
        if found[0] in seen:
            break
        seen.add(found[0])
        assert found[0].startswith("\n") or (found[1] != "none" and found[2] >= 1), found
    assert {"export", "given", "least", "sort", "accept", "keep", "drop", "skip", "grid"} <= seen
