"""The cosine of two categories' directions, layer by layer."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.geometry.pairs import compared, describe, marked, selected
from workbench.figures.parts.bands import band
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    PALETTE,
    interval_name,
    legend_below,
    themed,
    translucent,
)
from workbench.labels import has_intervals
from workbench.positions import Position
from workbench.written import as_cosine, beyond, estimated


@checked
def cosine_pair(
    cosines: xr.Dataset, pair: tuple[str, str], *, position: Position | None = None
) -> go.Figure:
    """How alike two categories' directions are at every layer, as measured and without noise.

    Draws the intervals and the ceiling where the map has them. Hovering shows all numbers.
    Estimates without noise that lie beyond 1 are drawn at 1, as triangles.

    Args:
        cosines: a map of `cosine_similarity_map` between names.
        pair: two of its names.
        position: which, if the map has several.

    Raises:
        StudyError: not such a map, a name or position that it does not have, or none chosen.
    """
    over = compared(cosines, "name")
    known = [cosines[axis].values.tolist() for axis in ("name", "name_other")]
    for name, names in zip(pair, known, strict=True):
        if name not in names:
            raise StudyError(f"no category {name!r} in this map: {', '.join(names)}.")
    at = selected(cosines, over, {"position": position}, keep="layer").sortby("layer")
    at = at.sel(name=pair[0], name_other=pair[1])
    layers = at["layer"].values.tolist()
    figure = go.Figure()
    for variable, label, colour, symbol in (
        ("cosine", "as measured", PALETTE[2], "circle"),
        ("disattenuated", "without noise", PALETTE[3], "square"),
    ):
        if variable not in at:
            continue
        ends = at.get(f"{variable}_interval")
        if ends is not None:
            low, high = np.clip(ends.transpose("bound", "layer").values, -1, 1)
            shade = translucent(colour)
            figure.add_trace(band(layers, low, high, shade, legendgroup=variable, showlegend=False))
        texts = [estimated(at.sel(layer=layer), variable, as_cosine) for layer in layers]
        values = at[variable].values
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=np.clip(values, -1, 1).tolist(),
                mode="lines+markers",
                name=label,
                legendgroup=variable,
                line={"color": colour, "width": 2},
                marker={"symbol": marked(symbol, values), "size": 7},
                customdata=texts,
                hovertemplate=f"layer %{{x}}<br>{label}: %{{customdata}}<extra></extra>",
            )
        )
    if "ceiling" in at:
        figure.add_trace(
            go.Scatter(
                x=layers,
                y=at["ceiling"].values.tolist(),
                mode="lines",
                name="ceiling that noise sets",
                line={"color": INK, "width": 1.3, "dash": "dash"},
                hovertemplate="layer %{x}<br>ceiling %{y:.3g}<extra></extra>",
            )
        )
    figure.add_hline(0, line={"color": MUTED, "width": 1}, layer="below")
    figure.update_xaxes(title_text="layer", range=[min(layers) - 0.5, max(layers) + 0.5])
    figure.update_yaxes(title_text="cosine", range=_range(at))
    # A title escapes what is put into it, so names come to it as they are.
    names = " and ".join(name.replace("_", " ") for name in pair)
    parts = describe(cosines, at, over)
    if has_intervals(at.get("cosine_interval")):
        parts.append(f"bands: {interval_name(cosines)}")
    if "disattenuated" in at and beyond(at["disattenuated"].values).any():
        parts.append("triangle: estimated beyond 1, not told from 1")
    themed(figure, f"{names}, by layer", parts, height=300)
    return legend_below(figure, "")


def _range(at: xr.Dataset) -> list[float]:
    """From -1, or a little below 0, to 1."""
    names = ("cosine", "cosine_interval", "disattenuated")
    low = min(
        float(np.nanmin(at[name].values))
        for name in names
        if name in at and at[name].notnull().any()
    )
    return [-1.05 if low < -0.3 else min(-0.1, low - 0.05), 1.05]
