"""`nla doctor`: what this machine and this project have, and what to do about what is missing. It changes nothing."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from nla.commands.parser import Parser
from nla.config.audit import AuditConfig
from nla.config.base import read_params, section
from nla.config.data import DataConfig
from nla.config.evaluate import EvaluateConfig
from nla.config.ray import RayConfig
from nla.config.register import RegisterConfig
from nla.config.tune import TuneConfig
from nla.console import say
from nla.data.sources import SOURCES, open_source
from nla.errors import is_explained, user_message
from nla.faces.choice import available
from nla.hardware import cores, cpu, memory, use_bf16
from nla.models.default_model import SHIPPED, has_model
from nla.models.saved_model import read_card, weights_file
from nla.models.weights import weights_path
from nla.tracking.probe import probe_store
from nla.training.job import training_config
from nla.workflow.paths import project_root

State = Literal["ok", "note", "fault"]
GIB = 1 << 30
DISK_NOTE, DISK_FAULT = 10.0, 1.0
"""Free GiB below which FERPlus with a search may not fit, and below which the drawn faces with their runs do not."""
MEMORY_NOTE = 4.0
"""GiB of memory below which Ray and a training do not fit side by side."""
PORTS = {5000: "`make ui` needs another one: `make PORT=5001 ui`", 8265: "Ray's dashboard takes the next free one"}
"""Ports of this machine's own address, and what to know if they are taken."""
DRIVER = Path("/proc/driver/nvidia/version")
"""Made by NVIDIA's driver on Linux."""


class Finding(NamedTuple):
    """One line of the report."""

    subject: str
    state: State
    text: str
    remedy: str = ""


def main(argv: Sequence[str]) -> None:
    """Prints all findings; exits with code 1 if one of them is a fault."""
    parser = Parser("nla doctor", description="What this machine and project have, and what to do about the rest.")
    parser.parse_args(argv)
    findings = list(examine(Path.cwd()))
    for line in report(findings):
        say(line)
    if any(finding.state == "fault" for finding in findings):
        raise SystemExit(1)


def examine(project: Path) -> Iterator[Finding]:
    """All findings; outside a project, those of the machine."""
    for check in (
        _python,
        _packages,
        _extras,
        _detectors,
        _shipped,
        _processor,
        _gpu,
        _ports,
        partial(_disks, project),
    ):
        yield from _guarded("machine", check)
    if not (project / "params.yaml").is_file():
        yield Finding("project", "note", "no params.yaml here", "Run this in a project's root to check it, too.")
        return
    params: dict[str, Any] = {}
    yield from _guarded("params.yaml", partial(_params, project, params))
    yield from _guarded("git", partial(_git, project))
    if params:
        yield from _guarded("data", partial(_data, project, params))
        yield from _guarded("weights", partial(_weights, project, params))
        yield from _guarded("model", partial(_model, project))
    yield from _guarded("MLflow", lambda: [Finding("MLflow", "ok", probe_store(project_root()))])


def report(findings: Sequence[Finding]) -> Iterator[str]:
    """A line for each finding with its remedy below it, and a summary."""
    width = max(len(finding.subject) for finding in findings)
    for subject, state, text, remedy in findings:
        first, *rest = [*text.splitlines(), *remedy.splitlines()]
        yield f"{state:5}  {subject:{width}}  {first}"
        yield from (f"{'':5}  {'':{width}}  {line}" for line in rest)
    counts = {state: sum(finding.state == state for finding in findings) for state in ("ok", "note", "fault")}
    yield ", ".join(f"{n} {state}" if state == "ok" or n == 1 else f"{n} {state}s" for state, n in counts.items())


