"""The page of the server: it needs nothing but the server, and works by keys, by mouse, narrow, wide and dark."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import CHROMIUM, Page, browser
from mlflow_parts import CLASSES, ROOT, random_model
from server_parts import Served, serving

from nla import Predictor
from nla.data.images import encode_png
from nla.web.page import page

TOKEN = "a-token-of-more-than-sixteen-characters"
FAKE_WEBCAM = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
FACE = encode_png(np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8))
TWO_FACES = {
    "width": 800,
    "height": 400,
    "note": "",
    "faces": [
        {
            "label": label,
            "confidence": p[0],
            "probabilities": dict(zip(CLASSES, p, strict=True)),
            "ambiguity": 0.5,
            "box": {"left": left, "top": 100, "width": 100, "height": 120},
            "score": 0.9,
        }
        for label, p, left in (("neutral", [0.6, 0.3, 0.1], 50), ("<b>anger</b>", [0.45, 0.3, 0.25], 500))
    ],
}


def test_nothing_of_another_address_is_in_it() -> None:
    text, _ = page()
    assert set(re.findall(r"[a-z]+://[^\"'\s]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"<(?:link|script|img|iframe)\b[^>]*\b(?:src|href)=\"(?!data:,)", text)
    assert "$" not in re.sub(r"\$(?:\(|\{| =)", "", text)  # every place of the template is filled


def test_the_policy_permits_its_own_script_and_style_once() -> None:
    (text, policy), (other, other_policy) = page(), page()
    (nonce,) = set(re.findall(r'nonce="([^"]+)"', text))
    assert f"script-src 'nonce-{nonce}'" in policy and f"style-src 'nonce-{nonce}'" in policy
    assert nonce not in other + other_policy and len(nonce) >= 20
    assert "unsafe" not in policy and "*" not in policy and "default-src 'none'" in policy
    assert not re.search(r"\s(?:style|on\w+)=\"", text)  # which it would forbid


def test_everything_has_a_name_for_those_who_do_not_see_it() -> None:
    text, _ = page()
    labelled = set(re.findall(r'<label for="([\w-]+)"', text))
    for control, name in re.findall(r'<(input|output)[^>]*id="([\w-]+)"', text):
        hidden = re.search(rf'<input id="{name}"[^>]*hidden', text)
        assert name in labelled or re.search(rf'<label[^>]*><input id="{name}"', text) or hidden or control == "output"
    assert 'aria-live="polite"' in text and '<html lang="en">' in text
    for kind in ("canvas", "video", "svg"):
        for tag in re.findall(rf"<{kind}\b[^>]*>", text):
            assert re.search(r'aria-(?:label|labelledby|hidden)="', tag), tag


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = random_model(tmp_path_factory.mktemp("model"))
    (folder / "face.png").write_bytes(FACE)
    with serving(folder, "--cropped", cwd=folder) as served:
        yield served


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with browser(tmp_path_factory.mktemp("browser"), *FAKE_WEBCAM) as found:
        found.call("Log.enable")
        yield found


def opened(tab: Page, url: str) -> None:
    tab.events.clear()
    tab.open(url)
    tab.wait("document.getElementById('model').textContent.length > 3")


def choose_file(tab: Page, path: Path) -> None:
    """As a person does in the browser's dialog."""
    root = tab.call("DOM.getDocument")["root"]["nodeId"]
    node = tab.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    tab.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)


