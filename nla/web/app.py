"""The application: routes, and what runs beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, JSONResponse

import nla
from nla.web.analysis import Prepared, prepare
from nla.web.answers import Answer, Health, Problem, answer, facts
from nla.web.batcher import Batcher
from nla.web.body_limit import BodyLimit
from nla.web.guard import Guard
from nla.web.limits import ServerLimits
from nla.web.live_model import LiveModel
from nla.web.metrics import CONTENT_TYPE_LATEST, GONE, Metrics, Observed
from nla.web.page import page
from nla.web.refusals import Refused, problem
from nla.web.request_images import FORM, JSON, JsonQuestion, read_question

DECODERS = min(4, os.cpu_count() or 1)
"""Threads that decode images and find faces. Each can hold an image of the largest size."""
REFUSALS = (400, 401, 403, 408, 413, 415, 421, 422, 503)
BODY = {
    "required": True,
    "content": {
        FORM: {
            "schema": {
                "type": "object",
                "properties": {
                    "images": {"type": "array", "items": {"type": "string", "format": "binary"}},
                    "cropped": {"type": "boolean"},
                },
            }
        },
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        JSON: {"schema": JsonQuestion.model_json_schema()},
    },
}
"""For openapi.json: the body is read by `read_question`, not by FastAPI."""


class Service:
    """What the routes use."""

    def __init__(self, model: LiveModel, metrics: Metrics, limits: ServerLimits) -> None:
        self.model, self.metrics, self.limits = model, metrics, limits
        self.batcher = Batcher(limits.max_batch, limits.batch_seconds, metrics.batch.observe)
        self.decoders = ThreadPoolExecutor(DECODERS, "decoding")

    async def classify(self, request: Request, cropped: bool) -> Answer:
        """Reads, decodes and classifies the images of a request. Raises Refused."""
        question = await read_question(request, cropped, self.limits)
        model, loop = self.model.current, asyncio.get_running_loop()
        images: list[Prepared] = await asyncio.gather(
            *(
                loop.run_in_executor(self.decoders, prepare, upload, model, question.cropped, self.limits.images)
                for upload in question.uploads
            )
        )
        crops_NHWC = np.concatenate([image.crops_NHWC for image in images])
        if len(crops_NHWC) > self.limits.max_faces:
            raise Refused(413, f"more than {self.limits.max_faces} faces. Send the images in several requests.")
        result = answer(model, images, await self.batcher.predict(model.predictor, crops_NHWC))
        self.metrics.images.inc(len(images))
        self.metrics.faces.inc(len(crops_NHWC))
        return result

    async def own_series(self) -> bytes:
        """The text of /metrics."""
        return self.metrics.text()


def build_app(
    model: LiveModel,
    metrics: Metrics,
    *,
    hosts: Collection[str],
    token: str | None = None,
    limits: ServerLimits | None = None,
    poll_seconds: float | None = None,
    all_series: Callable[[], Awaitable[bytes]] | None = None,
) -> FastAPI:
    """The ASGI application.

    Args:
        model: the model in use.
        metrics: its series; one application's alone.
        hosts: names by which it may be called, without port.
        token: that `Authorization: Bearer` must carry; None if nothing.
        limits: what is accepted; None for the defaults.
        poll_seconds: how often a newer version of the model is looked for; None for never.
        all_series: the text of /metrics; None for `metrics` alone.
    """
    service = Service(model, metrics, limits or ServerLimits())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(service.batcher.run())]
        if poll_seconds is not None:
            tasks.append(asyncio.create_task(model.watch(poll_seconds)))
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.batcher.close()
        service.decoders.shutdown()

    # FastAPI's own pages of the documentation load scripts from another server.
    app = FastAPI(title="NLA", version=nla.__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    _add_routes(app, service, has_token=token is not None)
    _add_metrics(app, all_series or service.own_series)
    _add_refusals(app)
    app.add_middleware(Guard, hosts=hosts, token=token)
    app.add_middleware(BodyLimit, limits=service.limits)
    app.add_middleware(Observed, metrics=metrics)  # the last one added is the first to see a request
    return app


def _add_routes(app: FastAPI, service: Service, *, has_token: bool) -> None:
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in REFUSALS}

    @app.post("/predict", responses=refusals, openapi_extra={"requestBody": BODY})
    async def predict(
        request: Request,
        cropped: Annotated[bool, Query(description="the images are crops of faces already")] = False,
    ) -> Answer:
        """Faces of one or several images, each with label, confidence and probabilities by class name."""
        return await service.classify(request, cropped)

    @app.get("/health")
    async def health(request: Request) -> Health:
        """Whether the server is ready, and with which model."""
        if not request.state.authorized:
            return Health(ready=True, token=has_token)
        model = service.model
        return Health(
            ready=True,
            token=has_token,
            model=facts(model.current),
            detector=model.detector,
            problem=model.problem,
        )

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        text, policy = page()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})


def _add_metrics(app: FastAPI, series: Callable[[], Awaitable[bytes]]) -> None:
    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Series in the text format of Prometheus."""
        return Response(await series(), media_type=CONTENT_TYPE_LATEST)


def _add_refusals(app: FastAPI) -> None:
    """Every error is JSON with a reason in one line."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return problem(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)
