"""Which files below a folder are not read, and why; and what is a file at all."""

from __future__ import annotations

from pathlib import Path

from nla.data.sources.unread_files import unread


def test_all_that_is_read_is_no_line(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.png", "2.JPG", ".hidden.png"):
        (tmp_path / name).touch()
    assert unread(tmp_path, {"a/1.png", "2.JPG"}) == []
    assert unread(tmp_path, {"a/1.png"}, below="a") == []


def test_places_and_suffixes_with_most_files_come_first(tmp_path: Path) -> None:
    for folder, count in (("a", 1), ("b", 3), ("c", 2), ("d", 1), ("e", 1)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            (tmp_path / folder / f"{i}.png").touch()
            (tmp_path / folder / f"{i}.gif").touch()
    (tmp_path / "a" / "image").touch()
    images, others = unread(tmp_path, set(), "nobody asked")
    assert images == "images not read, because nobody asked: 8, in b (3), c (2), a (1), 2 more folders"
    assert others.endswith(": 8 .gif, 1 without suffix, in b (3), a (2), c (2), 2 more folders")


def test_links_to_folders_are_not_entered_and_told(tmp_path: Path) -> None:
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "data/a/1.png").touch()
    (tmp_path / "data/b").symlink_to("a")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    assert unread(tmp_path / "data", {"a/1.png"}) == ["folders not read, because they are links: 2, such as a/loop"]
    (tmp_path / "linked").symlink_to("data")
    assert unread(tmp_path / "linked", set())[0].startswith("images not read, ")


def test_names_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m").mkdir()
    (tmp_path / "a\x1b[31m/\udce4.gif\n").touch()
    (line,) = unread(tmp_path, set())
    assert line.endswith(r": 1 .gif\n, in a\x1b[31m (1)")
