"""The same application under Ray Serve: replicas on the nodes of a cluster, for `serve run cluster/serve.yaml`.

Each replica is what one `nla serve` is: it batches what it is sent, looks for newer versions of its model, and has
limits of its own. Ray's proxies take the connections, and give each request to the less busy of two replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI
from prometheus_client.metrics_core import Metric
from ray import serve
from ray.exceptions import ActorDiedError
from ray.serve.context import _get_global_client

from nla.config.base import section
from nla.telemetry import disable_telemetry
from nla.web.access import token_for
from nla.web.limits import ServerLimits
from nla.web.metrics import Metrics, merged
from nla.web.refusals import Refused
from nla.web.server import GRACE_SECONDS
from nla.web.settings import ServerSettings

DEPLOYMENT = "NLA"
SERIES_SECONDS = 9.0
"""How long /metrics waits for all replicas; Prometheus waits for 10 s."""


NO_ANSWER = Refused(503, "a replica does not answer. Ask again later.", {"Retry-After": "1"})


class Replica:
    """One copy of the application."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings, self._metrics = settings, Metrics()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray. Raises NLAError if the model cannot be loaded, or a token is missing."""
        disable_telemetry()
        host = str(cast(Any, _get_global_client()).http_config.host)  # one for all nodes
        token = token_for(host, "http_options.host:")
        from nla.web.assembly import assemble  # PyTorch takes seconds, and the process that calls `build` needs none

        return assemble(self._settings, self._metrics, host=host, token=token, all_series=self._all_series).app

    def series(self) -> tuple[str, list[Metric]]:
        """The name of this replica, and its series."""
        return serve.get_replica_context().replica_id.unique_id, self._metrics.series()

    async def _all_series(self) -> bytes:
        context = serve.get_replica_context()
        handle = serve.get_deployment_handle(context.deployment, context.app_name)
        try:
            found = await handle.broadcast("series").results_async(timeout_s=SERIES_SECONDS, return_exceptions=True)
        except TimeoutError:  # a part of the series would look as if replicas had ended
            raise NO_ANSWER from None
        alive = [each for each in found if not isinstance(each, ActorDiedError)]
        if any(isinstance(each, BaseException) for each in alive):
            raise NO_ANSWER
        return merged(dict(sorted(alive)))


def build(args: Mapping[str, Any]) -> serve.Application:
    """What cluster/serve.yaml imports; its `deployments` replace the options given here.

    Args:
        args: values of `ServerSettings`.

    Raises:
        ConfigError: a key is unknown, or a value is not valid.
    """
    settings = section(ServerSettings, {ServerSettings.NAME: args}, "application")
    deployment = serve.deployment(
        name=DEPLOYMENT,
        max_ongoing_requests=ServerLimits().max_requests,
        max_queued_requests=ServerLimits().max_requests,  # of each proxy, whose memory they take
        graceful_shutdown_timeout_s=GRACE_SECONDS,
        logging_config={"enable_access_log": False},  # no record of who asks
    )(serve.ingress()(Replica))
    return deployment.bind(settings)
