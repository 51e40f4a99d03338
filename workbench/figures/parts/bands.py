"""Intervals as bands under a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike


def band(
    x: Sequence[Any], low: ArrayLike, high: ArrayLike, fill: str, **settings: Any
) -> go.Scatter:
    """One closed outline per run of measured points, so that what was not measured leaves a gap."""
    xs: list[Any] = []
    ys: list[float | None] = []
    ends = np.stack([np.asarray(low, dtype=float), np.asarray(high, dtype=float)])
    lower, upper = ends.tolist()
    unknown = ~np.isfinite(ends).all(axis=0)
    for run in np.ma.clump_unmasked(np.ma.masked_array(np.zeros(len(x)), unknown)):
        xs += [*x[run], *x[run][::-1], None]
        ys += [*lower[run], *upper[run][::-1], None]
    return go.Scatter(
        x=xs,
        y=ys,
        mode="lines",
        line={"width": 0},
        fill="toself",
        fillcolor=fill,
        hoverinfo="skip",
        **settings,
    )
