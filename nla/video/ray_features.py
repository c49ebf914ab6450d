"""Features on Ray: tasks of some videos each, as many at once as fit, each in its own process.

The driver reads the images and writes the features, so that the nodes need no shared folder, and what is complete stays
if the stage ends. It holds the images and the features of the tasks that run, however many videos there are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import ray
import torch
from torch import Tensor

from nla.config.ray import RayConfig
from nla.errors import ClusterError, NLAError
from nla.limits import ImageLimits
from nla.models.classifier import Classifier
from nla.ray_cluster import Cluster
from nla.ray_tasks import run_tasks
from nla.video.features import Compute, Images, video_tensors

FRAMES_PER_TASK = 1024
"""Least number of frames of a task, of whole videos: seconds of work, beside which the start of a task is little."""
Bundle = list[tuple[int, list[tuple[int, bytes]]]]
"""(number of a video, its (row, encoded image) pairs)."""
Arrays = dict[str, np.ndarray]


def on_ray(cluster: Cluster, config: RayConfig, model: Classifier, limits: ImageLimits) -> Compute:
    """Computes features on the cluster, with the resources of a trial for each task.

    The first error ends all tasks.

    Args:
        cluster: where they run.
        config: resources of a task.
        model: the frame model, in eval mode, on the CPU.
        limits: largest image that is decoded.
    """
    shared = {"model": ray.put(model), "limits": limits}

    def compute(videos: Iterable[tuple[int, Images]]) -> Iterator[tuple[int, dict[str, Tensor]]]:
        tasks = ((None, {**shared, "bundle": bundle}) for bundle in bundles(videos))
        with contextlib.closing(run_tasks(cluster, config, bundle_arrays, tasks)) as ended:
            for _, result in ended:
                for number, arrays in _of_a_task(result):
                    # copied: arrays from Ray's store are read-only, which PyTorch has no tensors for
                    yield number, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    return compute


def bundles(videos: Iterable[tuple[int, Images]]) -> Iterator[Bundle]:
    """Consecutive videos in lists of FRAMES_PER_TASK frames or more, the last one excepted."""
    bundle: Bundle = []
    for number, images in videos:
        bundle.append((number, list(images)))
        if sum(len(own) for _, own in bundle) >= FRAMES_PER_TASK:
            yield bundle
            bundle = []
    if bundle:
        yield bundle


def bundle_arrays(
    model: Classifier, limits: ImageLimits, bundle: Bundle, cpus: int, gpu: bool
) -> list[tuple[int, Arrays]]:
    """The task: (number, arrays of its file) of each video. Raises DataError as `nla.video.features.extract`."""
    torch.set_num_threads(cpus)
    model = model.to("cuda" if gpu else "cpu")
    return [(number, _arrays(video_tensors(model, images, limits))) for number, images in bundle]


def _arrays(tensors: Mapping[str, Tensor]) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _of_a_task(result: Any) -> list[tuple[int, Arrays]]:
    if isinstance(result, ClusterError):
        raise ClusterError(f"features: a task failed: {result}")
    if isinstance(result, NLAError):
        raise result
    found: list[tuple[int, Arrays]] = result
    return found
