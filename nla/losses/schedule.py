"""How a part of a loss comes in over the training."""

from __future__ import annotations

import math


def rise(progress: float, slope: float) -> float:
    """1 - exp(-slope * progress) with progress = epoch / epochs, 0 at the start: NAW's, arXiv 2502.09993."""
    return 1 - math.exp(-slope * progress)
