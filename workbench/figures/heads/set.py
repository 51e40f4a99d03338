"""How many heads it takes: refusal against the size of a set that is patched together."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.parts.bands import band
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    NEUTRAL,
    PALETTE,
    SHADE,
    intervals_of,
    legend_below,
    model_of,
    require,
    themed,
    translucent,
)
from workbench.figures.tidy import drawn
from workbench.kept import kept_line
from workbench.labels import head_label, head_labels
from workbench.written import number, with_interval

_PANEL, _GAP = 230, 58
"""Height of a panel and of what stands between them, in pixels."""


@checked
def head_set(curve: xr.Dataset) -> go.Figure:
    """Refusal score and judged refusal rate at every size of the set, against random sets.

    Read the line, which was measured with the whole set patched; the sum of single effects is what
    it would be if heads did not depend on each other.

    Args:
        curve: as `find_minimal_head_set` returns it.

    Raises:
        StudyError: not such a result.
    """
    require(curve, "curve of head sets", ["score", "rate", "sum_of_singles"], ("size",))
    sizes = curve["size"].values.tolist()
    whole = 2 * _PANEL + _GAP
    figure = make_subplots(rows=2, shared_xaxes=True, vertical_spacing=_GAP / whole)
    _random(figure, curve, sizes)
    figure.add_trace(_singles(curve, sizes), 1, 1)
    for row, name, factor in ((1, "score", 1.0), (2, "rate", 100.0)):
        figure.add_trace(_measured(curve, sizes, name, factor, first=row == 1), row, 1)
    source = curve.attrs.get("source")
    if source is not None:
        _line(figure, float(source), "source prompts", row=1)
    threshold = 100 * float(curve.attrs["threshold"])
    suppress = curve.attrs.get("aim") == "suppress"
    _line(figure, 100 - threshold if suppress else threshold, "threshold", row=2)
    figure.update_yaxes(title_text="refusal score (nats)", row=1)
    figure.update_yaxes(
        title_text="refusal rate (%)", range=[-4, 106], tickvals=list(range(0, 101, 20)), row=2
    )
    added = [head_label(layer, head) for layer, head in _added(curve)]
    ticks = ["none", *(f"{size}<br>+{head}" for size, head in zip(sizes[1:], added, strict=True))]
    figure.update_xaxes(
        tickvals=sizes, ticktext=ticks, range=[-0.4, max(sizes) + 0.4], showticklabels=True
    )
    figure.update_xaxes(title_text="heads patched together, and the one added last", row=2)
    themed(figure, "How many heads it takes", _describe(curve), height=whole + 60)
    return legend_below(figure, "")


def _added(curve: xr.Dataset) -> list[tuple[int, int]]:
    """The heads, in the order in which they were added."""
    pairs = zip(curve["layer"].values[1:], curve["head"].values[1:], strict=True)
    return [(int(layer), int(head)) for layer, head in pairs]


def _measured(
    curve: xr.Dataset, sizes: list[int], name: str, factor: float, first: bool
) -> go.Scatter:
    """The set itself, with intervals."""
    values = factor * curve[name].values
    low, high = factor * curve[f"{name}_interval"].transpose("bound", "size").values
    what = "score" if name == "score" else "rate"
    ends = curve[f"{name}_interval"].transpose("size", "bound").values
    heads = [head_label(layer, head) for layer, head in _added(curve)]
    hover = [
        f"{size} heads: {', '.join(heads[:size]) or 'none'}<br>"
        f"refusal {what} {with_interval(float(value), own, '.0%' if name == 'rate' else number)}"
        f"<br>{_counted(curve)}"
        for size, value, own in zip(sizes, curve[name].values, ends, strict=True)
    ]
    return go.Scatter(
        x=sizes,
        y=values.tolist(),
        mode="lines+markers",
        name="set, patched together",
        legendgroup="set",
        showlegend=first,
        line={"color": PALETTE[1], "width": 2},
        marker={"size": 8},
        error_y=error_bars(values, low, high, color=PALETTE[1], thickness=1.3),
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _singles(curve: xr.Dataset, sizes: list[int]) -> go.Scatter:
    """What the single effects add up to."""
    values = float(curve["score"][0]) + curve["sum_of_singles"].values
    return go.Scatter(
        x=sizes,
        y=values.tolist(),
        mode="lines+markers",
        name="plain score and the sum of single effects",
        line={"color": PALETTE[2], "width": 1.5, "dash": "dash"},
        marker={"size": 6, "symbol": "square"},
        customdata=[number(value) for value in values.tolist()],
        hovertemplate="if effects added up: %{customdata}<extra></extra>",
    )


def _random(figure: go.Figure, curve: xr.Dataset, sizes: list[int]) -> None:
    """Where random sets of the same size fall: all of them above, the last size below."""
    if "random_score" not in curve or not curve.sizes.get("draw"):
        return
    draws = curve["random_score"].transpose("size", "draw").values
    low, high = draws.min(axis=1), draws.max(axis=1)
    name = f"{draws.shape[1]} random sets: range and mean"
    shared: dict[str, Any] = {"legendgroup": "random", "name": name}
    figure.add_trace(band(sizes, low, high, translucent(MUTED, 0.22), showlegend=False), 1, 1)
    figure.add_trace(
        go.Scatter(
            x=sizes,
            y=draws.mean(axis=1).tolist(),
            mode="lines",
            line={"color": MUTED, "width": 1.5},
            customdata=[
                f"random sets of {size}: {number(mean)}, from {number(least)} to {number(most)}"
                for size, mean, least, most in zip(
                    sizes, draws.mean(axis=1).tolist(), low.tolist(), high.tolist(), strict=True
                )
            ],
            hovertemplate="%{customdata}<extra></extra>",
            **shared,
        ),
        1,
        1,
    )
    rates = 100 * curve["random_rate"].values
    labels = curve["random_heads"].values if "random_heads" in curve.coords else [""] * len(rates)
    figure.add_trace(
        go.Scatter(
            # Beside the set's own point, and beside each other where they would cover each other.
            x=(sizes[-1] + np.linspace(0.12, 0.3, len(rates))).tolist(),
            y=rates.tolist(),
            mode="markers",
            marker={"color": NEUTRAL, "size": 6, "line": {"color": MUTED, "width": 1}},
            customdata=[
                f"random set {html.escape(str(label))}: {rate:.0f} %"
                for label, rate in zip(labels, rates, strict=True)
            ],
            hovertemplate="%{customdata}<extra></extra>",
            showlegend=False,
            legendgroup="random",
        ),
        2,
        1,
    )
    figure.add_vrect(
        sizes[-1] + 0.06, sizes[-1] + 0.36, fillcolor=SHADE, line_width=0, layer="below",
        row=2, col=1,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip


def _line(figure: go.Figure, y: float, text: str, row: int) -> None:
    """A level to reach, named at its left end."""
    where: dict[str, Any] = {"row": row, "col": 1}
    figure.add_hline(
        y,
        line={"color": INK, "dash": "dot", "width": 1},
        annotation={"text": text, "font": {"size": 11, "color": MUTED}},
        annotation_position="bottom left",
        **where,
    )


def _counted(curve: xr.Dataset) -> str:
    attrs = curve.attrs
    return f"n = {attrs.get('n_target', '?')} targets, {attrs.get('n_source', '?')} sources"


def _judged_on(attrs: Mapping[str, Any]) -> str:
    """Whether the curve flatters the heads, which were chosen by their scores."""
    if "held_out" not in attrs:
        return ""
    if attrs["held_out"]:
        return f"heads chosen on {attrs['n_chosen_on']} other target prompts"
    return "heads chosen on these same prompts, random sets on none"


def _describe(curve: xr.Dataset) -> list[str]:
    attrs = curve.attrs
    heads = head_labels(_added(curve))
    positions = ", ".join(number(each) for each in attrs.get("positions", []))
    reached = "reached" if attrs.get("reached") else "not reached"
    random = float(curve["random_rate"].mean()) if curve.sizes.get("draw") else np.nan
    return [
        model_of(attrs),
        f"to {attrs['aim']} refusal" if attrs.get("aim") else "",
        f"z at position {positions} replaced by its mean on source prompts",
        f"set {heads or 'empty'}, threshold {attrs['threshold']:.0%} {reached}",
        _counted(curve),
        kept_line(attrs.get("test_prompts")),
        _judged_on(attrs),
        f"judge: {attrs['judge']}" if attrs.get("judge") else "judge not recorded",
        f"random sets of that size: mean rate {random:.0%}, grey dots"
        if np.isfinite(random)
        else "",
        intervals_of(curve, "bars", "rate", "score"),
    ]


def head_set_numbers(run: Any) -> xr.Dataset:
    """Sets of heads by size."""
    names = ("score", "rate", "effect", "sum_of_singles", "random_score", "random_rate")
    return drawn(run.results["head_set"], *names, "layer", "head")


HEAD_SET = GalleryEntry(
    name="head_set",
    question="How many heads does it take to make the model refuse?",
    caption="Heads are added one by one, each time the one that raises the score most, and "
    "all are patched together. Where the line leaves the dashed one, heads depend on "
    "each other. The search is greedy: a smaller set may exist.",
    answers="",
    needs="head_set",
    figure=lambda run: head_set(run.results["head_set"]),
    data=head_set_numbers,
)
