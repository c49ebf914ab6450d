"""`nla detector`: what it lists, and that only the right file is installed, from a file or a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nla.commands.detector import main
from nla.errors import CommandError, WeightsError
from nla.faces import detector_file
from nla.faces.detector_file import FILE, MOST_BYTES, URL

WEIGHTS = b"weights" * 10_000


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where weights are installed; WEIGHTS stand for YuNet's."""
    monkeypatch.setattr(detector_file, "SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setenv("NLA_DETECTORS", str(tmp_path / "detectors"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "detectors"


class Answers(BaseHTTPRequestHandler):
    """The weights, another file, one without end, or an error."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        content = {"/right": WEIGHTS, "/other": b"other", "/endless": bytes(20 * MOST_BYTES)}[self.path]
        self.send_response(200)
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:  # the client has hung up
            return
        type(self).sent = len(content)

    sent = 0

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_a_file_is_installed_once_it_is_the_right_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.onnx").write_bytes(b"other")
    with pytest.raises(WeightsError, match=rf"other\.onnx: not {FILE} .*Get it from https://github\.com/opencv"):
        main(["get", "other.onnx"])
    assert not folder.exists()
    Path("w.onnx").write_bytes(WEIGHTS)
    main(["get", "w.onnx"])
    assert (folder / FILE).read_bytes() == WEIGHTS
    assert capsys.readouterr().out == f"yunet is ready: {folder / FILE}\n"


def test_a_file_that_is_missing_or_far_too_large_is_not_read() -> None:
    with pytest.raises(OSError, match=r"No such file"):
        main(["get", "nothing.onnx"])
    with Path("large.onnx").open("wb") as file:
        file.truncate(64_000_000_000)
    with pytest.raises(WeightsError, match=r"large\.onnx: not .*: it has 64,000,000,000 bytes"):
        main(["get", "large.onnx"])


def test_an_address_is_installed_with_a_bar(folder: Path, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["get", f"{server}/right"])
    assert (folder / FILE).read_bytes() == WEIGHTS
    assert "download" in capsys.readouterr().out


def test_what_a_server_sends_is_not_trusted(folder: Path, server: str) -> None:
    with pytest.raises(WeightsError, match=rf"/other: not {FILE}"):
        main(["get", f"{server}/other"])
    with pytest.raises(WeightsError, match=rf"/endless: not {FILE}"):
        main(["get", f"{server}/endless"])
    assert Answers.sent < MOST_BYTES, "the endless file was not read to its end"
    with pytest.raises(CommandError, match=r"/missing: cannot be downloaded \(.*\)\. .*nla detector get FILE"):
        main(["get", f"{server}/missing"])
    assert not folder.exists()


def test_an_address_without_server_is_one_line(server: str) -> None:
    for address in ("http://127.0.0.1:1/x", "http://[/x", "https://\x1b/x"):
        with pytest.raises(CommandError, match="cannot be downloaded") as caught:
            main(["get", address])
        assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


def test_without_a_name_it_is_the_model_zoos_file(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuses(url: str, timeout: float) -> None:
        asked.append(url)
        raise OSError("no internet")

    monkeypatch.setattr("urllib.request.urlopen", refuses)
    with pytest.raises(CommandError, match=r"cannot be downloaded \(no internet\)"):
        main(["get"])
    assert asked == [URL] and URL.startswith("https://") and URL.endswith(FILE)


def test_the_list_says_what_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"yunet  missing  its weights are not at {folder / FILE}"
    assert lines[1].strip() == "Run `nla detector get`."
    assert lines[2].startswith("dlib   ready")
    Path("w.onnx").write_bytes(WEIGHTS)
    main(["get", "w.onnx"])
    capsys.readouterr()
    main(["list"])
    assert capsys.readouterr().out.startswith("yunet  ready ")
    (folder / FILE).write_bytes(b"damaged")
    main(["list"])
    assert "its weights cannot be used" in capsys.readouterr().out
