"""Prompts on the principal components of their activations, layer by layer."""

import html
import textwrap
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.parts.entry import GalleryEntry, without_text
from workbench.figures.parts.panels import evenly, layers_left_out, raise_panels, title_outer_axes
from workbench.figures.parts.theme import (
    GRID,
    INK,
    PALETTE,
    SYMBOLS,
    legend_below,
    model_of,
    position_text,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.positions import Position
from workbench.written import estimated

_PANEL, _BETWEEN = 250, 62
"""Pixels from one row of panels to the next, and those between them, for titles of three lines."""

_COLOURS = {"harmful": PALETTE[3], "harmless": PALETTE[2], "borderline": PALETTE[5]}


@checked
def pca(
    projection: xr.Dataset,
    *,
    position: Position | None = None,
    colour: Literal["label", "category"] | None = None,
    columns: int = 4,
) -> go.Figure:
    """Prompts on the first two components at every layer, side by side.

    Titles say how much variance the two components hold, and how well the labels separate. Axes of
    panels are their own: activations grow with depth. Hovering shows the prompt. Where there are
    more than twelve layers, twelve of them evenly spaced.

    Args:
        projection: what `pca_projection` gives.
        position: which, if there are several.
        colour: by label or by category; by default by label where there are several.
        columns: panels side by side.

    Raises:
        StudyError: no projection, several positions and none chosen, or one that it does not have.
    """
    require(projection, "projection", ["score", "explained_variance"], ("layer", "component"))
    known = projection["position"].values.tolist()
    if position is None and len(known) > 1:
        raise StudyError(f"this projection has several positions: choose position= among {known}.")
    if position is not None and position not in known:
        raise StudyError(f"no position {position} in this projection: {known}.")
    if projection.sizes["component"] < 2:
        raise StudyError("one component is no plane: project on n_components=2 or more.")
    at = projection.sel(position=known[0] if position is None else position)
    measured = at["score"].notnull().all(["prompt", "component"])
    if not bool(measured.any()):
        raise StudyError("nothing to draw: at this position all prompts have the same activation.")
    at = at.sel(layer=measured)
    n_measured = at.sizes["layer"]
    layers = evenly(at["layer"].values.tolist())
    by = colour or ("label" if len(set(at["label"].values.tolist())) > 1 else "category")
    columns = min(columns, len(layers))
    n_rows = -(-len(layers) // columns)
    figure = make_subplots(
        rows=n_rows,
        cols=columns,
        subplot_titles=[_title(at.sel(layer=layer)) for layer in layers],
        horizontal_spacing=0.03,
        vertical_spacing=min(0.4, _BETWEEN / (n_rows * _PANEL - _BETWEEN)),
    )
    figure.update_annotations(font={"size": 12, "color": INK})
    hover = _hover(at)
    for place, group in enumerate(_groups(at, by)):
        rows = np.flatnonzero(at[by].values == group)
        for index, layer in enumerate(layers):
            figure.add_trace(
                _points(at.sel(layer=layer), rows, group, place, hover, showlegend=index == 0),
                index // columns + 1,
                index % columns + 1,
            )
    figure.update_xaxes(showticklabels=False, ticks="", zeroline=True, zerolinecolor=GRID)
    figure.update_yaxes(showticklabels=False, ticks="", zeroline=True, zerolinecolor=GRID)
    title_outer_axes(figure, len(layers), columns, x="component 1", y="component 2")
    parts = [*_describe(projection, at), *layers_left_out(projection, n_measured, len(layers))]
    height = n_rows * _PANEL - _BETWEEN + 50
    themed(figure, "Prompts on the principal components of each layer", parts, height=height)
    return legend_below(raise_panels(figure, _BETWEEN - 12), by)


def _title(at: xr.Dataset) -> str:
    share = float(at["explained_variance"].sel(component=[1, 2]).sum())
    title = f"layer {int(at['layer'])}<br>{share:.0%} of variance"
    if "auc" not in at or not np.isfinite(float(at["auc"])):
        return title
    return f"{title}<br>AUC {estimated(at, 'auc', '.2f')}"


def _groups(at: xr.Dataset, by: str) -> list[str]:
    """Labels in their usual order, categories alphabetically."""
    present = sorted(set(at[by].values.tolist()))
    return sorted(
        present, key=lambda group: list(_COLOURS).index(group) if group in _COLOURS else 9
    )


def _points(
    at: xr.Dataset, rows: np.ndarray, group: str, place: int, hover: list[str], **settings: Any
) -> go.Scatter:
    scores = at["score"].sel(component=[1, 2]).transpose("prompt", "component").values[rows]
    return go.Scatter(
        x=scores[:, 0].tolist(),
        y=scores[:, 1].tolist(),
        mode="markers",
        name=html.escape(group) or "no label",
        legendgroup=group,
        marker={
            "color": _COLOURS.get(group, PALETTE[place % len(PALETTE)]),
            "symbol": SYMBOLS[place % len(SYMBOLS)],
            "size": 6,
            "opacity": 0.75,
            "line": {"color": "white", "width": 0.5},
        },
        customdata=[hover[row] for row in rows],
        hovertemplate="%{customdata}<br>%{x:.3g}, %{y:.3g}<extra></extra>",
        **settings,
    )


def _hover(at: xr.Dataset) -> list[str]:
    """Id, label, category and words of every prompt; prompts are not trusted to be no markup."""
    texts = at["text"].values.tolist() if "text" in at.coords else [""] * at.sizes["prompt"]
    rows = zip(
        at["prompt"].values.tolist(),
        at["label"].values.tolist(),
        at["category"].values.tolist(),
        texts,
        strict=True,
    )
    return [
        "<br>".join(
            html.escape(line)
            for line in [
                " · ".join(part for part in (name, label, category) if part),
                *textwrap.wrap(textwrap.shorten(text, 300, placeholder=" …"), 60),
            ]
        )
        for name, label, category, text in rows
    ]


def _describe(projection: xr.Dataset, at: xr.Dataset) -> list[str]:
    attrs = projection.attrs
    labels = at["label"].values.tolist()
    counts = [f"{labels.count(label)} {label}".strip() for label in _groups(at, "label")]
    parts = [
        model_of(attrs),
        f"site {attrs['site']}" if attrs.get("site") else "",
        f"position {position_text(at['position'].item())}",
        f"n = {' and '.join(counts)} prompts",
        "each panel has its own scale",
    ]
    if "auc" in projection:
        parts.append(
            f"AUC: {attrs['positive']} against {attrs['negative']}, on the difference of means of "
            f"the other half of the prompts, with {float(attrs['confidence']):.0%} intervals"
        )
    return parts


def components_numbers(run: Any) -> xr.Dataset:
    """Single prompts on the components."""
    return without_text(drawn(run.results["pca"], "score", "explained_variance", "auc"))


PCA = GalleryEntry(
    name="pca",
    question="Do harmful and harmless prompts lie apart?",
    caption="Test prompts on the two directions of largest spread at each layer. Labels may "
    "separate along a direction that is not among these two: the AUC in the titles, "
    "on differences of means of the other half, says whether they do. Scales differ "
    "between panels.",
    answers="Arditi et al. 2024, the principal components of activations",
    needs="pca",
    figure=lambda run: pca(run.results["pca"]),
    data=components_numbers,
)
