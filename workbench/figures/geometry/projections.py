"""How far prompts reach along the direction of each layer, by label."""

import html
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry, without_text
from workbench.figures.parts.panels import evenly, layers_left_out, raise_panels, title_outer_axes
from workbench.figures.parts.theme import (
    INK,
    PALETTE,
    legend_below,
    model_of,
    position_text,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.written import estimated

_PANEL, _BETWEEN = 215, 88
"""Pixels from one row of panels to the next, and those between them, for titles of three lines."""

_COLOURS = {"harmless": PALETTE[2], "borderline": PALETTE[5], "harmful": PALETTE[3]}
_BINS = 24


@checked
def projections(projected: xr.Dataset, *, columns: int = 3) -> go.Figure:
    """Histograms of the prompts' projections on the direction of each layer, by label.

    Each label's steps add up to 100 %, so that labels of different size can be compared; all share
    the bins of their panel. Titles give the area under the ROC curve against harmless prompts.
    Where there are more than twelve layers, twelve of them evenly spaced.

    Args:
        projected: what `project_prompts` gives.
        columns: panels side by side.

    Raises:
        StudyError: not such a result.
    """
    require(projected, "projection of prompts", ["projection"], ("prompt", "layer"))
    at = projected.sel(layer=projected["projection"].notnull().all("prompt"))
    n_measured = at.sizes["layer"]
    layers = evenly(at["layer"].values.tolist())
    columns = min(columns, len(layers))
    n_rows = -(-len(layers) // columns)
    figure = make_subplots(
        rows=n_rows,
        cols=columns,
        subplot_titles=[_title(at.sel(layer=layer)) for layer in layers],
        horizontal_spacing=0.05,
        vertical_spacing=min(0.5, _BETWEEN / max(n_rows * _PANEL - _BETWEEN, 1)),
    )
    figure.update_annotations(font={"size": 10.5, "color": INK})
    present = set(at["label"].values.tolist())
    groups = [group for group in _COLOURS if group in present] + sorted(present - set(_COLOURS))
    for index, layer in enumerate(layers):
        values = at["projection"].sel(layer=layer).values
        edges = np.histogram_bin_edges(values, bins=_BINS)
        room = 0.04 * (edges[-1] - edges[0])
        ends = [edges[0] - room, edges[-1] + room]
        figure.update_xaxes(range=ends, row=index // columns + 1, col=index % columns + 1)
        for place, group in enumerate(groups):
            own = values[at["label"].values == group]
            figure.add_trace(
                _histogram(own, edges, group, place, showlegend=index == 0),
                index // columns + 1,
                index % columns + 1,
            )
    # Zero projection is a place of its own: nothing of the direction is there.
    figure.add_vline(0, line={"color": INK, "dash": "dot", "width": 1})
    # One scale of shares for all panels: bars of different panels are compared.
    figure.update_yaxes(rangemode="tozero", matches="y")
    title_outer_axes(figure, len(layers), columns, x="projection", y="share of label (%)")
    parts = [*_describe(at, groups), *layers_left_out(projected, n_measured, len(layers))]
    height = n_rows * _PANEL - _BETWEEN + 60
    themed(figure, "Prompts along the direction of each layer", parts, height=height)
    figure.update_layout(barmode="overlay", bargap=0)
    return legend_below(raise_panels(figure, 46), "label")


def _title(at: xr.Dataset) -> str:
    lines = [f"layer {int(at['layer'])}"]
    if "auc" in at:
        for group in at["group"].values:
            own = at.sel(group=group)
            if np.isfinite(float(own["auc"])):
                lines.append(f"{html.escape(str(group))} {estimated(own, 'auc', '.2f')}")
    return f"<b>{lines[0]}</b>" + "".join(f"<br>{line}" for line in lines[1:])


def _histogram(
    values: np.ndarray, edges: np.ndarray, group: str, place: int, showlegend: bool
) -> go.Scatter:
    """One label as a step line over a light area, which stays legible where labels overlap."""
    shares = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
    colour = _COLOURS.get(group, PALETTE[place % len(PALETTE)])
    x = [edges[0], *np.repeat(edges[1:-1], 2).tolist(), edges[-1]]
    y = np.repeat(shares, 2)
    return go.Scatter(
        x=[edges[0], *x, edges[-1]],
        y=[0.0, *y.tolist(), 0.0],
        mode="lines",
        line={"color": colour, "width": 1.6, "dash": ["solid", "dash", "dot"][place % 3]},
        fill="tozeroy",
        name=f"{html.escape(group)} (n = {len(values)})",
        legendgroup=group,
        showlegend=showlegend,
        hovertemplate=f"{html.escape(group)}<br>projection %{{x:.3g}}<br>%{{y:.1f}} % of the label"
        "<extra></extra>",
    )


def _describe(at: xr.Dataset, groups: list[str]) -> list[str]:
    attrs = at.attrs
    labels = at["label"].values.tolist()
    counts = [f"{labels.count(group)} {group}" for group in groups]
    return [
        model_of(attrs),
        f"site {attrs['site']}" if attrs.get("site") else "",
        f"position {position_text(attrs['position'])}" if "position" in attrs else "",
        f"n = {', '.join(counts)} test prompts, none of them behind the directions",
        "projection on the unit vector, in units of the activations",
        "each panel has its own scale",
        f"above each panel: AUC against {attrs.get('reference', 'harmless')} prompts, with "
        f"{float(attrs.get('confidence', 0.95)):.0%} intervals",
        "dotted: zero",
    ]


def projections_numbers(run: Any) -> xr.Dataset:
    """Single prompts, from which the histograms are counted."""
    return without_text(drawn(run.results["projections"], "projection", "auc"))


PROJECTIONS = GalleryEntry(
    name="projections",
    question="How far do prompts reach along the direction?",
    caption="Test prompts, which the directions were not estimated on, projected on the "
    "direction of each layer. Bars are shares of each label. That labels separate "
    "shows that the direction carries the distinction, not that the model uses it: "
    "that is what ablating shows. Scales differ between panels, because activations "
    "grow with depth.",
    answers="Zhao et al. 2025, the projections of harmful and harmless instructions",
    needs="projections",
    figure=lambda run: projections(run.results["projections"]),
    data=projections_numbers,
)
