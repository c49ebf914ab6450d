"""The file of the page: what it holds, and that no name in it is anything but text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_parts import Audited, audited, info_of, write_page_of

from nla.audit.page import embedded_json
from nla.audit.table import write_labels
from nla.data.images import decode
from nla.errors import DataError

EVIL = (
    '</script><script>alert("1")</script>',
    "'\"><img src=x onerror=alert(2)>",
    "a\nb",
    "<!-- ä & ]]>",
    "$data ${x}",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    return audited(tmp_path_factory.mktemp("audited"), train=100)


class Parts(HTMLParser):
    """Elements of a page, with their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self.found.append(("", {}, ""))  # for the text behind it

    def handle_data(self, data: str) -> None:
        if self.found:
            tag, attrs, text = self.found.pop()
            self.found.append((tag, attrs, text + data))

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for name, attrs, text in self.found if name == tag]


def content(page: Path) -> dict[str, Any]:
    (data,) = [text for attrs, text in Parts(page.read_text()).of("script") if attrs.get("type") == "application/json"]
    return json.loads(data)


def rows(made: Audited) -> list[dict[str, Any]]:
    return pq.read_table(made.labels).to_pylist()


def test_every_face_is_there_with_what_was_audited(made: Audited, tmp_path: Path) -> None:
    number = write_page_of(tmp_path / "index.html", made.labels, made.tables)
    page, table = content(tmp_path / "index.html"), rows(made)
    assert number == len(page["faces"]) == len(table) == page["total"]
    by_place = {(face["split"], face["row"]): face for face in page["faces"]}
    assert page["classes"] == list(made.classes) and page["fingerprint"] == "0123456789abcdef"
    for row in table:
        face = by_place[row["split"], row["row"]]
        assert (face["image"], face["path"], face["verdict"]) == (row["pixels"], row["path"], row["verdict"])
        assert (made.classes[face["label"]], made.classes[face["suggested"]]) == (row["label"], row["suggested"])
        assert face["p"] == pytest.approx([row[f"p_{name}"] for name in made.classes], abs=1e-4)
        others = [row[f"p_{name}"] for name in made.classes if name != row["label"]]
        assert face["place"] == pytest.approx([row[f"p_{row['label']}"], max(others)], abs=1e-4)
        assert [pair[0] for pair in face["trail"]] == pytest.approx(row["path_p_label"], abs=1e-4)
        assert (face["q"] is None) == (row["verdict"] != "ambiguous")
        stored = decode(made.samples(row["split"])[row["row"]]["image"]["bytes"])
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(face["jpeg"]), np.uint8), cv2.IMREAD_UNCHANGED)
        assert shown.shape == stored.shape
        assert np.abs(shown.astype(int) - stored).mean() < 4, "the same face"


def test_a_page_without_images_has_none(made: Audited, tmp_path: Path) -> None:
    write_page_of(tmp_path / "index.html", made.labels, made.tables, with_images=False)
    page = content(tmp_path / "index.html")
    assert page["thumbnails"] == 0 and not any("jpeg" in face for face in page["faces"])


def test_the_most_suspect_have_room_first(made: Audited, tmp_path: Path) -> None:
    table = rows(made)
    doubted = [row for row in table if row["verdict"] != "clean"]
    most = len(doubted) + 5
    assert write_page_of(tmp_path / "index.html", made.labels, made.tables, most=most) == most
    shown = {(face["split"], face["row"]) for face in content(tmp_path / "index.html")["faces"]}
    clean = sorted((row for row in table if row["verdict"] == "clean"), key=lambda row: -row["score"])
    assert shown == {(row["split"], row["row"]) for row in [*doubted, *clean[:5]]}


