"""docs/networks.md, followed word for word."""

from __future__ import annotations

from pathlib import Path

import pytest
from worked_example import copy_of_project, follow, run

TRAIN_ONE_BATCH = """
import torch, nla
from pathlib import Path
from nla.models.classifier import Architecture, Classifier, ImageSpec
from nla.training.job import training_config

assert Path(nla.__file__).is_relative_to(Path.cwd())
config = training_config({"model": {"name": "plain"}, "loss": {"name": "eac"}})  # a method that needs feature maps
torch.manual_seed(0)
model = Classifier(Architecture.of(config.model, 3), ImageSpec(48, 1, (0.5,), (0.25,)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
images_NHWC, label_N = torch.randint(0, 256, (12, 48, 48, 1), dtype=torch.uint8), torch.arange(12) % 3
losses = []
for _ in range(5):
    loss = torch.nn.functional.cross_entropy(model(images_NHWC), label_N)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(loss.item())
print("learns" if losses[-1] < losses[0] else losses)
"""


@pytest.mark.slow
@pytest.mark.thorough
def test_a_network_is_added_as_the_page_shows(tmp_path: Path) -> None:
    project = copy_of_project(tmp_path)
    files = follow("docs/networks.md", "Adding a network", project)
    assert files == ["nla/models/plain.py", "nla/config/network_catalog.py", "nla/models/network_registry.py"]
    run(project, "-m", "nla.workflow.deps", "--write")
    run(project, "-m", "nla.workflow.deps", "--check")
    assert "nla/models/plain.py" in (project / "dvc.yaml").read_text()
    assert run(project, "-c", TRAIN_ONE_BATCH) == "learns\n"
    passed = run(
        project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/models/test_network_registry.py", "-k", "plain"
    )
    assert " passed" in passed and "plain" in run(project, "-m", "pytest", "--collect-only", "-q", "tests/models")
