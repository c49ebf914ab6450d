"""cluster/: what its tools' own validators say of each file, and that they agree with the project."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from ray.serve.schema import ServeDeploySchema
from ruamel.yaml import YAML

from nla.web.limits import ServerLimits
from nla.web.ray_app import DEPLOYMENT, build

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "cluster"
KUBERNETES = "1.33"
FIELDS = {
    "RayCluster": {"rayVersion", "authOptions", "enableInTreeAutoscaling", "headGroupSpec", "workerGroupSpecs"},
    "RayJob": {"entrypoint", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "rayClusterSpec"},
}
"""KubeRay 1.6's names, of those in use: its definitions are no package."""


def read(name: str) -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(FOLDER / name)


def clusters() -> dict[str, dict[str, Any]]:
    """The specification of each Ray cluster on Kubernetes."""
    return {
        "kuberay-cluster.yaml": read("kuberay-cluster.yaml")["spec"],
        "kuberay-job.yaml": read("kuberay-job.yaml")["spec"]["rayClusterSpec"],
    }


def test_rays_launcher_takes_its_file() -> None:
    config = read("launcher.yaml")
    validate_config(prepare_config(copy.deepcopy(config)))
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config({**config, "max_worker": 2}))
    assert config["max_workers"] == config["min_workers"] == len(config["provider"]["worker_ips"])


def test_kubernetes_takes_volume_and_pods() -> None:
    kubernetes_validate.validate(read("kuberay-storage.yaml"), KUBERNETES, strict=True)
    for name, cluster in clusters().items():
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
            (volume,) = group["template"]["spec"]["volumes"]
            claim = volume["persistentVolumeClaim"]["claimName"]
            assert claim == read("kuberay-storage.yaml")["metadata"]["name"], name


def test_clusters_are_of_the_locked_ray_and_ask_for_a_token() -> None:
    (version,) = re.findall(r"^ray==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    for cluster in clusters().values():
        assert cluster["rayVersion"] == version
        assert cluster["authOptions"] == {"mode": "token"}
        assert cluster.keys() <= FIELDS["RayCluster"]
    assert read("kuberay-job.yaml")["spec"].keys() == FIELDS["RayJob"]
    for name in ("launcher.yaml", "slurm.sh"):
        assert "RAY_AUTH_MODE=token" in (FOLDER / name).read_text()


def test_training_goes_to_the_workers() -> None:
    for cluster in clusters().values():
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        assert all("num-cpus" not in group["rayStartParams"] for group in cluster["workerGroupSpecs"])


def test_the_first_commands_of_the_docs_ask_for_a_token() -> None:
    text = (ROOT / "docs/cluster.md").read_text()
    made, asked, started = (
        text.index(words) for words in ("ray get-auth-token --generate", "RAY_AUTH_MODE=token", "ray start --head")
    )
    assert made < asked < started


def test_shellcheck_finds_nothing() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, FOLDER / "slurm.sh"], check=True)
    assert os.access(FOLDER / "slurm.sh", os.X_OK)


def test_ray_takes_the_runtime_environment() -> None:
    assert RuntimeEnv(**read("runtime_env.yaml"))["env_vars"]


def test_ray_serve_takes_its_file_and_builds_the_application() -> None:
    schema = ServeDeploySchema.model_validate(read("serve.yaml"))
    (application,) = schema.applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    assert schema.http_options.host == "127.0.0.1"  # Ray's own default is all interfaces
    (deployment,) = application.deployments
    assert deployment.name == DEPLOYMENT == build(application.args)._bound_deployment.name
    assert deployment.max_ongoing_requests == deployment.max_queued_requests == ServerLimits().max_requests
    assert not schema.logging_config.enable_access_log


def test_compose_takes_its_file() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, FOLDER / "compose.yaml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_shared_store_is_pinned_and_open_to_this_machine_only() -> None:
    services = read("compose.yaml")["services"]
    installed = re.findall(r"([a-z0-9]+)(?:\[\w+\])?==([\w.]+)", services["mlflow"]["build"]["dockerfile_inline"])
    assert {name for name, _ in installed} == {"mlflow", "psycopg", "boto3"}
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    assert all(f"{name}=={version}" in lock for name, version in installed)
    for name, service in services.items():
        image = service["image"]
        assert "build" in service or re.search(r":(?!latest)[\w.-]+$", image), name
        assert service["healthcheck"]["test"] and service["restart"] == "unless-stopped"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for key, value in service["environment"].items():
            if "PASSWORD" in key or "SECRET" in key:
                assert re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name}: {key} has no default"
    assert services["mlflow"]["depends_on"] == {name: {"condition": "service_healthy"} for name in ("postgres", "s3")}
