"""Concept or words: the plane of what a direction detects and what it spells."""

import html
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    PALETTE,
    SHADE,
    SYMBOLS,
    legend_below,
    model_of,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.written import estimated

_AGAINST = {
    "all": "all other prompts",
    "harmful": "harmful prompts of other categories",
    "harmless": "harmless prompts",
}

_FEW = 4
"""Up to so many lines can be followed by eye."""


@checked
def concept_or_words(plane: xr.Dataset, contrast: str = "all") -> go.Figure:
    """Detection of the own category against the share of refusal words, a line through the layers.

    The last layer of each direction is drawn large, with its interval. The grey band is where a
    random direction falls.

    Args:
        plane: as `measure_concept` of the analyses returns it.
        contrast: whom the category is told from: ``"all"``, ``"harmful"`` or ``"harmless"``.

    Raises:
        StudyError: not such a result, or no such contrast in it.
    """
    require(plane, "concept-or-words plane", ["auc", "words"], ("name", "layer"))
    if "contrast" not in plane.dims or contrast not in plane["contrast"].values:
        raise StudyError(f"no contrast {contrast!r}: {', '.join(_AGAINST)}.")
    at = plane.sel(contrast=contrast)
    if not np.isfinite(at["auc"].values).any():
        raise StudyError(f"nothing to draw: this plane holds no {contrast!r} contrast.")
    figure = go.Figure()
    high = float(plane.attrs.get("random_words_high", np.nan))
    # The plane ends a little beyond the furthest direction, and always shows the band.
    right = 1.15 * float(np.nanmax([*at["words"].values.ravel(), high, 0.05]))
    bottom = min(0.45, float(np.nanmin(at["auc"].values)) - 0.05)
    if np.isfinite(high):
        figure.add_vrect(0, high, fillcolor=SHADE, line_width=0)
    figure.add_hline(0.5, line={"color": MUTED, "dash": "dot", "width": 1})
    for index, name in enumerate(at["name"].values):
        # Many lines would hide where they end.
        opacity = 0.6 if at.sizes["name"] <= _FEW else 0.25
        for trace in _path(at.sel(name=name), str(name), index, opacity):
            figure.add_trace(trace)
    _corners(figure)
    figure.update_xaxes(
        title_text="words: share of its squared length in the span of the refusal tokens",
        range=[-0.02 * right, right],
    )
    figure.update_yaxes(
        title_text=f"concept: AUC, own category<br>against {_AGAINST[contrast]}",
        range=[bottom, 1.1],
        tickvals=[0.2, 0.4, 0.5, 0.6, 0.8, 1],
    )
    themed(figure, "Concept or words", _describe(plane, high), height=440)
    return legend_below(figure, "direction")


def _path(at: xr.Dataset, name: str, index: int, opacity: float) -> list[go.Scatter]:
    """The line of one direction through its layers, and its last layer large."""
    kept = np.isfinite(at["auc"].values) & np.isfinite(at["words"].values)
    at = at.isel(layer=np.flatnonzero(kept))
    if not at.sizes["layer"]:
        return []
    colour, symbol = PALETTE[index % len(PALETTE)], SYMBOLS[index % len(SYMBOLS)]
    x, y = at["words"].values.tolist(), at["auc"].values.tolist()
    hover = [_hover(at.isel(layer=row), name) for row in range(len(x))]
    shared = {"legendgroup": name, "hovertemplate": "%{customdata}<extra></extra>"}
    line = go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": colour, "width": 1},
        marker={"symbol": symbol, "size": 5},
        opacity=opacity,
        showlegend=False,
        customdata=hover,
        **shared,
    )
    layer = int(at["layer"].values[-1])
    last = go.Scatter(
        x=x[-1:],
        y=y[-1:],
        mode="markers",
        name=f"{html.escape(name)} (layer {layer})",
        marker={"symbol": symbol, "size": 12, "color": colour, "line": {"color": INK, "width": 1}},
        error_y=_error(at.isel(layer=-1)) | {"color": colour},
        customdata=hover[-1:],
        **shared,
    )
    return [line, last] if len(x) > 1 else [last]


def _error(cell: xr.Dataset) -> dict[str, object]:
    """The interval of one area as an error bar."""
    if "auc_interval" not in cell:
        return {"visible": False}
    low, high = cell["auc_interval"].values.tolist()
    return error_bars([float(cell["auc"])], [low], [high], thickness=1.2)


def _hover(cell: xr.Dataset, name: str) -> str:
    lines = [
        f"{html.escape(name)}, layer {int(cell['layer'])}",
        f"AUC {estimated(cell, 'auc')}",
        f"words {float(cell['words']):.1%}",
    ]
    if "other_words" in cell:
        lines.append(f"as many other tokens {estimated(cell, 'other_words', '.0%')}")
    if "categories" in cell.coords:
        lines.append(f"own: {html.escape(str(cell['categories'].item()))}")
    return "<br>".join(lines)


def _corners(figure: go.Figure) -> None:
    """Names of the four corners, out of the way of the data."""
    for x, y, text in (
        (0.01, 0.995, "a concept"),
        (0.99, 0.995, "concept and words"),
        (0.01, 0.01, "neither"),
        (0.99, 0.01, "words"),
    ):
        figure.add_annotation(
            x=x,
            y=y,
            xref="paper",
            yref="paper",
            xanchor="left" if x < 0.5 else "right",
            yanchor="top" if y > 0.5 else "bottom",
            text=f"<i>{text}</i>",
            font={"size": 12, "color": MUTED},
            showarrow=False,
        )


def _describe(plane: xr.Dataset, high: float) -> list[str]:
    attrs = plane.attrs
    tokens = [str(each) for each in attrs.get("refusal_token_texts", [])]
    shown = ", ".join(repr(each) for each in tokens[:6]) + (", …" if len(tokens) > 6 else "")
    return [
        model_of(attrs),
        f"site {attrs['site']}" if attrs.get("site") else "",
        f"n = {attrs['n']} prompts, none of them behind the directions"
        if "n" in attrs
        else "n not recorded",
        f"refusal tokens {shown}" if tokens else "",
        f"grey: a random direction (up to {high:.2f})" if np.isfinite(high) else "",
        "lines run through the layers to the last",
        f"bars: {float(attrs.get('confidence', 0.95)):.0%} intervals of the area",
        "dotted: chance",
    ]


def concept_numbers(run: Any) -> xr.Dataset:
    """Detection against all others, and the share of words."""
    return drawn(run.results["concept"].sel(contrast="all", drop=True), "auc", "words")


CONCEPT_OR_WORDS = GalleryEntry(
    name="concept_or_words",
    question="Concept, or words of the refusal?",
    caption="Each line is a category's direction through the layers, large at the last: how "
    "well it detects test prompts of its category, against how much of it lies in the "
    "span of the refusal tokens. The grey band is where a random direction falls. "
    "High and left is a concept, to the right are words.",
    answers="",
    needs="concept",
    figure=lambda run: concept_or_words(run.results["concept"]),
    data=concept_numbers,
)
