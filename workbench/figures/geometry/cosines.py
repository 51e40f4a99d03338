"""Maps of cosines between directions, at one layer or layer by layer."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.geometry.pairs import (
    WORDS,
    as_words,
    compared,
    describe,
    is_square,
    selected,
    similar_first,
)
from workbench.figures.parts.entry import GalleryEntry, at_choice
from workbench.figures.parts.panels import evenly, layers_left_out
from workbench.figures.parts.theme import INK, NEUTRAL, diverging, themed
from workbench.figures.tidy import drawn
from workbench.positions import Position
from workbench.written import as_cosine, estimated, number

_PRINTED = 16
"""Most labels on a side of a map whose values are still legible."""

_LEVEL = 0.05


@checked
def cosine_map(
    cosines: xr.Dataset,
    *,
    layer: int | None = None,
    position: Position | None = None,
    name: str | None = None,
) -> go.Figure:
    """Signed cosines of all pairs as a heat map with the values printed.

    Similar categories stand beside each other. Where the map has baselines, bars say how reliable
    each direction is, hovering shows the interval, the cosine without noise, the ceiling and p, and
    a ring after a value says that the two are not told from one direction, whatever their lengths;
    a question mark that this was not tested, because of too few prompts or too much noise.

    Args:
        cosines: a map of `cosine_similarity_map`.
        layer: which, if the map has several.
        position: which, if the map has several.
        name: which, for a map between layers or positions of several names.

    Raises:
        StudyError: not a map, several labels and none chosen, or one that it does not have.
    """
    over = compared(cosines)
    order = similar_first(cosines)
    chosen = {"layer": layer, "position": position, "name": name}
    at = selected(cosines, over, chosen).isel({over: order})
    same = is_square(cosines)
    at = at.isel({f"{over}_other": order}) if same else at
    rows, columns = (as_words(at[axis].values) for axis in (over, f"{over}_other"))
    beside = "reliability" in at
    widths = [0.84, 0.16] if beside else [1.0]
    figure = make_subplots(
        cols=len(widths), column_widths=widths, shared_yaxes=True, horizontal_spacing=0.03
    )
    for trace in _heat(at, rows, columns, same, printed=len(rows) <= _PRINTED):
        figure.add_trace(trace, 1, 1)
    title = "" if over == "name" else over
    figure.update_xaxes(showgrid=False, title_text=title, tickangle=-40 if over == "name" else 0)
    figure.update_yaxes(showgrid=False, autorange="reversed")
    figure.update_yaxes(title_text=title, row=1, col=1)
    if beside:
        figure.add_trace(_reliability(at, rows), 1, 2)
        axis = {"range": [0, 1.5], "tickvals": [0, 1], "title_text": "reliability", "tickangle": 0}
        figure.update_xaxes(**axis, row=1, col=2)
        figure.update_yaxes(ticks="", row=1, col=2)
    parts = describe(cosines, at, over)
    if same and len(rows) > 1:
        parts.append("grey diagonal: each is 1 with itself")
    if bool((at["cosine"].isnull()).any()):
        parts.append("n/m: not measured, a direction there is zero but for rounding")
    marks = _marks(at, same)
    if (marks == "°").any():
        parts.append(f"°: not told from one direction (p > {_LEVEL}, corrected over pairs by Holm)")
    if (marks == "?").any():
        parts.append("?: not tested for being one direction, too few prompts or too noisy")
    side = 34 if len(rows) <= _PRINTED else 18
    themed(figure, f"Cosines between {WORDS[over]}", parts, height=130 + side * max(len(rows), 5))
    return figure.update_layout(coloraxis=_scale())


@checked
def cosine_maps_by_layer(
    cosines: xr.Dataset, *, position: Position | None = None, columns: int = 4
) -> go.Figure:
    """The map between categories at every layer, side by side, all in one order and one scale.

    Where there are more than twelve layers, twelve of them evenly spaced.

    Args:
        cosines: a map of `cosine_similarity_map` between names.
        position: which, if the map has several.
        columns: panels side by side.

    Raises:
        StudyError: not a map between names, several positions and none chosen, or one that it does
            not have.
    """
    over = compared(cosines, "name")
    same = is_square(cosines)
    order = similar_first(cosines)
    at = selected(cosines, over, {"position": position}, keep="layer").isel(name=order)
    at = at.isel(name_other=order) if same else at
    measured = at["cosine"].notnull().any(["name", "name_other"])
    at = at.sel(layer=measured)
    n_measured = at.sizes["layer"]
    layers = evenly(at["layer"].values.tolist())
    columns = min(columns, len(layers))
    n_rows = -(-len(layers) // columns)
    titles = [_panel_title(at.sel(layer=layer)) for layer in layers]
    labels, others = as_words(at["name"].values), as_words(at["name_other"].values)
    side = max(120, 13 * len(labels))
    figure = make_subplots(
        rows=n_rows,
        cols=columns,
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.02,
        vertical_spacing=min(0.4, 34 / (n_rows * (side + 34))),
    )
    figure.update_annotations(font={"size": 12, "color": INK})
    for index, layer in enumerate(layers):
        for trace in _heat(at.sel(layer=layer), labels, others, same, printed=False):
            figure.add_trace(trace, index // columns + 1, index % columns + 1)
    figure.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 10}, dtick=1)
    figure.update_yaxes(ticks="")
    figure.update_xaxes(showticklabels=False, showgrid=False, ticks="")
    parts = describe(cosines, at, over)
    parts.append("after the layer: mean over pairs" if "mean_cosine" in at else "")
    parts.append("columns in the order of the rows" if same else f"columns: {', '.join(others)}")
    parts += layers_left_out(cosines, n_measured, len(layers))
    themed(figure, "Cosines between categories, by layer", parts, height=n_rows * (side + 34) + 40)
    return figure.update_layout(coloraxis=_scale())


def _heat(
    at: xr.Dataset, rows: list[str], columns: list[str], same: bool, printed: bool
) -> list[go.Heatmap]:
    """The cosines, and under them in grey what has none to show: the diagonal, what is missing."""
    values = at["cosine"].values
    diagonal = np.eye(len(rows), dtype=bool) if same else np.zeros(values.shape, dtype=bool)
    shown = np.isfinite(values) & ~diagonal
    marks = _marks(at, same)
    texts = [
        [f"{_two_digits(value)}{mark}" if drawn else "" for value, mark, drawn in row]
        for row in (zip(*line, strict=True) for line in zip(values, marks, shown, strict=True))
    ]
    where = {"x": columns, "y": rows, "xgap": 1, "ygap": 1}
    missing = np.where(shown | diagonal, "", "n/m")
    under = go.Heatmap(
        **where,
        z=np.where(shown, np.nan, 0).tolist(),
        colorscale=[[0, NEUTRAL], [1, NEUTRAL]],
        showscale=False,
        text=missing.tolist(),
        texttemplate="%{text}" if printed else "",
        hoverinfo="skip",
    )
    over = go.Heatmap(
        **where,
        z=np.where(shown, values, np.nan).tolist(),
        coloraxis="coloraxis",
        text=texts,
        texttemplate="%{text}" if printed else "",
        hoverongaps=False,
        customdata=_hover(at),
        hovertemplate="%{y} and %{x}<br>%{customdata}<extra></extra>",
    )
    return [under, over]


def _marks(at: xr.Dataset, same: bool) -> np.ndarray:
    """What stands after a value: whether a pair is told from one direction, or was not tested."""
    values = at["cosine"].values
    if "p_one_direction" not in at:
        return np.full(values.shape, "")
    p = at["p_one_direction"].transpose(*at["cosine"].dims).values
    marks = np.where(p > _LEVEL, "°", np.where(np.isnan(p), "?", ""))
    nothing = ~np.isfinite(values)
    if same:
        nothing |= np.eye(len(values), dtype=bool)
    return np.where(nothing, "", marks)


def _hover(at: xr.Dataset) -> list[list[str]]:
    """Everything the map knows about each pair."""
    texts = []
    for row in range(at["cosine"].shape[0]):
        line = []
        for column in range(at["cosine"].shape[1]):
            cell = at.isel(
                {dim: i for dim, i in zip(at["cosine"].dims, (row, column), strict=True)}
            )
            parts = [f"layer {int(at['layer'])}"] if at["layer"].ndim == 0 else []
            parts += [f"cosine {estimated(cell, 'cosine', as_cosine)}"]
            if "disattenuated" in cell:
                parts.append(f"without noise {estimated(cell, 'disattenuated', as_cosine)}")
                parts.append(f"ceiling {number(float(cell['ceiling']))}")
            if "p_one_direction" in cell:
                p = float(cell["p_one_direction"])
                known = f"p = {number(p)}, corrected" if np.isfinite(p) else "not tested"
                parts.append(f"one direction: {known}")
            if "p_permuted" in cell:
                null = cell["null"].values
                span = f"{number(null[0])} to {number(null[-1])}"
                p = number(float(cell["p_permuted"]))
                parts.append(f"categories permuted among prompts {span}, p = {p} (lengths count)")
            line.append("<br>".join(parts))
        texts.append(line)
    return texts


def _reliability(at: xr.Dataset, rows: list[str]) -> go.Bar:
    """How much of each direction is not noise, beside its row."""
    values = at["reliability"].values
    return go.Bar(
        x=np.clip(values, 0, 1).tolist(),
        y=rows,
        orientation="h",
        width=0.6,
        marker={"color": NEUTRAL, "line": {"color": INK, "width": 0.8}},
        text=[f"{value:.2f}" if np.isfinite(value) else "n/m" for value in values],
        textposition="outside",
        cliponaxis=False,
        textfont={"color": INK, "size": 11},
        hovertemplate="%{y}<br>reliability %{x:.2f}<extra></extra>",
        showlegend=False,
    )


def _panel_title(at: xr.Dataset) -> str:
    title = f"layer {int(at['layer'])}"
    if "mean_cosine" not in at or not np.isfinite(float(at["mean_cosine"])):
        return title
    return f"{title}: {_two_digits(float(at['mean_cosine']))}"


def _two_digits(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}")


def _scale() -> dict[str, Any]:
    """One scale for all maps: cosines have their bounds."""
    bar = {"title": {"text": "cosine"}, "thickness": 12, "outlinewidth": 0, "tickvals": [-1, 0, 1]}
    return {**diverging([-1.0, 1.0]), "colorbar": bar}


_PAIRS = ("cosine", "disattenuated", "ceiling", "p_one_direction", "p_permuted", "reliability")


def _between(run: Any, axis: str) -> go.Figure:
    """A map between all layers, or all positions."""
    return cosine_map(run.results[f"cosines_between_{axis}s"])


def pairs_at_choice_numbers(run: Any) -> xr.Dataset:
    """Cosines between categories where the run chose."""
    return drawn(at_choice(run, "cosines"), *_PAIRS)


def pairs_by_layer_numbers(run: Any) -> xr.Dataset:
    """Cosines between categories at every layer."""
    return drawn(run.results["cosines"], "cosine", "mean_cosine")


def between_numbers(run: Any, axis: str) -> xr.Dataset:
    """Cosines between layers, or positions."""
    return drawn(run.results[f"cosines_between_{axis}s"], *_PAIRS)


COSINE_MAP = GalleryEntry(
    name="cosine_map",
    question="Do harm categories share one direction?",
    caption="Cosines between the categories' directions at the selected layer and position. "
    "All are set against the same harmless prompts, which raises every cosine, and "
    "noise lowers it: read a value beside its reliability and, on hover, its ceiling and "
    "its value without noise. A ring is no proof of one direction: with much noise, "
    "different ones are not told apart either.",
    answers="Zhao et al. 2025, the cosines between risk categories",
    needs="cosines",
    figure=lambda run: cosine_map(at_choice(run, "cosines")),
    data=pairs_at_choice_numbers,
)


COSINE_MAPS_BY_LAYER = GalleryEntry(
    name="cosine_maps_by_layer",
    question="Where do the categories' directions part?",
    caption="The same map at every layer, in one order and on one scale. Layers at which all "
    "prompts have the same activation are left out. Early layers with short, noisy "
    "directions look less alike than they are.",
    answers="Zhao et al. 2025, the cosines between risk categories",
    needs="cosines",
    figure=lambda run: cosine_maps_by_layer(run.results["cosines"]),
    data=pairs_by_layer_numbers,
)


COSINE_BETWEEN_LAYERS = GalleryEntry(
    name="cosine_between_layers",
    question="Is the direction the same at different layers?",
    caption="Cosines between the harmful-harmless differences of means of all layers at the "
    "selected position. Neighbours share most of their stream, so a bright band along "
    "the diagonal is no finding; blocks and their borders are.",
    answers="",
    needs="cosines_between_layers",
    figure=lambda run: _between(run, "layer"),
    data=lambda run: between_numbers(run, "layer"),
)


COSINE_BETWEEN_POSITIONS = GalleryEntry(
    name="cosine_between_positions",
    question="Is the direction the same at different tokens?",
    caption="Cosines between the differences of means at the last token of the instruction "
    "(the leftmost position) and the template's tokens after it, at the selected "
    "layer. A low cosine between t_inst and t_post says that what is read there "
    "differs.",
    answers="Zhao et al. 2025, harmfulness at t_inst against refusal at t_post",
    needs="cosines_between_positions",
    figure=lambda run: _between(run, "position"),
    data=lambda run: between_numbers(run, "position"),
)
