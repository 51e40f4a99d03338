"""What all figures share: one template, one palette, one way of writing titles and labels."""

import html
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from numpy.typing import ArrayLike

from workbench.errors import StudyError
from workbench.labels import has_intervals
from workbench.names import file_only
from workbench.positions import T_INST, Position
from workbench.written import number

PALETTE = ("#14213D", "#8C1D5B", "#1F66B0", "#D1603D", "#3BA99C", "#E9B44C")
"""From dark to light, so that it survives greyscale as well as the three kinds of colour blindness.

Any two differ by at least 8 in CIE L*, and by 12 in CIE Lab as a dichromat sees them.
"""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross", "x", "hexagon")
"""A second mark beside colour, for lines that lie close together."""

INK, MUTED, GRID, SHADE = "#1D232B", "#5A6472", "#E4E7EB", "rgba(90, 100, 114, 0.12)"
NEUTRAL = "#C3C8D0"
"""For what nothing was done to: lighter than every colour of the palette."""

DIVERGING = (
    (0.0, "#12437F"), (0.25, "#6C9BD1"), (0.5, "#F7F7F5"), (0.75, "#E39A6B"), (1.0, "#8E2F0B"),
)  # fmt: skip
"""Blue below zero, white at it, rust above."""

_LINE = 78
"""Characters of subtitle that fit into a figure 600 pixels wide."""

_FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_AXIS = {
    "gridcolor": GRID,
    "zeroline": False,
    "linecolor": MUTED,
    "showline": True,
    "ticks": "outside",
    "ticklen": 4,
    "tickcolor": MUTED,
    "automargin": True,
    "title": {"font": {"size": 12}, "standoff": 8},
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": _FONT, "size": 12, "color": INK},
        "title": {
            "font": {"size": 17},
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "yref": "container",
            "yanchor": "top",
        },
        "colorway": list(PALETTE),
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hoverlabel": {"align": "left", "font": {"family": _FONT}},
        "legend": {"font": {"size": 12}, "title": {"font": {"size": 12}}},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def themed(figure: go.Figure, title: str, parts: Iterable[str], height: int) -> go.Figure:
    """Gives a figure the template, a title, and a subtitle of ``parts`` that wraps when long."""
    parts = [part for part in parts if part]
    lines = _wrap(parts)
    top = 52 + 17 * len(lines)
    figure.update_layout(
        template=TEMPLATE,
        height=height + top,
        margin={"l": 64, "r": 24, "t": top + 14, "b": 50},
        # Pages wrap the subtitle by themselves.
        meta={"subtitle": parts},
        title={
            "text": f"<b>{html.escape(title)}</b>",
            "y": 1 - 16 / (height + top),
            "subtitle": {
                "text": "<br>".join(html.escape(line) for line in lines),
                "font": {"size": 12, "color": MUTED},
            },
        },
    )
    return figure


def legend_below(figure: go.Figure, title: str) -> go.Figure:
    """A horizontal legend under the plot, with room for the rows that it needs when narrow."""
    traces = figure.to_dict()["data"]
    names = [str(trace["name"]) for trace in traces if trace.get("showlegend", True)]
    pixels = 10 * len(title) + sum(50 + 7 * len(html.unescape(name)) for name in names)
    rows = -(-pixels // 500)
    bottom = figure.layout.margin.b + 24 * rows
    figure.update_layout(
        height=figure.layout.height + 24 * rows,
        margin_b=bottom,
        showlegend=True,
        legend={
            "title": {"text": f"{title}  "},
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 0.005,
            "yref": "container",
            "yanchor": "bottom",
        },
    )
    return figure


def translucent(colour: str, alpha: float = 0.15) -> str:
    """The same colour as a light area: bands lie under their lines and over each other."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def _wrap(parts: list[str]) -> list[str]:
    """Joins parts with dots and breaks between parts; only a long part breaks inside."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 3 <= _LINE:
            lines[-1] += f" · {part}"
        else:
            lines.extend(textwrap.wrap(part, _LINE) or [""])
    return lines


def diverging(values: ArrayLike) -> dict[str, Any]:
    """Colour settings for signed values, symmetric about zero: white is zero, always.

    >>> diverging([-1.0, 3.0])["cmin"], diverging([-1.0, 3.0])["cmax"]
    (-3.0, 3.0)
    """
    array = np.asarray(values, dtype=float)
    finite = np.abs(array[np.isfinite(array)])
    limit = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    return {"colorscale": [list(stop) for stop in DIVERGING], "cmin": -limit, "cmax": limit}


def position_text(position: Position | np.integer) -> str:
    r"""A position as it is printed: its name, or a number with a real minus sign.

    >>> position_text("t_inst"), position_text(-3) == "\N{MINUS SIGN}3"
    ('t_inst', True)
    """
    return T_INST if position == T_INST else number(int(position))


def position_label(position: Position | np.integer, token: str = "") -> str:
    """A position and its token; line breaks are shown, and nothing in it is read as a tag."""
    label = position_text(position)
    if not token or token == label:
        return label
    visible = token.replace("\n", "\u21b5").replace("\t", "\u21e5").replace(" ", "\u2423")
    return f"{label} {html.escape(visible)}"


def model_of(attrs: Mapping[str, Any]) -> str:
    """The model's name for a subtitle, or the published run's, or that nobody wrote it down."""
    if attrs.get("model"):
        return file_only(str(attrs["model"]))
    return f"run {file_only(str(attrs['run']))}" if attrs.get("run") else "model not recorded"


def interval_name(dataset: xr.Dataset) -> str:
    """What the intervals of a dataset are, for a subtitle."""
    kind = f" ({dataset.attrs['interval']})" if dataset.attrs.get("interval") else ""
    return f"{float(dataset.attrs.get('confidence', 0.95)):.0%} intervals{kind}"


def intervals_of(dataset: xr.Dataset, where: str, *names: str) -> str:
    """Where the intervals of some variables are drawn, or that there are none, for a subtitle."""
    known = [dataset[f"{name}_interval"] for name in names if f"{name}_interval" in dataset]
    if any(map(has_intervals, known)):
        return f"{where}: {interval_name(dataset)}"
    return "no intervals" + (": too few prompts" if known else "")


def require(dataset: xr.Dataset, kind: str, variables: Iterable[str], dims: Iterable[str]) -> None:
    """Refuses a dataset that does not hold what a figure draws.

    Raises:
        StudyError: a variable or dimension is absent, or nothing was measured.
    """
    if not isinstance(dataset, xr.Dataset):
        raise StudyError(f"expected the dataset of a {kind}, found {type(dataset).__name__}.")
    variables = list(variables)
    for name in variables:
        if name not in dataset:
            raise StudyError(
                f"this is no {kind}: it has no variable {name!r}. "
                f"Found: {', '.join(map(str, dataset.data_vars)) or 'none'}."
            )
        if missing := [dim for dim in dims if dim not in dataset[name].dims]:
            raise StudyError(f"this is no {kind}: {name} has no dimension {missing[0]!r}.")
    if not any(np.isfinite(dataset[name].values).any() for name in variables):
        raise StudyError(f"nothing to draw: every value of this {kind} is NaN.")
