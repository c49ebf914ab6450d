"""What a training starts from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from training_parts import make_job, make_trainer

from nla.training.job import with_first_weights

NO_IMAGES = np.empty((0, 16, 16, 1), np.uint8)


def started(seed: int, root: Path) -> dict[str, torch.Tensor]:
    job = make_job(model={"weights": "face.safetensors"}, seed=seed)
    torch.manual_seed(99)  # whatever was drawn before
    return make_trainer(with_first_weights(job, NO_IMAGES, root)[0]).network.backbone.state_dict()


def test_a_new_head_is_drawn_from_the_seed(tmp_path: Path) -> None:
    """The file's has other classes; all else is the file's, whatever the seed."""
    given = replace(make_job(), num_classes=5).build().backbone.state_dict()
    save_file(given, tmp_path / "face.safetensors")
    one, again, other = (started(seed, tmp_path) for seed in (0, 0, 1))
    for name, tensor in one.items():
        torch.testing.assert_close(again[name], tensor, rtol=0, atol=0)
        if name.startswith("fc."):
            assert not torch.equal(other[name], tensor)
        else:
            torch.testing.assert_close(tensor, given[name], rtol=0, atol=0)
