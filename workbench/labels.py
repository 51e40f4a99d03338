"""How heads and axes are written in tables and figures, and which heads stand out."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


def head_label(layer: int, head: int) -> str:
    """A head as it is written everywhere.

    >>> head_label(12, 3)
    '12.3'
    """
    return f"{layer}.{head}"


def head_labels(heads: Iterable[Sequence[int]]) -> str:
    """Several heads in a line, each as (layer, head).

    >>> head_labels([(3, 2), (4, 5)])
    '3.2, 4.5'
    """
    return ", ".join(head_label(layer, head) for layer, head in heads)


def has_intervals(interval: "xr.DataArray | None") -> bool:
    """Whether there is an interval at all: with few prompts means have none."""
    return interval is not None and bool(np.isfinite(interval.values).any())


def largest_cells(
    values: "xr.DataArray", interval: "xr.DataArray | None", n: int, dims: Sequence[str]
) -> list[tuple[int, ...]]:
    """Labels of the largest values of either sign whose intervals leave zero out, largest first.

    Where no value has an interval, for want of prompts, every value that is not zero counts.

    Args:
        values: over ``dims``.
        interval: over ``dims`` and ``bound``; None counts every value that is not zero.
        n: at most so many.
        dims: what a label is made of, such as layer and head.
    """
    array = values.transpose(*dims).values
    sizes = np.where(np.isfinite(array), np.abs(array), 0.0)
    if interval is not None and has_intervals(interval):
        low, high = interval.transpose("bound", *dims).sel(bound=["low", "high"]).values
        sizes = np.where((low > 0) | (high < 0), sizes, 0.0)
    order = np.argsort(-sizes, axis=None, kind="stable")[:n]
    found = [np.unravel_index(each, sizes.shape) for each in order if sizes.flat[each] > 0]
    labels = [values[dim].values for dim in dims]
    return [
        tuple(int(own[index]) for own, index in zip(labels, place, strict=True)) for place in found
    ]


def span(labels: Sequence[Any]) -> str:
    """Consecutive numbers as a range, anything else as a list."""
    numbers = all(isinstance(label, int) for label in labels)
    # Not range(first, last): a file may say any numbers.
    if numbers and len(labels) > 2 and all(own == labels[0] + at for at, own in enumerate(labels)):
        return f"{labels[0]}..{labels[-1]}"
    return ", ".join(map(str, labels))
