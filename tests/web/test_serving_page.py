"""The examples of docs/serving.md run against a real server, and its figures are those of the code."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow_parts import CLASSES, ROOT, constant_model
from patience import PATIENCE
from server_parts import Served, faces, serving

from nla.commands.serve import _parser
from nla.web.answers import Answer
from nla.web.limits import ServerLimits

PAGE = (ROOT / "docs/serving.md").read_text()
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = constant_model(tmp_path_factory.mktemp("model"), 2)
    for name, image in zip(("face.png", "one.png", "two.png"), faces(3), strict=True):
        (folder / name).write_bytes(image)
    with serving(folder, "--cropped", cwd=folder) as served:
        yield served


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_the_python_example_prints_the_face(
    server: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = blocks("python")
    assert ADDRESS in code
    monkeypatch.chdir(str(server.process.args[5]))  # type: ignore[index]
    exec(compile(code.replace(ADDRESS, server.url), "docs/serving.md", "exec"), {})
    assert capsys.readouterr().out.startswith("surprise 0.7")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_examples_are_answered(server: Served) -> None:
    lines = [line for line in blocks("sh")[0].splitlines() if line.startswith("curl")]
    assert len(lines) == 2
    for line, count in zip(lines, (1, 2), strict=True):
        command = shlex.split(line.replace(ADDRESS, server.url))
        done = subprocess.run(
            [*command, "--silent", "--show-error"],
            cwd=Path(server.process.args[5]),  # type: ignore[index]
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        answer = Answer.model_validate_json(done.stdout)
        assert [image.faces[0].label for image in answer.images] == [CLASSES[2]] * count


def test_the_answer_that_is_shown_is_one() -> None:
    (text,) = blocks("json")
    shown = Answer.model_validate_json(text, strict=True)
    assert Answer.model_validate(json.loads(text)).model_dump(mode="json").keys() == json.loads(text).keys()
    (face,) = shown.images[0].faces
    first, second, _ = sorted(face.probabilities.values(), reverse=True)
    assert face.confidence == first and face.ambiguity == pytest.approx(1 - (first - second))
    assert list(face.probabilities) == shown.model.classes


def test_the_limits_are_those_of_the_code() -> None:
    options, limits = vars(_parser().parse_args([])), ServerLimits()
    for name, value in (("max_body", limits.max_body_bytes), ("max_images", limits.max_images),
                        ("max_pixels", limits.images.max_pixels)):  # fmt: skip
        assert options[name] == value and f"| `--{name.replace('_', '-')}` | {value:,}" in PAGE
    assert f"| faces | {limits.max_faces:,} |" in PAGE
    assert f"| requests under way | {limits.max_requests}, and 1 GB of bodies |" in PAGE
    assert limits.max_held_bytes == 10**9
