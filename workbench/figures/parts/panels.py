"""Layers side by side: which of them, and what a figure says about the others."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
import xarray as xr

PANELS = 12
"""Most layers shown side by side."""


def evenly(layers: Sequence[int]) -> list[int]:
    """All layers, or as many as are shown, evenly spaced, with the first and the last.

    >>> evenly(range(23))
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22]
    """
    if len(layers) <= PANELS:
        return list(layers)
    keep = np.linspace(0, len(layers) - 1, PANELS).round().astype(int)
    return [layers[index] for index in keep]


def layers_left_out(dataset: xr.Dataset, n_measured: int, n_shown: int) -> list[str]:
    """Why there are fewer panels than layers, for a subtitle."""
    constant, hidden = dataset.sizes["layer"] - n_measured, n_measured - n_shown
    return [
        f"{constant} {'layer' if constant == 1 else 'layers'} left out: the same in every prompt"
        if constant
        else "",
        f"{n_shown} of {n_measured} layers shown" if hidden else "",
    ]


def raise_panels(figure: go.Figure, pixels: int) -> go.Figure:
    """Makes room for panel titles of several lines between the subtitle and the first row."""
    height = figure.layout.height
    from_top = (1 - figure.layout.title.y) * height
    return figure.update_layout(
        height=height + pixels,
        margin_t=figure.layout.margin.t + pixels,
        title_y=1 - from_top / (height + pixels),
    )


def title_outer_axes(figure: go.Figure, n_panels: int, columns: int, x: str, y: str) -> None:
    """Titles for the axes at the left and for the lowest of each column, in place."""
    for index in range(n_panels):
        row, column = index // columns + 1, index % columns + 1
        if column == 1:
            figure.update_yaxes(title_text=y, row=row, col=column)
        if index + columns >= n_panels:
            figure.update_xaxes(title_text=x, row=row, col=column)
