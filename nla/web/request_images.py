"""The images of a request: files of a form, one image as it is, or base64 in JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from nla.errors import DataError
from nla.io import parse_json_as
from nla.serving.base64_images import decoded_base64
from nla.text import shortened
from nla.web.limits import ServerLimits
from nla.web.refusals import Refused

FORM, JSON, IMAGE = "multipart/form-data", "application/json", "image/"
FIELDS = 10
"""Of a form, beside files: `cropped` is the only one that is read."""
logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each form that a client gets wrong
KINDS = f'{FORM}, {IMAGE}*, or {JSON} with {{"images": [BASE64, ...]}}'


@dataclass(frozen=True)
class Upload:
    """An encoded image."""

    name: str
    """For messages, such as `image 0 (face.jpg)`."""
    content: bytes


@dataclass(frozen=True)
class Question:
    """What a client asks."""

    uploads: tuple[Upload, ...]
    cropped: bool
    """Whether the images are crops of faces already."""


class JsonQuestion(BaseModel):
    """The body of a request as JSON."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: Annotated[list[str], Field(description="PNG, JPEG, BMP or WebP files as base64, or data: addresses")]
    cropped: bool = False


async def read_question(request: Request, cropped: bool, limits: ServerLimits) -> Question:
    """Reads the images of a request.

    Args:
        request: what arrives; `BodyLimit` has its size in view.
        cropped: as the address says; a form or JSON can say it, too.
        limits: how many images.

    Raises:
        Refused: 400: empty or not what it says to be; 413: too many or too large images; 415: another type; 422: JSON
            with other fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == FORM:
        question = await _form(request, limits)
    elif kind.startswith(IMAGE):
        question = Question((Upload("image 0", await request.body()),), False)
        if not question.uploads[0].content:
            raise Refused(400, "the body is empty. Send an image.")
    elif kind == JSON:
        question = await asyncio.to_thread(_json, await request.body(), limits)
    else:
        raise Refused(415, f"Content-Type: not supported (got {shortened(kind)!r}). Send {KINDS}.")
    if not question.uploads:
        raise Refused(400, "no image is in the request. Send one at least.")
    if len(question.uploads) > limits.max_images:
        raise _too_many(limits)
    return Question(question.uploads, question.cropped or cropped)


async def _form(request: Request, limits: ServerLimits) -> Question:
    parser = MultiPartParser(request.headers, _parts(request), max_files=limits.max_images, max_fields=FIELDS)
    try:
        return await _read_form(await parser.parse())
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(limits) from None
        raise Refused(400, f"not a form that can be read: {error.message}") from None
    except (KeyError, UnicodeError, ValueError) as error:  # no boundary, or headers that are no text
        raise Refused(400, f"not a form that can be read ({type(error).__name__}).") from None
    finally:
        # All temporary ones; the form lacks that of a part cut off. The list is private: without it they wait for the
        # garbage collector.
        for file in getattr(parser, "_files_to_close_on_error", ()):
            file.close()


async def _read_form(form: FormData) -> Question:
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    uploads = [Upload(_named(n, file.filename), await file.read()) for n, file in enumerate(files)]
    return Question(tuple(uploads), _flag(form.get("cropped")))


async def _parts(request: Request) -> AsyncGenerator[bytes, None]:
    async for part in request.stream():
        yield part


def _flag(value: object) -> bool:
    if value in (None, "", "false", "0"):
        return False
    if value in ("true", "1", "on"):
        return True
    raise Refused(422, f"cropped: must be true or false (got {shortened(str(value))!r}).")


def _named(number: int, file: str | None) -> str:
    return f"image {number} ({shortened(file)})" if file else f"image {number}"


def _json(body: bytes, limits: ServerLimits) -> Question:
    if not body.strip():
        raise Refused(400, 'the body is empty. Send {"images": [BASE64, ...]}.')
    try:
        asked = parse_json_as(body, JsonQuestion, "body", 'Send {"images": [BASE64, ...]}.')
    except DataError as error:
        raise Refused(400 if "not valid JSON" in str(error) else 422, str(error)) from None
    if len(asked.images) > limits.max_images:
        raise _too_many(limits)
    return Question(tuple(_decoded(n, text, limits) for n, text in enumerate(asked.images)), asked.cropped)


def _decoded(number: int, text: str, limits: ServerLimits) -> Upload:
    try:
        return Upload(f"image {number}", decoded_base64(text.encode(errors="replace"), limits.images))
    except DataError as error:
        raise Refused(413, f"image {number}: {error}.") from None
    except ValueError:
        raise Refused(422, f"image {number}: not base64. Encode the content of an image file.") from None


def _too_many(limits: ServerLimits) -> Refused:
    return Refused(413, f"more than {limits.max_images} images. Send them in several requests.")
