"""What a run reports after each epoch, to whoever keeps its checkpoints or compares it with others."""

from __future__ import annotations

from dataclasses import dataclass

VALID, KEPT, IS_LAST = "valid_", "kept_", "is_last"
"""Names in the reports to Ray: the prefixes of an epoch's validation metrics and of those of the epoch that is kept so
far, and the key that says whether training has ended."""


@dataclass(frozen=True)
class EpochReport:
    """What a run has reached after an epoch."""

    row: dict[str, int | float]
    """The history's row of the epoch."""
    kept_row: dict[str, int | float]
    """That of the epoch whose weights are kept so far."""
    is_last: bool
    """Whether training ends with it, at its last epoch or by `train.patience`."""

    @property
    def metrics(self) -> dict[str, int | float | bool]:
        """For Ray: the row, kept_METRIC for each valid_METRIC of the kept one, and IS_LAST."""
        valid = {name: value for name, value in self.kept_row.items() if name.startswith(VALID)}
        kept = {f"{KEPT}{name.removeprefix(VALID)}": value for name, value in valid.items()}
        return {**self.row, **kept, IS_LAST: self.is_last}
