"""A cluster of three Ray nodes with addresses of their own, one of which dies in the middle of the work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from ray_nodes import ADDRESSES, Nodes, three_nodes
from tiny_project import Project, user_environment

pytestmark = [pytest.mark.slow, pytest.mark.thorough]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    with three_nodes(tmp_path, user_environment()) as nodes:
        yield nodes


def test_a_search_and_a_training_outlive_a_node(prepared: Project, nodes: Nodes, tmp_path: Path) -> None:
    project = prepared.copy(tmp_path / "project")
    project.set(
        {
            "tune": {"num_samples": 4, "epochs": 6, "scheduler": "none"},
            "train": {"epochs": 6, "batch_size": 30},
            "ray": {"num_workers": [1, 3], "max_failures": 3},
        }
    )
    search = project.start_dvc("repro", "tune", **nodes.environment)
    search.wait_for(r"trial +1/4")
    nodes.kill(ADDRESSES[1])
    search.wait()
    rows = pq.read_table(project / "reports/tune/trials.parquet").to_pylist()
    assert [(row["status"], row["epochs"]) for row in rows] == [("finished", 6)] * 4

    nodes.start(ADDRESSES[1])
    nodes.wait_for(ADDRESSES)
    # Ray asks for the lost node too, for so long at a time, before it hears that the node is gone.
    room = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10"}
    training = project.start_dvc("repro", "train", **nodes.environment, **room)
    training.wait_for(r"epoch +2/6")
    nodes.kill(ADDRESSES[2])
    printed = training.wait()
    assert "Traceback" not in printed
    record = project.read_json("run.json")
    assert [row["epoch"] for row in record["history"]] == list(range(1, 7))
    assert record["facts"]["workers"] == 2
    assert [before["workers"] for before in record["facts"]["before"]] == [3]
