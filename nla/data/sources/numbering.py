"""Labels that are numbered from another start than the data set's: a fault of the whole file, not of single rows.

If a list numbers seven classes from 0 instead of 1, only the zeros are out of range. Leaving them out, as quarantine
does with bad rows, would give every other row the class of its neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nla.errors import DataError


def check_numbering(where: str, labels: Iterable[int | str], first: int, last: int) -> None:
    """Refuses labels that are shifted by one against `first` to `last`; labels that are no whole numbers do not count.

    They are shifted down if `first` - 1 occurs and `last` does not, and up if `first` does not occur, and either
    `last` + 1 or all others do. A set with fewer than half of the labels tells nothing.

    Raises:
        DataError: they are shifted; the message begins with `where`.
    """
    found, valid = {int(label) for label in labels if is_whole(label)}, range(first, last + 1)
    is_down = first - 1 in found and last not in found
    is_up = first not in found and (last + 1 in found or found >= set(valid[1:]))
    if (is_down or is_up) and len(found & set(valid)) >= len(valid) // 2:
        step, lowest = ("Add 1 to", first - 1) if is_down else ("Subtract 1 from", first + 1)
        raise DataError(
            f"{where}: labels must be numbered from {first} to {last} (got {lowest} to {lowest + last - first}). The "
            "file as a whole has another numbering, so leaving out rows would give all others the class of their "
            f"neighbour. {step} each label, or get the file again."
        )


def check_splits(where: str, classes: Sequence[str], labels: Iterable[tuple[str, str]]) -> None:
    """Refuses a split whose numbered classes are shifted against those of train, which are `classes`.

    Args:
        where: what the message begins with.
        classes: classes of train; nothing is checked unless they are consecutive whole numbers.
        labels: (split, label) pairs.

    Raises:
        DataError: a split is shifted.
    """
    numbers = sorted(int(name) for name in classes if is_whole(name))
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(classes))):
        return
    found: dict[str, set[str]] = {}
    for split, label in labels:
        found.setdefault(split, set()).add(label)
    for split, given in found.items():
        check_numbering(f"{where}, {split}", given, numbers[0], numbers[-1])


def is_whole(label: int | str) -> bool:
    """Whether a label is a whole number, as an integer or as text."""
    return isinstance(label, int) or (label.isascii() and label.removeprefix("-").isdecimal())
