"""Means over the prompts of each label, and how harmful and harmless ones differ."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float

from workbench.statistics.intervals import bootstrap_interval, difference_interval

DIFFERENCE = "difference"
"""The group of harmful minus harmless prompts."""


def with_label_means(by_prompt: xr.Dataset, confidence: float, seed: int) -> xr.Dataset:
    """Adds to values by prompt their means over each label, with intervals.

    Args:
        by_prompt: variables that end in ``_by_prompt``, their first dimension ``prompt``, with the
            coordinates of `prompt_axes`.
        confidence: of the intervals, see `bootstrap_interval`; that of the difference is made of
            those of the two labels.
        seed: of the resampling.

    Returns:
        The same dataset; for every ``x_by_prompt`` also ``x`` (group, …) and ``x_interval`` (group,
        …, bound); and ``n`` (group), the prompts of each. Groups are the labels that occur, and
        ``difference``, harmful minus harmless, where both do.
    """
    labels = by_prompt["label"].values
    rows = {str(label): np.flatnonzero(labels == label) for label in dict.fromkeys(labels)}
    rows = {label: rows[label] for label in sorted(rows, key=lambda label: label != "harmful")}
    compared = {"harmful", "harmless"} <= {*rows}
    variables: dict[Hashable, Any] = {}
    for name, values in by_prompt.data_vars.items():
        if not str(name).endswith("_by_prompt"):
            continue
        array = values.values.astype(np.float64)
        found = {
            label: _mean(array[own], confidence, seed + index)
            for index, (label, own) in enumerate(rows.items())
        }
        if compared:
            harmful, harmless = found["harmful"], found["harmless"]
            ends = difference_interval(harmful, harmless)
            found[DIFFERENCE] = (harmful[0] - harmless[0], *ends)
        dims = ("group", *values.dims[1:])
        short = str(name).removesuffix("_by_prompt")
        variables[short] = (dims, np.stack([mean for mean, _, _ in found.values()]), values.attrs)
        variables[f"{short}_interval"] = (
            (*dims, "bound"),
            np.stack([np.stack(ends, axis=-1) for _, *ends in found.values()]),
            values.attrs,
        )
    counts = {label: len(own) for label, own in rows.items()}
    if compared:
        counts[DIFFERENCE] = counts["harmful"] + counts["harmless"]
    variables["n"] = ("group", list(counts.values()), {"units": "prompts"})
    return by_prompt.assign(variables).assign_coords(group=list(counts), bound=["low", "high"])


def _mean(
    values: Float[np.ndarray, "prompt ..."], confidence: float, seed: int
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The mean over prompts and the bounds of its interval."""
    low, high = bootstrap_interval(np.moveaxis(values, 0, -1), confidence, seed=seed)
    return np.asarray(values.mean(axis=0)), low, high
