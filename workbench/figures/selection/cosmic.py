"""COSMIC's score of every candidate direction, and its pick beside the rule's."""

from typing import Any

import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.theme import (
    INK,
    SHADE,
    intervals_of,
    legend_below,
    model_of,
    position_text,
    require,
    themed,
)
from workbench.figures.selection.candidates import first_skipped, line_of
from workbench.figures.tidy import drawn
from workbench.positions import Position, position_order
from workbench.written import estimated, number

_HOVER = (
    "layer %{customdata[0]}, position %{customdata[1]}<br>score %{customdata[2]}"
    "<br>refuse %{customdata[3]}<br>comply %{customdata[4]}<br>KL %{customdata[5]}<extra></extra>"
)
_PICKS = (("pick", "COSMIC's pick", "star", 17), ("rule", "the rule's", "diamond-open", 15))


@checked
def cosmic(scores: xr.Dataset) -> go.Figure:
    """COSMIC's score by layer, one line per position.

    Draws, where the dataset has them, ``pick`` and ``rule`` of its ``attrs``, (layer, position).

    Args:
        scores: as `sweep_cosmic` returns them.

    Raises:
        StudyError: not such scores, or nothing in them was measured.
    """
    require(scores, "result of sweep_cosmic", ("score", "refuse", "comply"), ("layer", "position"))
    order = sorted(scores["position"].values.tolist(), key=position_order)
    scores = scores.sortby("layer").sel(position=order)
    figure = go.Figure()
    layers = scores["layer"].values.tolist()
    for index, position in enumerate(scores["position"].values.tolist()):
        at = scores.sel(position=position)
        ends = at["score_interval"].transpose("bound", "layer").values
        values = at["score"].values
        figure.add_traces(
            line_of(scores, position, index, values, ends, _hover(at, position), _HOVER)
        )
    attrs = scores.attrs
    for key, name, symbol, size in _PICKS:
        if key in attrs:
            figure.add_trace(_mark(scores, attrs[key], name, symbol, size))
    figure.add_hline(2 * float(attrs["plain"]), line={"color": INK, "dash": "dash", "width": 1.3})
    last = layers[-1]
    note = ""
    first = first_skipped(scores, None)
    if first is not None and first <= last:
        shade = {"fillcolor": SHADE, "line_width": 0, "layer": "below"}
        figure.add_vrect(first - 0.5, last + 0.5, **shade)
        note = f" (shaded: {first} and up are left out)"
    figure.update_xaxes(title_text=f"layer{note}", range=[layers[0] - 0.5, last + 0.5])
    figure.update_yaxes(title_text="refuse + comply (sum of two cosines)")
    read = ", ".join(map(str, attrs["read_layers"]))
    parts = [
        model_of(attrs),
        f"n = {attrs['n_harmful']} harmful and {attrs['n_harmless']} harmless prompts",
        f"activations compared at the input of layer {read}, last token",
        f"dashed: no intervention, {number(2 * float(attrs['plain']))}",
        f"cosine of the two picks {number(float(attrs['cosine']))}" if "cosine" in attrs else "",
        f"the rule's is dropped by COSMIC: {attrs['rule_dropped']}"
        if attrs.get("rule_dropped")
        else "",
        intervals_of(scores, "bands", "score"),
    ]
    themed(figure, "COSMIC: candidates by what they do to activations", parts, height=380)
    return legend_below(figure, "position")


def _hover(at: xr.Dataset, position: Position) -> list[list[str]]:
    """All scores of one position, layer by layer."""
    return [
        [
            str(layer),
            position_text(position),
            *(estimated(at.sel(layer=layer), name) for name in ("score", "refuse", "comply")),
            number(float(at["kl"].sel(layer=layer))),
        ]
        for layer in at["layer"].values.tolist()
    ]


def _mark(scores: xr.Dataset, place: list[Any], name: str, symbol: str, size: int) -> go.Scatter:
    """One of the picks."""
    layer, position = place
    at = scores.sel(position=position)
    row = at["layer"].values.tolist().index(layer)
    return go.Scatter(
        x=[layer],
        y=[float(at["score"].sel(layer=layer))],
        mode="markers",
        name=f"{name}: layer {layer}, {position_text(position)}",
        marker={
            "symbol": symbol,
            "size": size,
            "color": "#FFD400" if symbol == "star" else INK,
            "line": {"color": INK, "width": 1.5},
        },
        customdata=[_hover(at, position)[row]],
        hovertemplate=_HOVER,
    )


def cosmic_numbers(run: Any) -> xr.Dataset:
    """COSMIC's scores of every candidate."""
    return drawn(run.results["cosmic"], "score", "refuse", "comply", "kl")


COSMIC = GalleryEntry(
    name="cosmic",
    question="Which direction turns activations into those of the other prompts?",
    caption="A second opinion that looks at no output: how far adding a candidate makes "
    "harmless prompts look harmful, and ablating it harmful ones harmless, in the few layers "
    "where they differ most; 2 would be entirely. The star is COSMIC's pick, the diamond the "
    "rule's. They are scored on the same validation prompts, which chose both. A candidate "
    "that does nothing stands on the dashed line, not at zero.",
    answers="Siu et al. 2025, COSMIC's scores by layer and position",
    needs="cosmic",
    figure=lambda run: cosmic(run.results["cosmic"]),
    data=cosmic_numbers,
)
