"""POST /predict of a real server: every way to send images, every way to send something else."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import requests
from mlflow_parts import CLASSES, random_model
from prometheus_client.parser import text_string_to_metric_families
from server_parts import Served, faces, serving

from nla import Predictor
from nla.serving.predictor import DRAWN

MAX_BODY, MAX_IMAGES, MAX_PIXELS = 400_000, 6, 1_000_000
LIMITS = ("--max-body", str(MAX_BODY), "--max-images", str(MAX_IMAGES), "--max-pixels", str(MAX_PIXELS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with serving(folder, "--cropped", *LIMITS, cwd=folder) as served:
        yield served


def check(answer: dict[str, Any], predictor: Predictor, images: list[bytes]) -> None:
    """Each image's answer is that of the predictor for it alone."""
    assert len(answer["images"]) == len(images)
    for data, image in zip(images, answer["images"], strict=True):
        expected, (face,) = predictor.predict([data]), image["faces"]
        assert face["label"] == expected.label[0]
        assert list(face["probabilities"]) == list(CLASSES)
        np.testing.assert_allclose(list(face["probabilities"].values()), expected.probabilities[0], atol=1e-5)
        assert face["confidence"] == max(face["probabilities"].values())
        assert face["ambiguity"] == pytest.approx(expected.ambiguity[0], abs=1e-5)
        height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        assert (image["width"], image["height"]) == (width, height)
        assert face["box"] == {"left": 0, "top": 0, "width": width, "height": height} and face["score"] is None


def test_each_way_to_send_images_gets_the_predictors_answer(server: Served, folder: Path) -> None:
    predictor, images = Predictor.load(folder), faces(5)
    assert len({predictor.predict([image]).label for image in images}) > 1  # answers depend on the image
    check(server.post(images[0]).json(), predictor, images[:1])
    check(server.post(images[1], "image/jpeg").json(), predictor, images[1:2])  # what it is says the content
    body = json.dumps({"images": [base64.b64encode(image).decode() for image in images], "cropped": True})
    check(server.post(body, "application/json").json(), predictor, images)
    data_address = json.dumps({"images": ["data:image/png;base64," + base64.b64encode(images[2]).decode()]})
    check(server.post(data_address, "application/json; charset=utf-8").json(), predictor, images[2:3])
    files = [("images", (f"{n}.png", image, "image/png")) for n, image in enumerate(images)]
    check(server.post(None, None, files=files).json(), predictor, images)
    assert server.post(None, None, files=files, path="/predict?cropped=true").status_code == 200
    answer = server.post({"cropped": "true"}, None, files=files).json()
    check(answer, predictor, images)
    facts = {"name": folder.name, "version": None, "fingerprint": "f0", "source": "synthetic", "classes": list(CLASSES)}
    assert answer["model"].pop("caution") == DRAWN  # in every answer
    assert answer["model"] == facts


def test_sixty_four_clients_get_their_own_answers(server: Served, folder: Path) -> None:
    images = faces(128, seed=1)
    with ThreadPoolExecutor(64) as clients:
        answers = list(clients.map(lambda image: server.post(image).json(), images))
    predictor = Predictor.load(folder)
    for image, answer in zip(images, answers, strict=True):
        check(answer, predictor, [image])
    sizes = series(server, "nla_batch_faces")
    assert sizes["nla_batch_faces_sum"] > sizes["nla_batch_faces_count"]  # some were classified together


