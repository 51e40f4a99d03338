"""Patching beside attribution: do the heads that write the direction also carry refusal?"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.heads.grid import (
    Head,
    framed,
    head_axis,
    largest,
    map_height,
    outline,
)
from workbench.figures.heads.maps import (
    attribution_cells,
    attribution_group,
    describe_attribution,
    describe_patching,
    head_effects_numbers,
    head_writes_numbers,
    patch_cells,
    patch_units,
)
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import INK, MUTED, NEUTRAL, PALETTE, require, themed
from workbench.figures.tidy import drawn
from workbench.labels import head_label
from workbench.written import estimated, number

_SCATTER, _GAP = 300, 150
"""Heights of the scatter and of what stands between it and the maps, in pixels."""
_TICKS = 8
"""Most ticks of heads: two maps stand side by side."""
_NAMED = 0.1
"""A head is named if it reaches this share of the largest of either axis."""


@checked
def head_board(
    patching: xr.Dataset,
    attribution: xr.Dataset,
    planted: Iterable[Head] | None = None,
    position: int | None = None,
    top: int = 6,
    group: str | None = None,
) -> go.Figure:
    """The effect of patching each head, what it writes along the direction, and one by the other.

    A head far up and not far right matters by another way than this direction; one far right and
    not far up writes what is made up for or not read.

    Args:
        patching: as `patch_heads` returns it.
        attribution: as `direct_attribution` returns it; heads at and after the layer where the
            direction was read are not in it.
        planted: (layer, head) pairs to outline; by default those that the patching names as
            ``planted_heads``, else the largest effects.
        position: of the patching; by default where the attribution was read, else the last.
        top: how many heads are outlined where none were planted.
        group: of the attribution; by default the difference, where there is one.

    Raises:
        StudyError: not such results, of different models, or no such position.
    """
    require(patching, "head-patching result", ["effect"], ("layer", "head", "position"))
    at, group = attribution_group(attribution, group)
    if patching.attrs.get("model") != attribution.attrs.get("model"):
        raise StudyError(
            f"patching of {patching.attrs.get('model')!r} beside attribution of "
            f"{attribution.attrs.get('model')!r}. Pass results of one model."
        )
    position = _position(patching, attribution, position)
    own = patching.sel(position=position)
    height = max(map_height(max(patching.sizes["layer"], at.sizes["layer"])), 190)
    whole = height + _GAP + _SCATTER
    figure = make_subplots(
        rows=2,
        cols=2,
        specs=[[{}, {}], [{"colspan": 2}, None]],
        row_heights=[height, _SCATTER],
        vertical_spacing=_GAP / whole,
        horizontal_spacing=0.12,
        subplot_titles=["effect of patching", "contribution to the projection", ""],
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    for column, trace in (
        (1, patch_cells(patching, position, largest(own["effect"]), panels=2)),
        (2, attribution_cells(at, largest(at["contribution"]), panels=2)),
    ):
        figure.add_trace(_bar_below(trace, column, height, whole), 1, column)
    heads, told = framed(planted, own, "effect", top)
    for column, each in ((1, own), (2, at)):
        outline(figure, heads, each["layer"].values, each["head"].values, 1, column)
        # Layers stand at the same height in both, so that heads are found again.
        layers = patching["layer"].values
        axis = head_axis(each["head"].values, most=_TICKS)
        figure.update_xaxes(**axis, title_text="head", row=1, col=column)
        figure.update_yaxes(**head_axis(layers, True), row=1, col=column)
    figure.update_yaxes(title_text="layer", row=1, col=1)
    beyond = len({*patching["layer"].values.tolist()} - {*at["layer"].values.tolist()})
    correlation, n_cells = _scatter(figure, own, at, heads)
    parts = [
        *describe_patching(patching),
        *describe_attribution(at, group)[1:],
        f"patched at position {number(position)}",
        told,
        "blank: layers after the direction's" if beyond else "",
        f"Spearman of the two {number(correlation)} over {n_cells} heads",
    ]
    return themed(figure, "Carrying refusal and writing the direction", parts, height=whole + 60)


def _position(patching: xr.Dataset, attribution: xr.Dataset, position: int | None) -> int:
    """The position of the patching that is drawn."""
    known = [int(each) for each in patching["position"].values]
    if position is None:
        read_at = int(attribution.attrs.get("position", known[-1]))
        return read_at if read_at in known else known[-1]
    if position not in known:
        raise StudyError(f"position {position} was not patched: {', '.join(map(str, known))}.")
    return position


def _bar_below(trace: go.Heatmap, column: int, height: int, whole: int) -> go.Heatmap:
    """Colour bars lie below their maps: beside them they would stand on the other map."""
    return trace.update(
        colorbar={
            "orientation": "h",
            "x": 0.22 if column == 1 else 0.78,
            "xanchor": "center",
            "y": 1 - (height + 48) / whole,
            "yanchor": "top",
            "len": 0.42,
            "thickness": 10,
            "title": {"side": "bottom"},
            "nticks": 5,
        }
    )


def _scatter(
    figure: go.Figure, own: xr.Dataset, at: xr.Dataset, heads: list[Head]
) -> tuple[float, int]:
    """One point per head that both have; Spearman's correlation and the number of points."""
    effect, written = xr.align(own["effect"], at["contribution"], join="inner")
    effect, written = (each.transpose("layer", "head") for each in (effect, written))
    pairs = [(int(a), int(b)) for a in effect["layer"].values for b in effect["head"].values]
    x, y = written.values.ravel(), effect.values.ravel()
    kept = np.isfinite(x) & np.isfinite(y)
    if kept.sum() < 2:
        raise StudyError("patching and attribution have no two heads in common.")
    ranks = pd.DataFrame({"x": x[kept], "y": y[kept]}).rank()
    correlation = float(ranks.corr().to_numpy()[0, 1])
    marked = {*heads}
    far = [abs(each) >= _NAMED * np.nanmax(abs(each)) for each in (x, y)]
    named = {pair for pair, *out in zip(pairs, *far, strict=True) if any(out)} | marked
    lines = [(own, "effect", "effect"), (at, "contribution", "writes")]
    for name, colour, symbol, size, wanted in (
        ("other heads", NEUTRAL, "circle", 7, False),
        ("outlined heads", PALETTE[1], "diamond", 11, True),
    ):
        rows = [
            index for index, pair in enumerate(pairs) if kept[index] and (pair in marked) == wanted
        ]
        chosen = [pairs[index] for index in rows]
        figure.add_trace(
            go.Scatter(
                x=x[rows].tolist(),
                y=y[rows].tolist(),
                mode="markers+text",
                name=name,
                text=[head_label(*pair) if pair in named else "" for pair in chosen],
                textposition=_sides(x[rows], y[rows]) if wanted else "middle right",
                textfont={"size": 11},
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": size,
                    "line": {"color": INK if wanted else MUTED, "width": 1},
                },
                error_x=_errors(at.get("contribution_interval"), chosen, x[rows], wanted),
                error_y=_errors(own.get("effect_interval"), chosen, y[rows], wanted),
                customdata=[_hover(pair, lines) for pair in chosen],
                hovertemplate="%{customdata}<extra></extra>",
                showlegend=False,
                cliponaxis=False,
            ),
            2,
            1,
        )
    for add in (figure.add_hline, figure.add_vline):
        where: dict[str, Any] = {"row": 2, "col": 1}
        add(0, line={"color": MUTED, "dash": "dot", "width": 1}, **where)
    figure.update_xaxes(title_text="contribution (activation units)", row=2, col=1)
    label = patch_units(own).replace(" (", "<br>(")
    figure.update_yaxes(title_text=f"patched: {label}", row=2, col=1)
    return correlation, int(kept.sum())


