"""A headless Chromium, driven through its DevTools protocol as a person would: keys, clicks, downloads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
from patience import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NAMED = {
    "Enter": 13,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
    "Home": 36,
    "End": 35,
}


class Page:
    """A tab."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, socket: aiohttp.ClientWebSocketResponse, downloads: Path
    ) -> None:
        self._loop, self._socket, self.downloads = loop, socket, downloads
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), PATIENCE))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def open(self, place: Path | str) -> None:
        """Loads a file or an address, and returns when its script has run."""
        url = place if isinstance(place, str) else place.as_uri()
        self.call("Page.navigate", url=url)
        scheme = url.partition(":")[0]
        self.wait(f"document.readyState === 'complete' && document.URL.startsWith('{scheme}:')")

    def run(self, script: str) -> Any:
        """The JSON-serializable value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Returns when the expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)}).textContent"))

    def key(self, *keys: str, modifiers: int = 0) -> None:
        """Presses keys; `modifiers` is 2 with Ctrl."""
        for key in keys:
            code = NAMED.get(key, ord(key[0].upper()))
            known: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
            if key == "Enter":
                known["text"] = "\r"
            elif key not in NAMED and not modifiers:
                known["text"] = key
            self.call("Input.dispatchKeyEvent", type="keyDown", **known)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code, modifiers=modifiers)

    def click(self, selector: str) -> None:
        """Clicks into the middle of an element."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'nearest'}})")
        box = self.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        place = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def choose(self, select: str, value: str) -> None:
        """Chooses an option, as a person does."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(select)}); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); })()"
        )

    def downloaded(self, name: str) -> bytes:
        """A file that the page has saved; it is taken away."""
        path, end = self.downloads / name, time.monotonic() + PATIENCE
        while not path.is_file():
            assert time.monotonic() < end, name
            time.sleep(0.02)
        content = path.read_bytes()
        path.unlink()
        return content

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])


@contextlib.contextmanager
def browser(folder: Path, *more: str) -> Iterator[Page]:
    """A tab of a new Chromium, whose profile and downloads are in `folder`; `more` are options of it."""
    profile, downloads = folder / "profile", folder / "downloads"
    downloads.mkdir(parents=True)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    command = [str(CHROMIUM), *options, *more, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    try:
        port = _port(profile / "DevToolsActivePort", process)
        session, socket = loop.run_until_complete(_connect(port))
        try:
            page = Page(loop, socket, downloads)
            for domain in ("Page", "Runtime", "Network"):
                page.call(f"{domain}.enable")
            page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
            page.resize(1280, 900)
            yield page
        finally:
            loop.run_until_complete(socket.close())
            loop.run_until_complete(session.close())
    finally:
        process.terminate()
        process.wait(PATIENCE)
        loop.close()


def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + PATIENCE
    while not (file.is_file() and file.read_text().count("\n")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    return int(file.read_text().splitlines()[0])


async def _connect(port: int) -> tuple[aiohttp.ClientSession, aiohttp.ClientWebSocketResponse]:
    session = aiohttp.ClientSession()
    while True:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            tabs = [tab for tab in json.loads(await answer.text()) if tab["type"] == "page"]
        if tabs:
            return session, await session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0)
        await asyncio.sleep(0.02)
