"""Counts and times of requests, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CONTENT_TYPE_LATEST", "Metrics", "Observed", "merged"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PATHS = ("/", "/predict", "/health", "/metrics", "/openapi.json")
"""Paths with series of their own: those that clients make up would grow without end."""
GONE = 499
"""Status of a request whose client went away, as nginx counts it."""


class Metrics:
    """The series of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "nla_requests", "Requests by path and status of the answer.", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "nla_request_seconds", "Time of a request in seconds.", ["path"], buckets=SECONDS, registry=self.registry
        )
        self.in_flight = Gauge("nla_requests_in_flight", "Requests under way.", registry=self.registry)
        self.images = Counter("nla_images", "Images of answered requests.", registry=self.registry)
        self.faces = Counter("nla_faces", "Faces of answered requests.", registry=self.registry)
        self.batch = Histogram(
            "nla_batch_faces", "Faces that are classified together.", buckets=BATCHES, registry=self.registry
        )
        self.loads = Counter("nla_model_loads", "Loads of a newer model.", ["outcome"], registry=self.registry)

    def text(self) -> bytes:
        """All series."""
        return generate_latest(self.registry)

    def series(self) -> list[Metric]:
        """All series, as they can be sent to another process."""
        return list(self.registry.collect())


class _Families:
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(series: Mapping[str, Iterable[Metric]]) -> bytes:
    """The series of several replicas as one text, told apart by the label `replica`."""
    families: dict[str, Metric] = {}
    for replica, metrics in series.items():
        for metric in metrics:
            family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            family.samples += [each._replace(labels={**each.labels, "replica": replica}) for each in metric.samples]
    return generate_latest(_Families(families.values()))


class Observed:
    """ASGI middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = GONE, time.perf_counter()

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        path = scope["path"] if scope["path"] in PATHS else "other"
        self._metrics.in_flight.inc()
        try:
            await self._app(scope, receive, send_observed)
        finally:
            self._metrics.in_flight.dec()
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - started)
