"""Small data for the tests of studies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from training_parts import MakeSamples

from nla.data.samples import Annotations
from nla.study.variants import Variant
from nla.training.trainer import Split


def variant_of(tiny_samples: MakeSamples) -> Variant:
    """56 training rows, the first ten of them flipped, without votes; 9 of 30 flipped in validation."""
    train = tiny_samples(56)
    is_flipped_N = np.arange(56) < 10
    known = Annotations(None, None, (train.label_N + is_flipped_N) % 3, is_flipped_N)
    valid = tiny_samples(30, seed=1)
    noisy = replace(valid, label_N=np.where(np.arange(30) < 9, (valid.label_N + 1) % 3, valid.label_N))
    return Variant(Split(train, noisy, valid.label_N), known, tiny_samples(40, seed=2))
