"""The application from its settings, for one process: `nla serve`, or one replica of many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from fastapi import FastAPI

from nla.models.default_model import chosen_model
from nla.web.app import build_app
from nla.web.guard import LOOPBACK
from nla.web.live_model import FolderSource, LiveModel, ModelSource
from nla.web.metrics import Metrics
from nla.web.settings import ServerSettings


class Assembled(NamedTuple):
    """An application, and the model that it began with."""

    app: FastAPI
    model: LiveModel


def assemble(
    settings: ServerSettings,
    metrics: Metrics,
    *,
    host: str,
    token: str | None,
    all_series: Callable[[], Awaitable[bytes]] | None = None,
) -> Assembled:
    """Loads the model and builds the application.

    Args:
        settings: what is served.
        metrics: its series; one application's alone.
        host: the address that the server listens on.
        token: as `build_app` takes it.
        all_series: as `build_app` takes it.

    Raises:
        NLAError: the model cannot be loaded, or there is no detector.
    """
    source = _source(settings.model, settings.device)
    model = LiveModel(
        source, settings.detector, cropped=settings.cropped, count=lambda outcome: metrics.loads.labels(outcome).inc()
    )
    app = build_app(
        model,
        metrics,
        hosts=[*LOOPBACK, host, *settings.allow_host],
        token=token,
        limits=settings.limits(),
        poll_seconds=settings.poll if source.version() else None,
        all_series=all_series,
    )
    return Assembled(app, model)


def _source(model: str | None, device: str) -> ModelSource:
    if model is not None and model.startswith("models:"):
        from nla.web.registry_source import RegistrySource  # which imports MLflow

        return RegistrySource(model, device)
    return FolderSource(chosen_model(model), device)
