"""Layers and heads: what every map of heads is made of."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.figures.parts.heat import cells, printed
from workbench.figures.parts.theme import INK
from workbench.labels import has_intervals, largest_cells

Head = tuple[int, int]
"""Layer and head."""

Labels = Sequence[int] | np.ndarray
"""Numbers of layers or of heads, as an axis has them."""

PLANTED = "outlined: planted heads"

UNCORRECTED = "each head's own, not corrected for their number"
"""Said wherever many heads have intervals: some of hundreds leave zero out by chance."""

_PRINTED = 12
"""Most columns side by side whose cells hold numbers."""
_SILENT = 0.05
"""A cell below this share of the largest holds no number: a field of zeros hides what is not."""
_TICKS = 16
"""Most ticks of an axis."""


def head_cells(
    values: xr.DataArray,
    hover: Callable[[int, int], str],
    bar: str,
    limit: float,
    panels: int = 1,
    **settings: Any,
) -> go.Heatmap:
    """Layers down, heads across, colours centred on zero and as far as ``limit``.

    Args:
        values: over (layer, head).
        hover: text of the cell at a row and column.
        bar: title of the colour bar.
        limit: largest size of a value that the colours reach.
        panels: how many such maps stand side by side; numbers are printed where there is room.
        **settings: of the trace.
    """
    array = values.transpose("layer", "head").values
    show = array.shape[1] * panels <= _PRINTED
    decimals = 1 if limit >= 1 else 2 if limit >= 0.1 else 3
    texts = [
        [printed(each, decimals) if show and abs(each) >= _SILENT * limit else "" for each in row]
        for row in array.tolist()
    ]
    hovers = [[hover(row, column) for column in range(array.shape[1])] for row in range(len(array))]
    trace = cells(array, texts, hovers, bar, **settings)
    # On a grid of thousands of cells the gaps would be most of the picture.
    return trace.update(zmin=-limit, zmax=limit, xgap=1 if show else 0, ygap=1 if show else 0)


def largest(*values: xr.DataArray) -> float:
    """The largest size of any value, for a scale that several maps share; never zero."""
    sizes = [abs(each.values[np.isfinite(each.values)]).max(initial=0.0) for each in values]
    return float(max(sizes)) or 1.0


def head_axis(labels: Labels, downwards: bool = False, most: int = _TICKS) -> dict[str, Any]:
    """Settings of an axis of layers or heads; of more than ``most`` ticks only some are shown."""
    step = -(-len(labels) // most)
    ends = [-0.5, len(labels) - 0.5]
    return {
        "tickvals": list(range(0, len(labels), step)),
        "ticktext": [str(int(each)) for each in labels[::step]],
        "range": ends[::-1] if downwards else ends,
        "showgrid": False,
        "ticks": "",
        "showline": False,
    }


def map_height(n_layers: int) -> int:
    """Height of a map, in pixels: rows are tall enough for a number where there are few."""
    return max(150, n_layers * (28 if n_layers <= 12 else 16 if n_layers <= 32 else 9))


def outline(
    figure: go.Figure,
    heads: Iterable[Head],
    layers: Labels,
    columns: Labels,
    row: int = 1,
    col: int = 1,
) -> None:
    """Frames around heads, where the map has them."""
    known_layers, known_heads = list(map(int, layers)), list(map(int, columns))
    for layer, head in heads:
        if layer in known_layers and head in known_heads:
            x, y = known_heads.index(head), known_layers.index(layer)
            figure.add_shape(
                type="rect",
                x0=x - 0.5,
                x1=x + 0.5,
                y0=y - 0.5,
                y1=y + 0.5,
                line={"color": INK, "width": 2.5},
                row=row,
                col=col,
            )


def top_heads(values: xr.DataArray, interval: xr.DataArray | None, n: int) -> list[Head]:
    """The heads with the largest values of either sign, whose intervals leave zero out.

    Args:
        values: over (layer, head).
        interval: over (layer, head, bound), or None.
        n: at most so many.
    """
    cells = largest_cells(values, interval, n, ("layer", "head"))
    return [(layer, head) for layer, head in cells]


def planted_heads(planted: Iterable[Head] | None, result: xr.Dataset) -> list[Head] | None:
    """The heads that were asked for, else those that the result says were planted, else None."""
    heads = planted if planted is not None else result.attrs.get("planted_heads")
    return None if heads is None else [(int(layer), int(head)) for layer, head in heads]


def framed(
    planted: Iterable[Head] | None, result: xr.Dataset, name: str, n: int
) -> tuple[list[Head], str]:
    """The heads to outline, and what to say of them in the subtitle.

    Args:
        planted: heads that were asked for, or None.
        result: with the variable ``name`` over (layer, head), and perhaps its interval.
        name: of the variable.
        n: how many of the largest, where no heads are planted.
    """
    if (heads := planted_heads(planted, result)) is not None:
        return heads, PLANTED
    interval = result.get(f"{name}_interval")
    heads = top_heads(result[name], interval, n)
    return heads, outlined(len(heads), has_intervals(interval))


def outlined(n: int, tested: bool) -> str:
    """What to say of outlined heads that were not planted.

    >>> outlined(3, tested=False)
    'outlined: the 3 largest'
    """
    return f"outlined: the {n} largest" + (" whose intervals leave zero out" if tested else "")