def test_identical_images_with_one_label_are_one_face(made: Audited, tmp_path: Path) -> None:
    table = rows(made)
    same = [row for row in table if row["label"] == table[0]["label"]][:3]
    other = next(row for row in table if row["label"] != table[0]["label"])
    for row in [*same, other]:
        row["pixels"] = table[0]["pixels"]
    schema = pq.read_schema(made.labels)
    write_labels(tmp_path / "labels.parquet", pa.Table.from_pylist(table, schema), info_of(made.classes))
    assert write_page_of(tmp_path / "index.html", tmp_path / "labels.parquet", made.tables) == len(table) - 2
    faces = [face for face in content(tmp_path / "index.html")["faces"] if face["image"] == table[0]["pixels"]]
    assert sorted(face["copies"] for face in faces) == [1, 3] and len({face["id"] for face in faces}) == 2
    most = max(same, key=lambda row: row["score"])
    assert next(face for face in faces if face["copies"] == 3)["row"] == most["row"]


def test_an_image_that_is_gone_is_named(made: Audited, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"valid\.parquet: no row \d+, which was audited\. Run `dvc repro`"):
        write_page_of(tmp_path / "index.html", made.labels, {**made.tables, "train": made.tables["valid"]})
    assert not (tmp_path / "index.html").exists()


def evil_page(made: Audited, folder: Path) -> Path:
    """Classes and paths that end scripts, open tags and break lines."""
    names = [*EVIL, *made.classes][: len(made.classes)]
    schema = pq.read_schema(made.labels)
    table = pq.read_table(made.labels)
    renamed = dict(zip(made.classes, names, strict=True))
    for column in ("label", "suggested"):
        texts = [renamed[name] for name in table[column].to_pylist()]
        table = table.set_column(schema.get_field_index(column), column, pa.array(texts))
    paths = [f"{EVIL[i % len(EVIL)]}/{i}.png" for i in range(table.num_rows)]
    table = table.set_column(schema.get_field_index("path"), "path", pa.array(paths))
    columns = [re.sub(r"^(p|q|votes)_(.*)$", lambda m: f"{m[1]}_{renamed.get(m[2], m[2])}", n) for n in schema.names]
    info = info_of(tuple(names)).model_copy(update={"source": EVIL[0]})
    write_labels(folder / "evil.parquet", table.rename_columns(columns), info)
    write_page_of(folder / "evil.html", folder / "evil.parquet", made.tables)
    return folder / "evil.html"


def test_names_are_text_whatever_they_hold(made: Audited, tmp_path: Path) -> None:
    path = evil_page(made, tmp_path)
    parts, page = Parts(path.read_text()), content(path)
    assert tuple(page["classes"][: len(EVIL)]) == EVIL and page["source"] == EVIL[0]
    assert {face["path"].rpartition("/")[0] for face in page["faces"]} == set(EVIL)
    assert len(parts.of("script")) == 2 and not parts.of("img")
    assert parts.of("title")[0][1] == f"Labels of {EVIL[0]}"


def test_nothing_but_its_own_script_and_style_may_run(made: Audited, tmp_path: Path) -> None:
    write_page_of(tmp_path / "index.html", made.labels, made.tables)
    text = (tmp_path / "index.html").read_text()
    parts = Parts(text)
    (policy,) = [attrs["content"] for attrs, _ in parts.of("meta") if "http-equiv" in attrs]
    (script,) = [text for attrs, text in parts.of("script") if not attrs]
    (style,) = [text for _, text in parts.of("style")]
    for kind, part in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in str(policy)
    assert str(policy).startswith("default-src 'none'; img-src data:;")
    assert not [attrs for _, attrs, _ in parts.found if {"src", "href", "style", "onclick"} & attrs.keys()]
    assert not re.search(r"https?:|//\w+\.\w+/|innerHTML|insertAdjacentHTML|document\.write|eval\(", script + style)


@given(
    st.recursive(
        st.text() | st.none() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_embedded_json_is_json_without_markup(value: Any) -> None:
    text = embedded_json(value)
    assert json.loads(text) == value and not set("<>&") & set(text)
