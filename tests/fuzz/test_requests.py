"""Damaged requests to POST /predict: each is answered, or refused as JSON with a reason in one line. None is a 5xx."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from damage import FUZZ, damaged
from hypothesis import given
from hypothesis import strategies as st
from mlflow_parts import random_model

from nla.data.images import encode_png
from nla.limits import ImageLimits
from nla.web.app import build_app
from nla.web.limits import ServerLimits
from nla.web.live_model import FolderSource, LiveModel
from nla.web.metrics import Metrics

FACE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)
PNG, JPEG = encode_png(FACE), cv2.imencode(".jpg", FACE)[1].tobytes()
LIMITS = ServerLimits(max_body_bytes=100_000, max_images=4, images=ImageLimits(10_000, 100_000))
BOUNDARY = b"----a_boundary"
FORM = b"".join(
    [
        *(
            b'--%b\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n' % (BOUNDARY, n)
            + b"Content-Type: image/png\r\n\r\n%b\r\n" % image
            for n, image in enumerate((PNG, JPEG))
        ),
        b'--%b\r\nContent-Disposition: form-data; name="cropped"\r\n\r\ntrue\r\n--%b--\r\n' % (BOUNDARY, BOUNDARY),
    ]
)
BASE64 = json.dumps({"images": [base64.b64encode(image).decode() for image in (PNG, JPEG)], "cropped": True}).encode()
DATA_ADDRESS = json.dumps({"images": ["data:image/png;base64," + base64.b64encode(PNG).decode()]}).encode()
REQUESTS = {
    "form": (b"multipart/form-data; boundary=" + BOUNDARY, FORM),
    "png": (b"image/png", PNG),
    "jpeg": (b"image/jpeg", JPEG),
    "base64": (b"application/json", BASE64),
    "data address": (b"application/json; charset=utf-8", DATA_ADDRESS),
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
Post = Callable[[bytes, bytes, bytes], tuple[int, Any]]


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    """post(type, body, query) -> (status, JSON) of the application with a real model and detector, without a socket."""
    model = LiveModel(FolderSource(random_model(tmp_path_factory.mktemp("model"))), "dlib", cropped=False)
    app = build_app(model, Metrics(), hosts=["localhost"], limits=LIMITS)

    async def call(kind: bytes, body: bytes, query: bytes) -> tuple[int, Any]:
        path = {"path": "/predict", "raw_path": b"/predict", "query_string": query, "root_path": ""}
        headers = [(b"host", b"localhost"), (b"content-type", kind), (b"content-length", str(len(body)).encode())]
        scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", **path, "headers": headers}
        parts = iter([body[: len(body) // 2], body[len(body) // 2 :]])
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            part = next(parts, None)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": parts.__length_hint__() > 0}

        async def send(message: Any) -> None:
            sent.append(message)

        await app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], json.loads(content)

    with asyncio.Runner() as runner:
        lifespan = app.router.lifespan_context(app)
        runner.run(lifespan.__aenter__())
        yield lambda kind, body, query: runner.run(call(kind, body, query))
        runner.run(lifespan.__aexit__(None, None, None))


def check(status: int, answer: Any) -> None:
    """An answer with probabilities, or a refusal of one line."""
    assert status < 500, (status, answer)
    if status == 200:
        for image in answer["images"]:
            assert all(np.isclose(sum(face["probabilities"].values()), 1) for face in image["faces"])
        return
    assert set(answer) == {"error"} and status in (400, 413, 415, 422), (status, answer)
    assert answer["error"].strip() and "\n" not in answer["error"] and "Traceback" not in answer["error"]


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("query", [b"", b"cropped=true"])
def test_a_whole_request_is_answered(post: Post, name: str, query: bytes) -> None:
    status, answer = post(*REQUESTS[name], query)
    assert status == 200 and answer["images"], answer


@pytest.mark.parametrize("name", REQUESTS)
def test_a_damaged_request_is_answered_or_refused(post: Post, name: str) -> None:
    kind, body = REQUESTS[name]

    @FUZZ
    @given(damaged(body), st.booleans())
    def ask(content: bytes, cropped: bool) -> None:
        check(*post(kind, content, b"cropped=true" if cropped else b""))

    ask()


@pytest.mark.parametrize("name", ["form", "base64"])
def test_damaged_headers_are_refused_or_read(post: Post, name: str) -> None:
    kind, body = REQUESTS[name]

    @FUZZ
    @given(damaged(kind), damaged(b"cropped=true"))
    def ask(said: bytes, query: bytes) -> None:
        check(*post(said, body, query))

    ask()


@FUZZ
@given(data=st.data())
def test_json_of_any_shape_is_answered_or_refused(post: Post, data: st.DataObject) -> None:
    whole = json.dumps(data.draw(VALUES | st.fixed_dictionaries({"images": VALUES, "cropped": VALUES})))
    check(*post(b"application/json", whole.encode(), b""))


@FUZZ
@given(image=damaged(PNG) | damaged(JPEG) | st.binary(max_size=40))
def test_base64_of_a_damaged_image_is_answered_or_refused(post: Post, image: bytes) -> None:
    text = json.dumps({"images": [base64.b64encode(image).decode()], "cropped": True})
    check(*post(b"application/json", text.encode(), b""))
