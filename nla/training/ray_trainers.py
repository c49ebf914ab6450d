"""Ray Train's trainer without what a stage does not need.

What is left out is chosen in methods of Ray that are not public: pyproject.toml holds the versions that have them.
"""

from __future__ import annotations

from typing import Any

from ray.train import Result
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.callback import RayTrainCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

NOT_NEEDED = (
    DatasetsCallback,  # hands out shards of Ray datasets: there are none
    PlacementGroupCleanerCallback,  # frees the workers of a training that ended while its Ray lives on
)


class RayTrainer(DataParallelTrainer):
    """Leaves Ctrl-C to the stage: after Ray's own handler of it, the exit code would be that of success."""

    def _register_sigint_handler(self, controller: Any) -> None:
        pass


class LocalRayTrainer(RayTrainer):
    """For a Ray that has been started for one driver, ends with it and never grows.

    Each of the helpers that it leaves out is a process that imports Ray Data, and training waits for it.
    """

    def _create_default_callbacks(self) -> list[RayTrainCallback]:
        return [callback for callback in super()._create_default_callbacks() if not isinstance(callback, NOT_NEEDED)]

    def _initialize_and_run_controller(self, **parts: Any) -> Result:
        policy = _FixedSize(parts["scaling_policy"].scaling_config)
        return super()._initialize_and_run_controller(**{**parts, "scaling_policy": policy})


class _FixedSize(FixedScalingPolicy):
    """Asks no autoscaler for nodes."""

    def _send_resource_request(self) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass
