"""Schedule by which a part of a loss is phased in during training."""

from __future__ import annotations

import math


def rise(progress: float, slope: float) -> float:
    """1 - exp(-slope * progress) with progress = epoch / epochs, so 0 at the start; as in NAW, arXiv 2502.09993."""
    return 1 - math.exp(-slope * progress)