def check_traffic(tab: Page, server: Served) -> None:
    """Only this server was asked, and the policy had nothing to forbid."""
    sent = [event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"]
    network = [url for url in sent if urlsplit(url).scheme not in ("data", "blob")]
    assert network and all(url.startswith(server.url + "/") for url in network), network
    errors = [event for event in tab.events if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert not errors, errors


@needs_chromium
def test_a_chosen_file_is_classified(tab: Page, server: Served) -> None:
    folder = Path(server.process.args[5])  # type: ignore[index]
    opened(tab, server.url)
    choose_file(tab, folder / "face.png")
    tab.wait("!document.getElementById('face').hidden")
    expected = Predictor.load(folder).predict([FACE])
    p1, p2, _ = sorted(expected.probabilities[0].tolist(), reverse=True)
    assert tab.text("#label") == expected.label[0]
    assert tab.text("#confidence") == f"{100 * p1:.1f} %"
    assert tab.run("document.querySelectorAll('#bars li').length") == len(CLASSES)
    place = tab.run("['cx', 'cy'].map((key) => Number(document.getElementById('spot').getAttribute(key)))")
    assert place == pytest.approx([100 * p1, 50 - 100 * p2], abs=0.01)
    tab.wait("document.getElementById('status').textContent.startsWith('One face')")
    assert tab.run("document.querySelectorAll('#boxes g').length") == 1
    check_traffic(tab, server)


@needs_chromium
def test_an_image_can_be_dropped_and_pasted_and_text_cannot(tab: Page, server: Served) -> None:
    for kind, key, target in (("DragEvent", "dataTransfer", "drop"), ("ClipboardEvent", "clipboardData", "paste")):
        opened(tab, server.url)
        tab.run(f"""(async () => {{
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array({list(FACE)})], "face.png", {{ type: "image/png" }}));
            document.dispatchEvent(new {kind}("{target}", {{ {key}: transfer, cancelable: true, bubbles: true }}));
        }})()""")
        tab.wait("!document.getElementById('face').hidden")
        check_traffic(tab, server)
    tab.run("""(() => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["text"], "face.txt", { type: "text/plain" }));
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true, bubbles: true }));
    })()""")
    assert tab.text("#status") == "This is not an image file."


@needs_chromium
def test_an_image_that_is_none_says_why(tab: Page, server: Served) -> None:
    opened(tab, server.url)
    tab.run("open(new Blob(['text'], { type: 'image/png' }))")
    tab.wait("document.querySelector('.status.error') !== null")
    assert "image 0: the file is damaged or not an image" in tab.text("#status")


@needs_chromium
def test_the_slider_says_uncertain_by_keys(tab: Page, server: Served) -> None:
    opened(tab, server.url)
    tab.run(f"show({json.dumps(TWO_FACES)})")
    assert tab.run("document.getElementById('uncertain').hidden")
    tab.run("document.getElementById('least').focus()")
    tab.key(*["ArrowRight"] * 11)
    assert tab.text("#least-shown") == "61 %" and not tab.run("document.getElementById('uncertain').hidden")
    tab.key("ArrowLeft")
    assert tab.run("document.getElementById('uncertain').hidden")


@needs_chromium
def test_each_face_is_shown_by_tab_and_enter(tab: Page, server: Served) -> None:
    opened(tab, server.url)
    tab.run(f"show({json.dumps(TWO_FACES)})")
    assert tab.text("#label") == "neutral"
    tab.run("document.getElementById('least').focus()")
    tab.key("Tab", "Tab")
    assert tab.run("document.activeElement.textContent") == "2 <b>anger</b>?"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"  # where the keys go is seen
    tab.key("Enter")
    assert tab.text("#label") == "<b>anger</b>"  # a name is never markup
    assert tab.run("document.querySelectorAll('#boxes g.chosen text')[0].textContent") == "2 <b>anger</b>?"


@needs_chromium
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_can_be_read(tab: Page, server: Served, width: int, dark: bool) -> None:
    tab.resize(width, 844, dark=dark)
    opened(tab, server.url)
    tab.run(f"show({json.dumps(TWO_FACES)})")
    assert tab.run("document.documentElement.scrollWidth") <= width
    for selector in ("body", ".quiet", "#choose", ".percent", "#uncertain"):
        assert contrast(tab, selector) >= 4.5, selector  # WCAG 2.2, 1.4.3
    tab.resize(1280, 900)


def contrast(tab: Page, selector: str) -> float:
    """Of the text of an element and what is behind it, as WCAG 2.2 defines it."""
    colours: list[Any] = tab.run(f"""(() => {{
        const element = document.querySelector({json.dumps(selector)});
        let behind = element;
        const isClear = (each) => getComputedStyle(each).backgroundColor === "rgba(0, 0, 0, 0)";
        while (behind.parentElement && isClear(behind)) behind = behind.parentElement;
        return [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
    }})()""")
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@needs_chromium
def test_the_webcam_is_followed_until_it_is_stopped(tab: Page, server: Served) -> None:
    opened(tab, server.url)
    tab.click("#webcam")
    tab.wait("!document.getElementById('face').hidden")
    before = tab.run("asked")
    tab.wait(f"asked > {before} + 3")
    assert tab.text("#webcam") == "Stop webcam"
    tab.click("#webcam")
    assert tab.text("#status") == "The webcam is off." and tab.run("stream === null")
    assert tab.run("document.getElementById('face').hidden")
    check_traffic(tab, server)


@needs_chromium
@pytest.mark.thorough
def test_it_asks_for_the_token(tab: Page, tmp_path: Path) -> None:
    with serving(random_model(tmp_path), "--cropped", cwd=tmp_path, NLA_TOKEN=TOKEN) as server:
        opened(tab, server.url)
        assert not tab.run("document.getElementById('token-form').hidden")
        tab.run(f"document.getElementById('token').value = {json.dumps(TOKEN)}")
        tab.click("#token-form button")
        tab.wait("document.getElementById('token-form').hidden")
        tab.run(f"open(new Blob([new Uint8Array({list(FACE)})], {{ type: 'image/png' }}))")
        tab.wait("!document.getElementById('face').hidden")
        check_traffic(tab, server)


@needs_chromium
def test_the_documented_javascript_runs(tab: Page, server: Served) -> None:
    (code,) = re.findall(r"^```js\n(.*?)^```", (ROOT / "docs/serving.md").read_text(), re.DOTALL | re.MULTILINE)
    opened(tab, server.url)
    file = f"new Blob([new Uint8Array({list(FACE)})], {{ type: 'image/png' }})"
    (label,) = tab.run(f"(async () => {{ const file = {file};\n{code}\nreturn labels; }})()")
    assert label in CLASSES