def _sides(x: np.ndarray, y: np.ndarray) -> list[str]:
    """Names stand on the side of their point that is away from its nearest neighbour."""
    if len(x) < 2:
        return ["top right"] * len(x)
    across, up = (each / (np.ptp(each) or 1) for each in (x, y))
    apart = (across[:, None] - across) ** 2 + (up[:, None] - up) ** 2
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(1)
    # Of two at one height, the earlier goes up.
    above = (up > up[nearest]) | ((up == up[nearest]) & (np.arange(len(up)) < nearest))
    return np.where(above, "top right", "bottom right").tolist()


def _errors(
    interval: xr.DataArray | None, heads: list[Head], values: np.ndarray, visible: bool
) -> dict[str, object]:
    """Intervals of the outlined heads; those of hundreds of others would hide them."""
    if interval is None or not visible or not heads:
        return {"visible": False}
    ends = np.array([interval.sel(layer=layer, head=head).values for layer, head in heads])
    return error_bars(values, ends[:, 0], ends[:, 1], 3, color=MUTED, thickness=1)


def _hover(pair: Head, lines: list[tuple[xr.Dataset, str, str]]) -> str:
    layer, head = pair
    told = [f"layer {layer}, head {head}"]
    for dataset, name, verb in lines:
        told.append(f"{verb} {estimated(dataset.sel(layer=layer, head=head), name)}")
    return "<br>".join(told)


def head_board_numbers(run: Any) -> xr.Dataset:
    """Effects and writes of heads side by side."""
    both = [head_effects_numbers(run), drawn(head_writes_numbers(run), "contribution")]
    return xr.merge(both, join="outer", compat="override")


HEAD_BOARD = GalleryEntry(
    name="head_board",
    question="Do the heads that write the direction also carry refusal?",
    caption="The two maps beside each other, and one by the other. Up and to the right: a "
    "head that carries refusal by writing this direction. Up and not right: by "
    "another way. Most heads do neither, so the rank correlation says little about "
    "the few that matter.",
    answers="",
    needs="head_patching head_attribution",
    figure=lambda run: head_board(run.results["head_patching"], run.results["head_attribution"]),
    data=head_board_numbers,
)
