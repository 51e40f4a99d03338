"""What the chosen direction does on prompts that did not choose it, beside what chose it."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    PALETTE,
    intervals_of,
    legend_below,
    model_of,
    position_text,
    require,
    themed,
)
from workbench.figures.selection.candidates import DRAWN_SCORES, SCORES
from workbench.figures.tidy import drawn
from workbench.kept import kept_line
from workbench.labels import has_intervals
from workbench.written import number, with_interval

_TITLES = {
    "bypass": "<b>Bypass ↓</b>: harmful, ablated",
    "induce": "<b>Induce ↑</b>: harmless, added",
    "kl": "<b>KL ↓</b>: harmless, ablated",
}
_SERIES = (
    ("chosen_by_", "validation prompts, which chose", MUTED, "circle-open", 0.18),
    ("", "test prompts, which did not", PALETTE[2], "circle", -0.18),
)


@checked
def held_out(scores: xr.Dataset) -> go.Figure:
    """Scores of the chosen candidate and its runners-up on test prompts, and those that chose.

    One row per candidate, the chosen one on top; hollow marks are what the selection saw.

    Args:
        scores: as `measure_held_out` returns them.

    Raises:
        StudyError: not such scores.
    """
    require(scores, "measurement on held-out prompts", SCORES, ("candidate",))
    figure = make_subplots(
        cols=3,
        shared_yaxes=True,
        horizontal_spacing=0.05,
        subplot_titles=[_TITLES[name] for name in SCORES],
    )
    figure.update_annotations(font={"size": 12, "color": INK})
    rows = np.arange(scores.sizes["candidate"], dtype=float)
    for column, name in enumerate(SCORES, start=1):
        for prefix, label, colour, symbol, offset in _SERIES:
            figure.add_trace(
                _marks(scores, f"{prefix}{name}", rows + offset, label, colour, symbol).update(
                    showlegend=column == 1
                ),
                1,
                column,
            )
        units = scores[name].attrs.get("units", "nats")
        figure.update_xaxes(exponentformat="e", col=column)
        figure.update_xaxes(title_text=f"{'KL' if name == 'kl' else 'score'} ({units})", col=column)
    names = [
        f"{'★ ' if rank == 0 else ''}layer {int(layer)}, {position_text(position)}"
        for rank, (layer, position) in enumerate(
            zip(scores["layer"].values, scores["position"].values, strict=True)
        )
    ]
    figure.update_yaxes(
        tickvals=rows.tolist(), ticktext=names, range=[len(rows) - 0.5, -0.5], showgrid=False
    )
    attrs = scores.attrs
    parts = [
        model_of(attrs),
        f"n = {attrs.get('n_harmful', '?')} harmful and {attrs.get('n_harmless', '?')} harmless "
        "test prompts",
        kept_line(attrs.get("test_prompts")),
        "scored by first-token refusal score, no judge",
        "★ chosen, then the others that passed; they are not random directions"
        if len(rows) > 1
        else "no other candidate passed the selection",
        intervals_of(scores, "bars", *SCORES),
    ]
    title = "What the chosen direction does on prompts that did not choose it"
    themed(figure, title, parts, height=110 + 44 * len(rows))
    return legend_below(figure, "")


def _marks(
    scores: xr.Dataset, name: str, rows: np.ndarray, label: str, colour: str, symbol: str
) -> go.Scatter:
    """One score of every candidate on one set of prompts."""
    values = scores[name].values
    settings: dict[str, Any] = {}
    texts = [number(value) for value in values]
    if has_intervals(scores.get(f"{name}_interval")):
        low, high = scores[f"{name}_interval"].transpose("bound", "candidate").values
        settings["error_x"] = error_bars(values, low, high, 3, color=colour, thickness=1.5)
        texts = [
            with_interval(*each, lacking="")
            for each in zip(values, zip(low, high, strict=True), strict=True)
        ]
    if f"{name}_median" in scores:
        spread = zip(
            texts, scores[f"{name}_median"].values, scores[f"{name}_max"].values, strict=True
        )
        texts = [
            f"{text}, median {number(one)}, max {number(other)}" for text, one, other in spread
        ]
    return go.Scatter(
        x=values.tolist(),
        y=rows.tolist(),
        mode="markers",
        name=label,
        legendgroup=label,
        marker={
            "color": colour,
            "symbol": symbol,
            "size": 9,
            "line": {"color": colour, "width": 2},
        },
        customdata=texts,
        hovertemplate=f"{label}<br>%{{customdata}}<extra></extra>",
        **settings,
    )


def held_out_numbers(run: Any) -> xr.Dataset:
    """The chosen candidate and its runners-up on test prompts, and what chose them."""
    return drawn(run.held_out, *DRAWN_SCORES, *(f"chosen_by_{name}" for name in SCORES))


HELD_OUT = GalleryEntry(
    name="held_out",
    question="What does the chosen direction do on prompts that did not choose it?",
    caption="Filled marks are the claim: test prompts, of which the selection saw none. "
    "Hollow marks are the validation prompts that chose; where they lie further to the good "
    "side than the filled ones, the winner was lucky there. The other rows are its "
    "runners-up, where others passed the selection, not controls.",
    answers="",
    needs="held_out",
    figure=lambda run: held_out(run.held_out),  # pyright: ignore[reportAttributeAccessIssue]
    data=held_out_numbers,
)
