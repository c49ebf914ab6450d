"""Evaluation of the benchmarks' measurements and the pages made of them; the measurements are not tested."""

from __future__ import annotations

import importlib
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest

from nla.faces.detector import Face

ROOT = Path(__file__).parents[1]


PAGES = {"accuracy": "results", "performance": "performance", "on_ray": "ray", "tuning": "search"}


@pytest.mark.parametrize(("module", "name"), PAGES.items())
def test_a_page_is_generated_from_its_records(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    assert (ROOT / f"docs/{name}.md").read_text() == importlib.import_module(module).page()


def test_intervals_of_studies_hold_the_truth_as_the_docs_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("coverage_of_intervals")
    record = module.read_record(module.RECORD)
    assert module.table(record) in (ROOT / "docs/studies.md").read_text()
    covered = {
        (case["seeds"], case["spread"], case["score"]): case["intervals"]["interval"]["coverage"]
        for case in record["cases"]
    }
    assert len(covered) == 2 * len(module.SEEDS) * len(module.SPREADS)
    assert min(covered.values()) >= 0.935


def test_the_page_of_faces_has_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    text = (ROOT / "docs/faces.md").read_text()
    read_record = importlib.import_module("records").read_record
    for name in ("face_margins", "faces"):
        module = importlib.import_module(name)
        record = read_record(module.RECORD)
        assert module.table(record) in text
        if name == "face_margins":
            for result in record["detectors"].values():
                assert f"{result['taken_as_crops']['fills']} of {result['taken_as_crops']['one_face']}" in text
        else:
            photos = json.loads(module.PHOTOS.read_text())["photos"]
            boxes = [photo["faces"] for photo in photos]
            assert (record["photos"], record["faces"]) == (len(boxes), sum(map(len, boxes)))
            assert f"{len(boxes)} photos with {record['faces']} faces, {boxes.count([])} of them without" in text


def test_the_page_of_clips_has_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module, text = importlib.import_module("video"), (ROOT / "docs/video.md").read_text()
    if (ROOT / f"benchmarks/records/{module.RECORD}.json").exists():
        assert module.table(importlib.import_module("records").read_record(module.RECORD)) in text
    else:
        assert "No record of growth is committed yet" in text


def test_a_face_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("faces")
    one, two = [0, 0, 10, 10], [20, 0, 10, 10]
    near, far, half = Face(1, 0, 10, 10, 0.9), Face(50, 50, 10, 10, 0.9), Face(0, 6, 10, 10, 0.5)
    drawn = Face(*one, 1.0)
    assert drawn.overlap(near) == pytest.approx(90 / 110) and drawn.overlap(far) == 0
    assert module.matched([one, two], [near, half, far]) == 1
    assert module.matched([one, two], [near, Face(21, 0, 10, 10, 0.1)]) == 2
    assert module.matched([one], []) == module.matched([], [near]) == module.matched([one], [half]) == 0


def test_the_table_of_servers_is_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("serving")
    before, _, rest = module.PAGE.read_text().partition(module.MARKS[0])
    shown, mark, _ = rest.partition(module.MARKS[1])
    is_measured = (ROOT / f"benchmarks/records/{module.RECORD}.json").exists()
    assert before and mark and shown == (module.table(module.read_record(module.RECORD)) if is_measured else "")


class Failing(BaseHTTPRequestHandler):
    """Answers with the body, after the failures that this body has first: a status, or no answer."""

    failures: ClassVar[dict[bytes, list[str]]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        failure = self.failures[body].pop(0) if self.failures.get(body) else ""
        if failure != "cut":
            self.send_response(int(failure or 200))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_a_request_is_sent_again_once_and_then_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("serving")
    monkeypatch.setattr(Failing, "failures", {b"b": ["500"], b"c": ["cut"], b"d": ["503", "cut"]}, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        kind = module.Kind(server.server_address, "/", str.encode, list)
        client, load = module.Client(kind), module.Load()
        answers = [client.ask(body, load) for body in (b"a", b"b", b"c", b"d", b"e")]
        client.close()
        server.shutdown()
        thread.join()
    assert answers == [b"a", b"b", b"c", None, b"e"]
    assert (load.retried, load.lost, len(load.seconds)) == (3, 1, 5)


@pytest.fixture
def interleaved(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import interleaved

    return interleaved


@pytest.fixture
def check(interleaved: ModuleType) -> ModuleType:
    import check

    return check


def test_disturbed_rounds_do_not_count(interleaved: ModuleType) -> None:
    values = [(1.0, 2.0, 0.0), (1.0, 4.0, 1.2), (3.0, 2.0, 0.1), (9.0, 1.0, 0.8)]
    result = interleaved.compared(
        {
            "a": [interleaved.Measurement(a, other) for a, _, other in values],
            "b": [interleaved.Measurement(b, 0.0) for _, b, _ in values],
        },
        "a",
        "b",
    )
    assert (result["ratio"], result["low"], result["high"]) == (1.0, 0.5, 1.5)
    assert (result["rounds"], result["calm_rounds"]) == (4, 2)
    assert result["ratios"] == [0.5, 0.25, 1.5, 9.0]


def test_measurements_alternate_and_see_other_processes(interleaved: ModuleType) -> None:
    order: list[str] = []

    def thing(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved.interleave({"a": lambda: thing("a"), "b": lambda: thing("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [turn.value for turn in found["a"]] == [1, 4, 5]


def test_the_check_is_rarely_wrong_and_stops_early_if_fast(check: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sizes = range(check.FEWEST, check.MOST + 1, 2)

    def verdict(median: float) -> tuple[bool, int]:
        """Whether the check fails, and after how many rounds, where a round spreads by a tenth."""
        ratios = rng.normal(median, 0.1, check.MOST).tolist()
        rounds = next((n for n in sizes if check.is_clear(ratios[:n])), check.MOST)
        return float(np.median(ratios[:rounds])) < check.REQUIRED, rounds

    good, bad = ([verdict(median) for _ in range(400)] for median in (0.97, 0.80))
    assert sum(fails for fails, _ in good) <= 8
    assert sum(fails for fails, _ in bad) >= 392
    assert np.mean([rounds for _, rounds in good]) < 0.75 * check.MOST


def test_the_check_needs_rounds_for_a_verdict(check: ModuleType) -> None:
    assert not check.is_clear([1.0] * (check.FEWEST - 1))
    assert check.is_clear([1.0] * check.FEWEST) and check.is_clear([0.5] * check.FEWEST)
    assert not check.is_clear([0.5, 1.0] * check.FEWEST)


def test_uncommitted_files_are_restored(interleaved: ModuleType, tmp_path: Path) -> None:
    import working_tree

    def git(*words: str) -> None:
        who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "params.yaml").write_text("committed")
    git("init")
    git("add", "--all")
    git("commit", "--message", "start")
    (tmp_path / "params.yaml").write_text("under way")
    (tmp_path / "dvc.lock").write_text("mine")
    with pytest.raises(KeyboardInterrupt), working_tree.restored(tmp_path):
        working_tree.take_committed(tmp_path, "params.yaml")
        assert (tmp_path / "params.yaml").read_text() == "committed"
        for name in ("dvc.lock", "best.yaml"):
            (tmp_path / name).write_text("a benchmark's")
        raise KeyboardInterrupt
    assert (tmp_path / "params.yaml").read_text() == "under way"
    assert (tmp_path / "dvc.lock").read_text() == "mine" and not (tmp_path / "best.yaml").exists()