def png_of(width: int, height: int) -> bytes:
    """A small PNG of one colour, with any number of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, packer = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


GOOD = base64.b64encode(faces(1)[0]).decode()
BOUNDARY = "multipart/form-data; boundary=x"
PART = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a.png"\r\n\r\n'
CASES: dict[str, tuple[Any, str | None, int, str]] = {
    "text named .jpg": (b"this is no image", "image/jpeg", 422, "image 0: the file is damaged or not an image"),
    "a cut off image": (faces(1)[0][:-20], "image/png", 422, "image 0: the PNG is cut off"),
    "an empty body": (b"", "image/png", 400, "the body is empty"),
    "900 megapixels": (png_of(30_000, 30_000), "image/png", 413, "30,000 x 30,000 pixels, more than max_pixels"),
    "too many bytes": (bytes(MAX_BODY + 1), "image/png", 413, f"the body has more than {MAX_BODY:,} bytes"),
    "another type": (b"x", "text/plain", 415, "Content-Type: not supported (got 'text/plain')"),
    "no type": (b"x", None, 415, "Content-Type: not supported (got '')"),
    "JSON that is none": (b'{"images": [', "application/json", 400, "body: not valid JSON"),
    "JSON of deep nesting": (b"[" * 100_000, "application/json", 400, "body: not valid JSON"),
    "empty JSON": (b" ", "application/json", 400, "the body is empty"),
    "JSON of no images": (b'{"images": []}', "application/json", 400, "no image is in the request"),
    "JSON of other fields": (b'{"pictures": []}', "application/json", 422, "body: images: field required"),
    "JSON of numbers": (b'{"images": [1]}', "application/json", 422, "body: images.0: must be a valid string"),
    "no base64": (b'{"images": ["@@@"]}', "application/json", 422, "image 0: not base64"),
    "one of two is bad": (
        json.dumps({"images": [GOOD, "AAAA"]}), "application/json", 422, "image 1: the file is damaged or not an image"
    ),
    "too many images": (json.dumps({"images": [GOOD] * 7}), "application/json", 413, "more than 6 images"),
    "too many files": (7 * (PART + b"x\r\n") + b"--x--\r\n", BOUNDARY, 413, "more than 6 images"),
    "a form without files": (b"--x--\r\n", BOUNDARY, 400, "no image is in the request"),
    "a form without boundary": (b"x", "multipart/form-data", 400, "not a form that can be read"),
    "a form that is none": (b"x", BOUNDARY, 400, "not a form that can be read"),
    "a file that is none": (PART + b"x\r\n--x--\r\n", BOUNDARY, 422, "image 0 (a.png): the file is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_no_image_is_refused_in_one_line(server: Served, folder: Path, case: str) -> None:
    body, kind, status, reason = CASES[case]
    answer = server.post(body, kind)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json" and list(answer.json()) == ["error"]
    assert reason in answer.json()["error"] and "\n" not in answer.json()["error"]
    image = faces(1, seed=2)
    check(server.post(image[0]).json(), Predictor.load(folder), image)  # the next client is served
    assert server.log() == ""


def test_a_query_that_is_wrong(server: Served) -> None:
    answer = server.post(faces(1)[0], path="/predict?cropped=perhaps")
    assert answer.status_code == 422 and answer.json()["error"].startswith("cropped: ")
    for path in ("/nothing", "/docs", "/redoc"):
        assert server.get(path).status_code == 404 and list(server.get(path).json()) == ["error"]
    assert server.get("/predict").status_code == 405


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(server: Served) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(5):
            yield bytes(MAX_BODY // 4)

    answer = server.post(parts())
    assert answer.status_code == 413 and "bytes" in answer.json()["error"]


def test_a_size_that_is_only_stated_is_refused_at_once(server: Served) -> None:
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {10**12}\r\n"
    answer = server.raw(head.encode() + b"Expect: 100-continue\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_client_that_goes_away_disturbs_nobody(server: Served, folder: Path) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    before = series(server, "nla_requests").get('nla_requests_total{"/predict","499"}', 0)
    server.raw(head + b"x" * 500, close=True)
    server.wait_until(lambda: series(server, "nla_requests").get('nla_requests_total{"/predict","499"}', 0) > before)
    image = faces(1, seed=3)
    check(server.post(image[0]).json(), Predictor.load(folder), image)
    assert server.log() == ""


def series(server: Served, name: str) -> dict[str, float]:
    """The samples of a metric: `name{"label",...}` -> value."""
    found = {}
    for family in text_string_to_metric_families(server.get("/metrics").text):
        if family.name == name:
            for sample in family.samples:
                labels = ",".join(f'"{value}"' for value in sample.labels.values())
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_metrics_count_requests_images_and_time(server: Served) -> None:
    before, images = series(server, "nla_requests"), series(server, "nla_images")["nla_images_total"]
    server.post(json.dumps({"images": [GOOD] * 3}), "application/json")
    server.post(b"x", "image/png")
    server.get("/made-up-by-a-client")
    after, key = series(server, "nla_requests"), 'nla_requests_total{"/predict","%s"}'
    assert after[key % 200] == before.get(key % 200, 0) + 1
    assert after[key % 422] == before.get(key % 422, 0) + 1
    assert series(server, "nla_images")["nla_images_total"] == images + 3
    assert not [name for name in after if "made-up" in name]
    times = series(server, "nla_request_seconds")
    assert times['nla_request_seconds_count{"/predict"}'] >= 2 and times['nla_request_seconds_sum{"/predict"}'] > 0
    assert series(server, "nla_requests_in_flight")["nla_requests_in_flight"] == 1  # this one


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("localhost:{port}", True),
        ("127.0.0.1", True),
        ("[::1]:{port}", True),
        ("LOCALHOST", True),
        ("evil.example:{port}", False),
        ("localhost.evil.example", False),
        ("localhost@evil.example", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_only_its_own_names_are_answered(server: Served, host: str, is_ours: bool) -> None:
    """A page whose name was made to point to 127.0.0.1 would read the answers otherwise."""
    answer = server.get("/health", Host=host.format(port=server.port))
    assert answer.status_code == (200 if is_ours else 421)
    assert ("model" in answer.json()) == is_ours


@pytest.mark.parametrize(
    ("origin", "is_ours"),
    [
        ("http://127.0.0.1:{port}", True),
        ("http://evil.example", False),
        ("http://127.0.0.1:1", False),
        ("http://localhost:{port}", False),
        ("null", False),
        ("file://", False),
    ],
)
def test_only_its_own_page_may_send(server: Served, origin: str, is_ours: bool) -> None:
    answer = server.post(faces(1)[0], headers={"Origin": origin.format(port=server.port)})
    assert answer.status_code == (200 if is_ours else 403)


def test_health_names_the_model(server: Served, folder: Path) -> None:
    health = server.get("/health").json()
    assert health["ready"] and not health["token"] and health["detector"] is None and health["problem"] is None
    assert health["model"]["name"] == folder.name and health["model"]["fingerprint"] == "f0"


def test_the_interface_is_described_without_another_server(server: Served) -> None:
    described = server.get("/openapi.json").json()
    operation = described["paths"]["/predict"]["post"]
    kinds = operation["requestBody"]["content"]
    assert set(kinds) == {"multipart/form-data", "image/*", "application/json"}
    assert {"200", "400", "413", "415", "422"} <= set(operation["responses"])
    assert "images" in kinds["application/json"]["schema"]["properties"]


def test_it_listens_on_loopback_alone(server: Served) -> None:
    sockets = [each for each in psutil.Process(server.process.pid).net_connections() if each.status == "LISTEN"]
    assert [(each.laddr.ip, each.laddr.port) for each in sockets] == [("127.0.0.1", server.port)]


def test_every_answer_has_the_headers_that_protect(server: Served) -> None:
    for answer in (server.get("/"), server.get("/health"), server.get("/nothing"), server.post(b"x"),
                   server.get("/health", Host="evil.example")):  # fmt: skip
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers and "access-control-allow-origin" not in answer.headers


def test_one_connection_carries_many_requests(server: Served) -> None:
    with requests.Session() as session:
        for image in faces(3):
            assert session.post(f"{server.url}/predict", image, headers={"Content-Type": "image/png"}).ok
