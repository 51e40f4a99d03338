"""Heat maps with a value in every cell: labels, text, dividing lines, intervals on hover."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures.parts.theme import DIVERGING, INK, diverging

_UPWARDS = [[2 * (place - 0.5), colour] for place, colour in DIVERGING if place >= 0.5]
"""White at zero, rust at the most: the upper half of the diverging colours."""

ROW = 34
"""Height of a row of cells, in pixels."""


def cells(
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    hover: Sequence[Sequence[str]],
    bar: str,
    percent: bool = False,
    **settings: Any,
) -> go.Heatmap:
    """A heat map over the indices of rows and columns, its colours centred on zero.

    Args:
        values: what the colours show, [row column].
        texts: what is printed in the cells.
        hover: what is shown on hover; may hold tags, so what comes from outside must be escaped.
        bar: title of the colour bar.
        percent: the values are percentages, so that colours run from 0 to 100.
        **settings: of the trace.
    """
    rows, columns = values.shape
    scale = diverging(values)
    return go.Heatmap(
        x=list(range(columns)),
        y=list(range(rows)),
        z=[[None if not np.isfinite(each) else float(each) for each in row] for row in values],
        text=[list(row) for row in texts],
        texttemplate="%{text}",
        textfont={"size": 12 if columns <= 10 else 10},
        customdata=[list(row) for row in hover],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
        xgap=1,
        ygap=1,
        colorscale=_UPWARDS if percent else scale["colorscale"],
        zmin=0 if percent else scale["cmin"],
        zmax=100 if percent else scale["cmax"],
        colorbar={
            "title": {"text": bar, "side": "right", "font": {"size": 12}},
            "thickness": 12,
            "outlinewidth": 0,
        },
        **settings,
    )


def labels(names: Sequence[str], downwards: bool = False) -> dict[str, Any]:
    """Settings of an axis whose ticks are names; nothing in them is read as a tag.

    Args:
        names: of the rows or columns; a line break stays one.
        downwards: the first stands on top.
    """
    ends = [-0.5, len(names) - 0.5]
    return {
        "tickvals": list(range(len(names))),
        "ticktext": [html.escape(name).replace("\n", "<br>") for name in names],
        "range": ends[::-1] if downwards else ends,
        "showgrid": False,
        "ticks": "",
        "showline": False,
    }


def dividers(
    figure: go.Figure, groups: Sequence[Any], size: int, across: bool, width: float = 2.5
) -> None:
    """Lines between neighbouring rows (``across``) or columns of different groups.

    Args:
        figure: drawn on.
        groups: the group of each row or column, in the order drawn.
        size: how many cells a line crosses.
        across: lines between rows, not columns.
        width: of the lines, in pixels.
    """
    line = {"color": INK, "width": width}
    for index in range(1, len(groups)):
        if groups[index] == groups[index - 1]:
            continue
        at, ends = index - 0.5, (-0.5, size - 0.5)
        if across:
            figure.add_shape(type="line", x0=ends[0], x1=ends[1], y0=at, y1=at, line=line)
        else:
            figure.add_shape(type="line", y0=ends[0], y1=ends[1], x0=at, x1=at, line=line)


def printed(value: float, decimals: int = 1) -> str:
    r"""A number for a cell, with a real minus sign, and without one on zero; nothing for NaN.

    >>> printed(-0.04), printed(-1.25) == "\N{MINUS SIGN}1.2", printed(float("nan"))
    ('0.0', True, '')
    """
    if not np.isfinite(value):
        return ""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "\N{MINUS SIGN}")