def _guarded(subject: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """The findings of a check. An error that is meant for users is a fault: its message has the remedy."""
    try:
        yield from check()
    except Exception as error:
        if not is_explained(error):
            raise
        yield Finding(subject, "fault", user_message(error))


def _python() -> Iterator[Finding]:
    own, supported = platform.python_version(), importlib.metadata.metadata("nla")["Requires-Python"]
    if own in SpecifierSet(supported):
        yield Finding("Python", "ok", own)
    else:
        yield Finding("Python", "fault", f"{own}, not {supported}", "Run `make PYTHON=python3.11 setup`.")


def _packages() -> Iterator[Finding]:
    """Whether what the package needs is installed in the versions that it is made for."""
    required = [requirement for requirement in _requirements() if requirement.marker is None]
    wrong = [problem for requirement in required if (problem := _problem(requirement))]
    if wrong:
        yield Finding("packages", "fault", "\n".join(wrong), "Run `make setup`, or `pip install -e .` in its place.")
    else:
        yield Finding("packages", "ok", f"{len(required)} in versions that are supported")


def _extras() -> Iterator[Finding]:
    """Which optional features can be used."""
    extras = importlib.metadata.metadata("nla").get_all("Provides-Extra") or []
    lacks = {
        extra: [r.name for r in _requirements() if r.marker and r.marker.evaluate({"extra": extra}) and _problem(r)]
        for extra in extras
    }
    if complete := [extra for extra, missing in lacks.items() if not missing]:
        yield Finding("extras", "ok", ", ".join(complete))
    if missing := [extra for extra, packages in lacks.items() if packages]:
        yield Finding(
            "extras",
            "note",
            f"not installed: {', '.join(missing)}",
            f"For one of them: `pip install -e .[{missing[0]}]`.",
        )


def _detectors() -> Iterator[Finding]:
    """Which detectors of faces `nla predict` can use on photos; one is enough."""
    found = available()
    if ready := [detector for detector in found if detector.is_ready]:
        first, *others = (f"{detector.name}, {detector.text}" for detector in ready)
        yield Finding("detectors", "ok", "\n".join([first, *others]))
    for detector in found:
        if detector.is_damaged:
            yield Finding("detectors", "fault", f"{detector.name}: {detector.text}")
        elif not detector.is_ready:
            yield Finding("detectors", "note", f"{detector.name}: {detector.text}", detector.remedy)


def _shipped() -> Iterator[Finding]:
    """The model that answers where none is trained yet."""
    if not has_model(SHIPPED):
        text = "none comes with this installation"
        yield Finding("NLA's model", "note", text, "Name one by --model, or train one: `make repro`.")
        return
    card = read_card(weights_file(SHIPPED))
    yield Finding("NLA's model", "ok", f"trained on {card['source']}, {len(card['classes'])} classes: {SHIPPED}")


def _requirements() -> list[Requirement]:
    return [Requirement(text) for text in importlib.metadata.requires("nla") or []]


def _problem(requirement: Requirement) -> str:
    """What is wrong with an installed package; empty if nothing is."""
    try:
        installed = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{requirement.name} {installed} is installed, but {requirement.specifier} is needed"


def _processor() -> Iterator[Finding]:
    import torch

    precision = "bf16" if use_bf16("auto", torch.device("cpu")) else "fp32"
    yield Finding("processor", "ok", f"{cores()} cores of {cpu().get('model name', 'unknown')}, trains in {precision}")
    available = memory() / GIB
    if available < MEMORY_NOTE:
        yield Finding("memory", "note", f"{available:.1f} GiB", "Set ray.num_workers to 0, which trains without Ray.")
    else:
        yield Finding("memory", "ok", f"{available:.1f} GiB")


def _gpu() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            found = torch.cuda.get_device_properties(index)
            yield Finding("GPU", "ok", f"{found.name}, {found.total_memory / GIB:.0f} GiB")
    elif DRIVER.exists():
        text = f"NVIDIA's driver is installed, but PyTorch {torch.__version__} finds no GPU"
        yield Finding(
            "GPU", "fault", text, "Install a build of PyTorch for its version of CUDA (docs/troubleshooting.md)."
        )
    else:
        yield Finding("GPU", "note", "none: runs train on the processor")


def _ports() -> Iterator[Finding]:
    for port, consequence in PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                yield Finding("ports", "note", f"{port} is taken", f"{consequence[0].upper()}{consequence[1:]}.")


def _disks(project: Path) -> Iterator[Finding]:
    for name, folder in (("project", project), ("temporary files", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(folder).free / GIB
        text = f"{free:.1f} GiB are free for {name}"
        if free < DISK_NOTE:
            remedy = "Free some; `make clean` removes what can be made again."
            yield Finding("disk", "fault" if free < DISK_FAULT else "note", text, remedy)
        else:
            yield Finding("disk", "ok", text)


def _params(project: Path, params: dict[str, Any]) -> Iterator[Finding]:
    """Reads and checks all sections of params.yaml into `params`."""
    found = read_params(project / "params.yaml")
    for kind in (DataConfig, AuditConfig, EvaluateConfig, TuneConfig, RegisterConfig, RayConfig):
        section(kind, found)
    training_config(found)
    params |= found
    yield Finding("params.yaml", "ok", "valid")


def _git(project: Path) -> Iterator[Finding]:
    if not (project / ".dvc").is_dir():
        yield Finding("DVC", "fault", "no folder .dvc", "Run `dvc init`, or clone the project again.")
    if (project / ".git").exists():
        yield Finding("git", "ok", "runs record their commit")
    else:
        text = "none: runs have no commit, and `dvc exp run` does not work"
        yield Finding("git", "note", text, "Run `git init`, `git add .` and `git commit -m start`.")


def _data(project: Path, params: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the files of the chosen source are there, and which other sources have a folder."""
    config = section(DataConfig, params)
    raw = project / config.raw
    open_source(config, raw / config.source)
    yield Finding(
        "data", "ok", f"{config.source}: {'drawn, it needs no files' if config.source == 'synthetic' else raw}"
    )
    others = [
        name for name in SOURCES if name != config.source and (raw / name).is_dir() and any((raw / name).iterdir())
    ]
    if others:
        yield Finding("data", "ok", f"files of other sources in {config.raw}: {', '.join(others)}")


def _weights(project: Path, params: Mapping[str, Any]) -> Iterator[Finding]:
    weights = training_config(params).model.weights
    if weights is None:
        yield Finding("weights", "note", "none: training starts from scratch", "Better ones: docs/weights.md.")
    else:
        yield Finding("weights", "ok", str(weights_path(weights, project)))


def _model(project: Path) -> Iterator[Finding]:
    if not (project / "models/model.safetensors").is_file():
        yield Finding("model", "note", "none is trained yet", "Run `make repro`.")
        return
    card = read_card(weights_file(project / "models"))
    yield Finding("model", "ok", f"trained on {card['source']}, {len(card['classes'])} classes, epoch {card['epoch']}")
