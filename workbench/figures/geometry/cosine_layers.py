"""The mean cosine between categories, layer by layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.few import n_averaged
from workbench.figures.geometry.pairs import compared, describe, marked, selected
from workbench.figures.parts.bands import band
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    PALETTE,
    interval_name,
    legend_below,
    require,
    themed,
    translucent,
)
from workbench.figures.tidy import drawn
from workbench.positions import Position
from workbench.written import as_cosine, beyond, estimated, number

_TITLES = (
    "<b>As measured</b>, and what noise allows",
    "<b>Without noise</b> (dashed: one direction for all)",
)


@checked
def cosine_by_layer(cosines: xr.Dataset, *, position: Position | None = None) -> go.Figure:
    """Mean cosine over all pairs of categories by layer, with what it has to be read against.

    With baselines: the interval, the same without noise, the ceiling that noise sets, and the
    range with categories permuted among prompts. Without: the lowest and the highest pair. What
    was not measured at any layer, as with too few prompts, has no panel and no words.
    Estimates without noise that lie beyond 1 are drawn at 1, as triangles; hovering shows them.

    Args:
        cosines: a map of `cosine_similarity_map` between the names of one set.
        position: which, if the map has several.

    Raises:
        StudyError: not such a map, several positions and none chosen, or one that it does not have.
    """
    over = compared(cosines, "name")
    require(cosines, "map between the categories of one set", ["mean_cosine"], ("layer",))
    at = selected(cosines, over, {"position": position}, keep="layer").sortby("layer")
    layers = at["layer"].values.tolist()
    plain = not _measured(at, "mean_disattenuated")
    ends = [f"mean_{name}_interval" for name in ("cosine", "disattenuated")]
    bands = any(_measured(at, name) for name in ends)
    if not bands:  # and the subtitle says why
        at = at.drop_vars(ends, errors="ignore")
    figure = make_subplots(
        rows=1 if plain else 2,
        shared_xaxes=True,
        vertical_spacing=0.12,
        subplot_titles=None if plain else list(_TITLES),
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": INK})
    for trace in _references(at, layers, cosines.attrs) or _extremes(at, layers):
        figure.add_trace(trace, 1, 1)
    _mean(figure, at, "mean_cosine", "mean over pairs", 1)
    if not plain:
        _mean(figure, at, "mean_disattenuated", "without noise", 2)
        figure.add_hline(1, line={"color": INK, "dash": "dash", "width": 1.3}, row=2, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_yaxes(title_text="mean cosine")
    figure.update_xaxes(range=[min(layers) - 0.5, max(layers) + 0.5])
    figure.update_xaxes(title_text="layer", row=1 if plain else 2, col=1)
    for row in range(1, 2 if plain else 3):
        figure.update_yaxes(range=_range(figure, row), row=row, col=1)
    parts = [f"{n_averaged(cosines)} categories", *describe(cosines, at, over)]
    parts.append(f"bands under the lines: {interval_name(cosines)}" if bands else "")
    if not plain:
        noisy = at["mean_disattenuated_interval"].isnull().any("bound") if bands else False
        if bool((noisy & at["mean_disattenuated"].notnull()).any()):
            parts.append("hollow: too noisy for an interval")
        if beyond(at["mean_disattenuated"].values).any():
            parts.append("triangle: estimated beyond 1, not told from 1")
    title = "How alike the categories' directions are, by layer"
    themed(figure, title, parts, height=340 if plain else 560)
    return legend_below(figure, "")


def _mean(figure: go.Figure, at: xr.Dataset, variable: str, label: str, row: int) -> None:
    """A line with its interval as a band."""
    colour = PALETTE[2] if row == 1 else PALETTE[3]
    if f"{variable}_interval" in at:
        low, high = np.clip(at[f"{variable}_interval"].transpose("bound", "layer").values, -1, 1)
        layers = at["layer"].values.tolist()
        under = band(layers, low, high, translucent(colour), showlegend=False, legendgroup=label)
        figure.add_trace(under, row, 1)
    figure.add_trace(_line(at, variable, label, colour, "circle" if row == 1 else "square"), row, 1)


def _measured(at: xr.Dataset, variable: str) -> bool:
    return variable in at and bool(at[variable].notnull().any())


def _references(at: xr.Dataset, layers: list[int], attrs: Mapping[str, Any]) -> list[go.Scatter]:
    """What the measured mean is read against, as far as that was measured."""
    found: list[go.Scatter] = []
    if _measured(at, "mean_null"):
        null = at["mean_null"].transpose("quantile", "layer").values
        name = f"categories permuted ({float(attrs['confidence']):.0%} range)"
        found.append(band(layers, null[0], null[-1], translucent(MUTED, 0.35), name=name))
    if not _measured(at, "mean_ceiling"):
        return found
    ceiling = go.Scatter(
        x=layers,
        y=at["mean_ceiling"].values.tolist(),
        mode="lines",
        line={"color": INK, "dash": "dash", "width": 1.3},
        name="if all were one direction",
        hovertemplate="layer %{x}<br>ceiling %{y:.3f}<extra></extra>",
    )
    return [*found, ceiling]


def _range(figure: go.Figure, row: int) -> list[float]:
    """From 0 to 1, and further where the data go."""
    axis = "y" if row == 1 else f"y{row}"
    traces = [trace for trace in figure.to_dict()["data"] if trace.get("yaxis", "y") == axis]
    values = np.array([y for trace in traces for y in trace["y"] if y is not None], dtype=float)
    low, high = np.nanmin([0.0, *values]), np.nanmax([1.0, *values])
    return [float(low - 0.04 * (high - low)), float(high + 0.04 * (high - low))]


def _line(at: xr.Dataset, variable: str, label: str, colour: str, symbol: str) -> go.Scatter:
    """One mean by layer, with everything else in its hover."""
    texts, fills, values = [], [], at[variable].values
    for layer in at["layer"].values.tolist():
        cell = at.sel(layer=layer)
        parts = [f"{label} {estimated(cell, variable, as_cosine)}"]
        if "mean_p_permuted" in cell and variable == "mean_cosine":
            p = number(float(cell["mean_p_permuted"]))
            parts.append(f"categories permuted among prompts: p = {p} (lengths count)")
        if "mean_p_one_direction" in cell and variable == "mean_disattenuated":
            if beyond(float(cell[variable])):
                parts.append(f"estimate {number(float(cell[variable]))}")
            p = float(cell["mean_p_one_direction"])
            parts.append(f"all one direction: {f'p = {number(p)}' if p == p else 'not tested'}")
        texts.append("<br>".join(parts))
        name = f"{variable}_interval"
        hollow = np.isfinite(float(cell[variable])) and name in cell and cell[name].isnull().any()
        fills.append("white" if hollow else colour)
    return go.Scatter(
        x=at["layer"].values.tolist(),
        y=np.clip(values, -1, 1).tolist(),
        mode="lines+markers",
        name=label,
        legendgroup=label,
        # The legend would take the fill of the first point; this line has a panel to itself.
        showlegend="white" not in fills,
        line={"color": colour, "width": 2},
        marker={
            "symbol": marked(symbol, values),
            "size": 7,
            "color": fills,
            "line": {"color": colour, "width": 1.5},
        },
        customdata=texts,
        hovertemplate="layer %{x}<br>%{customdata}<extra></extra>",
    )


def _extremes(at: xr.Dataset, layers: list[int]) -> list[go.Scatter]:
    """The lowest and the highest pair at every layer."""
    values = at["cosine"].transpose("layer", "name", "name_other").values
    pairs = values[:, ~np.eye(at.sizes["name"], dtype=bool)]
    return [
        go.Scatter(
            x=layers,
            y=ends.tolist(),
            mode="lines",
            name=label,
            line={"color": MUTED, "dash": dash, "width": 1.5},
            hovertemplate=f"layer %{{x}}<br>{label} %{{y:.3f}}<extra></extra>",
        )
        for label, ends, dash in (
            ("lowest pair", pairs.min(1), "dot"),
            ("highest pair", pairs.max(1), "dash"),
        )
    ]


def mean_pairs_numbers(run: Any) -> xr.Dataset:
    """Means over pairs of categories, with what they are read against."""
    names = (
        "mean_cosine",
        "mean_disattenuated",
        "mean_ceiling",
        "mean_null",
        "mean_p_one_direction",
    )
    return drawn(run.results["cosines"], *names)


COSINE_BY_LAYER = GalleryEntry(
    name="cosine_by_layer",
    question="How alike are the categories, layer by layer?",
    caption="Mean over all pairs. Above, as measured, with the ceiling that noise sets and "
    "the range with categories permuted among prompts; below, rid of noise. A band below 1 "
    "in the lower panel says that directions differ. A mean below the permuted range says "
    "less: that the categories' prompts do, if only in how far they reach along one "
    "direction.",
    answers="Zhao et al. 2025, the cosines between risk categories",
    needs="cosines",
    figure=lambda run: cosine_by_layer(run.results["cosines"]),
    data=mean_pairs_numbers,
)
