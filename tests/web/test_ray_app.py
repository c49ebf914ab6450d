"""What Ray Serve is given: settings with the names and defaults of `nla serve`, and series of several replicas."""

from __future__ import annotations

import typing
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow_parts import ROOT
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from nla.commands.serve import _parser
from nla.config.base import section
from nla.errors import CommandError, ConfigError
from nla.faces.choice import NAMES
from nla.web.access import token_for
from nla.web.limits import ServerLimits
from nla.web.metrics import Metrics, merged
from nla.web.ray_app import Replica, build
from nla.web.settings import ServerSettings

FILE = ROOT / "cluster/serve.yaml"


def test_the_file_states_every_setting_with_its_default() -> None:
    args = YAML(typ="safe", pure=True).load(FILE)["applications"][0]["args"]
    settings = section(ServerSettings, {"args": args})
    assert args.keys() == ServerSettings.model_fields.keys()
    assert settings == ServerSettings(model=args["model"])


def test_settings_are_the_options_of_nla_serve() -> None:
    options = vars(_parser().parse_args([]))
    settings = ServerSettings()
    assert options.keys() - ServerSettings.model_fields.keys() == {"host", "port"}
    assert {name: options[name] for name in ServerSettings.model_fields if name != "allow_host"} == settings.model_dump(
        exclude={"allow_host"}
    )
    assert typing.get_args(ServerSettings.model_fields["detector"].annotation) == NAMES
    assert settings.limits() == ServerLimits()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"modle": "models"}, r"unknown key 'args\.modle': did you mean 'model'\?"),
        ({"max_batch": 0}, r"args\.max_batch: .*greater than 0"),
        ({"poll": "10"}, r"args\.poll: "),
        ({"batch_wait": 1e9}, r"args\.batch_wait: .*1000"),
        ({"detector": "other"}, r"args\.detector: .*yunet"),
    ],
)
def test_what_no_server_can_be_told_is_named(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(args)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "node.example"])
def test_other_machines_need_a_token(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("NLA_TOKEN", raising=False)
    assert token_for("127.0.0.1", "http_options.host:") is None
    with pytest.raises(CommandError, match=rf"http_options.host: {host}: other machines .* Set NLA_TOKEN"):
        token_for(host, "http_options.host:")
    client = SimpleNamespace(http_config=SimpleNamespace(host=host))
    monkeypatch.setattr("nla.web.ray_app._get_global_client", lambda: client)
    with pytest.raises(CommandError, match="needs a token"):
        Replica(ServerSettings()).__serve_build_asgi_app__()
    monkeypatch.setenv("NLA_TOKEN", "t" * 20)
    assert token_for(host, "http_options.host:") == "t" * 20


def test_series_of_replicas_are_one_text_that_tells_them_apart() -> None:
    replicas = {name: Metrics() for name in ("a", "b")}
    for n, metrics in enumerate(replicas.values(), 1):
        metrics.requests.labels("/predict", "200").inc(n)
        metrics.batch.observe(10 * n)
    text = merged({name: metrics.series() for name, metrics in replicas.items()}).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert text.count("# TYPE nla_requests_total counter") == 1
    counted = {sample.labels["replica"]: sample.value for sample in families["nla_requests"].samples}
    assert counted == {"a": 1, "b": 2}
    sums = {s.labels["replica"]: s.value for s in families["nla_batch_faces"].samples if s.name.endswith("_sum")}
    assert sums == {"a": 10, "b": 20}
    alone = text_string_to_metric_families(replicas["a"].text().decode())
    assert {family.name for family in alone} == set(families)
