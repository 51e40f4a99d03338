"""A prompt's tokens, coloured by how far each layer reaches along a direction."""

import html
import textwrap

import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.figures.parts.heat import ROW, cells, labels
from workbench.figures.parts.theme import INK, model_of, position_label, require, themed
from workbench.written import number

_MOST = 120
"""Tokens that are shown; of a longer prompt, the last ones."""


@checked
def token_projections(projections: xr.Dataset) -> go.Figure:
    """Tokens from left to right, layers upwards, the projection as colour.

    The last token of the instruction and the last of the prompt are framed and named; the
    template's tokens before and after the user's words are set apart by lines, and a mark on the
    right points at the layer that the direction comes from.

    Args:
        projections: what `workbench.analysis.geometry.token_projections.token_projections` gives.

    Raises:
        StudyError: no such dataset, or nothing in it was measured.
    """
    require(projections, "projection of tokens", ["projection"], ("layer", "position"))
    at = projections.sortby(["layer", "position"])
    n_all = at.sizes["position"]
    at = at.isel(position=slice(-_MOST, None))
    values = at["projection"].transpose("layer", "position").values
    layers = [int(layer) for layer in at["layer"].values]
    positions = [int(position) for position in at["position"].values]
    blank = [[""] * len(positions) for _ in layers]
    figure = go.Figure(cells(values, blank, _hover(at), "projection (activation)"))
    words = [position_label(0, str(token))[2:] or "∅" for token in at["token"].values]
    figure.update_xaxes(**labels([html.unescape(word) for word in words]), tickangle=-60)
    figure.update_yaxes(
        **labels([number(layer) for layer in layers]),
        title_text="layer",
    )
    _marks(figure, at, positions, layers, n_all)
    themed(
        figure,
        "The prompt along the direction",
        _describe(at, n_all),
        height=max(180, ROW * len(layers) * 3 // 4) + 110,
    )
    # The names of the framed tokens stand between the subtitle and the cells.
    return figure.update_layout(margin_t=figure.layout.margin.t + 26)


def _marks(
    figure: go.Figure, at: xr.Dataset, positions: list[int], layers: list[int], n_all: int
) -> None:
    """Frames around t_inst and t_post, lines where the template begins and ends."""
    n_post, n_pre = int(at.attrs.get("n_post", 0)), int(at.attrs.get("n_pre", 0))
    ends = (-0.5, len(layers) - 0.5)
    t_inst = int(at.attrs.get("t_inst", -n_post - 1))
    for name, position in (("t_inst", t_inst), ("t_post", -1)):
        if not n_post or position not in positions:
            continue
        column = positions.index(position)
        figure.add_shape(
            type="rect", x0=column - 0.5, x1=column + 0.5, y0=ends[0], y1=ends[1],
            line={"color": INK, "width": 2},
        )  # fmt: skip
        figure.add_annotation(
            x=column, y=1, yref="paper", yanchor="bottom", showarrow=False,
            text=f"<b>{name}</b>", font={"size": 12, "color": INK},
        )  # fmt: skip
    last_before = n_pre - 1 - n_all
    if n_pre and last_before in positions:
        column = positions.index(last_before) + 0.5
        figure.add_shape(
            type="line", x0=column, x1=column, y0=ends[0], y1=ends[1],
            line={"color": INK, "width": 1, "dash": "dot"},
        )  # fmt: skip
    layer = at.attrs.get("direction_layer")
    if layer in layers:
        figure.add_annotation(
            x=1, xref="paper", xanchor="left", y=layers.index(layer), showarrow=False,
            text="◂", font={"size": 15, "color": INK},
        )  # fmt: skip


def _hover(at: xr.Dataset) -> list[list[str]]:
    tokens = [position_label(0, str(token))[2:] for token in at["token"].values]
    positions = at["position"].values.tolist()
    cosine = at["cosine"].transpose("layer", "position").values if "cosine" in at else None
    return [
        [
            f"layer {layer}, position {number(position)} <b>{token}</b>"
            f"<br>projection {number(float(at['projection'].values[row, column]))}"
            + ("" if cosine is None else f"<br>cosine {number(float(cosine[row, column]))}")
            for column, (position, token) in enumerate(zip(positions, tokens, strict=True))
        ]
        for row, layer in enumerate(at["layer"].values.tolist())
    ]


def _describe(at: xr.Dataset, n_all: int) -> list[str]:
    attrs = at.attrs
    shown = at.sizes["position"]
    text = textwrap.shorten(str(attrs.get("text", "")), 70, placeholder=" …")
    origin = [
        f"{word} {number(attrs[key])}"
        for word, key in (("layer", "direction_layer"), ("position", "direction_position"))
        if key in attrs
    ]
    return [
        model_of(attrs),
        f"site {attrs['site']}" if attrs.get("site") else "",
        f"direction {attrs.get('name', 'not named')!r} of {', '.join(origin)}" if origin else "",
        f"n = 1 prompt: “{text}”" if text else "n = 1 prompt",
        f"the last {shown} of {n_all} tokens" if shown < n_all else "",
        "◂ the direction's own layer" if attrs.get("direction_layer") in at["layer"] else "",
        "no intervals: one prompt, one forward",
    ]
