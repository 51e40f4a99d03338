"""What a direction does beside what vectors without signal do at the same place."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry, controls_of
from workbench.figures.parts.theme import MUTED, PALETTE, legend_below, model_of, require, themed
from workbench.figures.tidy import drawn
from workbench.written import number

_ROW = 46
"""Height of a row, in pixels."""
_SPREAD = 0.24
"""How far from the line of a row its controls are scattered, so that none covers another."""
_NAMES = {
    "isotropic": "random vector",
    "covariance": "random, as activations vary",
    "permuted": "labels shuffled",
}
_COLOURS = {"isotropic": PALETTE[2], "covariance": PALETTE[4], "permuted": PALETTE[5]}


@checked
def control_effects(controls: xr.Dataset) -> go.Figure:
    """Change of the refusal score by the direction and by each control, a row per intervention.

    Rows in which the direction stays within the range of a kind of controls say so.

    Args:
        controls: ``effect``, ``outside`` (prompt_set, condition) and ``control_effect``
            (…, control), as a run has them.

    Raises:
        StudyError: not such a dataset, or nothing in it was measured.
    """
    dims = ("prompt_set", "condition")
    require(controls, "result of controls", ["effect", "control_effect"], dims)
    cells = [
        (str(kind), str(condition))
        for kind in controls["prompt_set"].values
        for condition in controls["condition"].values
    ]
    at = [controls.sel(prompt_set=kind, condition=condition) for kind, condition in cells]
    figure = go.Figure()
    of_kind = controls["control_kind"].values
    for kind in dict.fromkeys(of_kind.tolist()):
        figure.add_trace(_scattered(controls, at, np.flatnonzero(of_kind == kind), str(kind)))
    figure.add_trace(
        go.Scatter(
            x=[float(each["effect"]) for each in at],
            y=list(range(len(cells))),
            mode="markers",
            name="the direction",
            # Open, so that a control which lies behind it is seen.
            marker={"symbol": "diamond-open", "size": 14, "color": PALETTE[3],
                    "line": {"width": 2.5}},
            customdata=[_hover(each, *cell) for each, cell in zip(at, cells, strict=True)],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(0, line={"color": MUTED, "width": 1}, layer="below")
    figure.update_yaxes(
        tickvals=list(range(len(cells))),
        ticktext=[_row(each, *cell) for each, cell in zip(at, cells, strict=True)],
        range=[len(cells) - 0.5, -0.5],
        ticks="",
    )
    figure.update_xaxes(title_text="change of the refusal score (nats)")
    title = "What the direction does, and what any vector of its length does"
    themed(figure, title, _describe(controls), height=_ROW * len(cells) + 60)
    return legend_below(figure, "")


def _scattered(
    controls: xr.Dataset, at: list[xr.Dataset], rows: np.ndarray, kind: str
) -> go.Scatter:
    """The controls of one kind, in every row beside each other."""
    spread = np.linspace(-_SPREAD, _SPREAD, controls.sizes["control"])[rows]
    names = controls["control"].values[rows]
    return go.Scatter(
        x=[value for each in at for value in each["control_effect"].values[rows].tolist()],
        y=[row + step for row in range(len(at)) for step in spread.tolist()],
        mode="markers",
        name=_NAMES.get(kind, kind),
        marker={"color": _COLOURS.get(kind, MUTED), "size": 6, "opacity": 0.75},
        customdata=[str(name) for _ in at for name in names],
        hovertemplate="%{customdata}: %{x:+.2f} nats<extra></extra>",
    )


def _row(at: xr.Dataset, prompt_set: str, condition: str) -> str:
    label = f"{prompt_set}, {condition}"
    return label if bool(at["outside"]) else f"{label}<br><i>within the controls' range</i>"


def _hover(at: xr.Dataset, prompt_set: str, condition: str) -> str:
    every = at["control_effect"].values
    return (
        f"{prompt_set}, {condition}<br>the direction {float(at['effect']):+.2f} nats"
        f"<br>controls {np.median(every):+.2f} [{every.min():+.2f}, {every.max():+.2f}]"
        f"<br>plain score {float(at['plain_score']):.2f}"
        f"<br>two-sided p by rank {float(at['p_value']):.2g}"
    )


def _describe(controls: xr.Dataset) -> list[str]:
    attrs = controls.attrs
    of_kind = np.unique(controls["control_kind"].values, return_counts=True)[1]
    n, m = int(of_kind.min()), controls["outside"].size
    kinds = "" if len(of_kind) == 1 else f" of each of {len(of_kind)} kinds"
    scored_on = attrs.get("scored_on", {})
    counts = " and ".join(
        f"{int(count)} {kind} {scored_on.get(str(kind), 'test prompts')}"
        for kind, count in zip(controls["prompt_set"].values, controls["n"].values, strict=True)
    )
    where = ""
    if "layer_chosen" in attrs:
        where = f"layer {attrs['layer_chosen']}, position {number(attrs['position'])}"
    return [
        model_of(attrs),
        where,
        f"n = {counts}",
        f"{n} controls{kinds}, random ones of the direction's length"
        + (f" ({number(attrs['norm'])})" if "norm" in attrs else ""),
        f"a vector without meaning leaves the range of its kind in {2 / (n + 1):.0%} of cases, "
        f"of {m} effects up to {2 * m / (n + 1):.1f} by chance",
    ]


def controls_numbers(run: Any) -> xr.Dataset:
    """What controls and the direction do to refusal scores and rates."""
    names = ("effect", "control_effect", "outside", "p_value", "plain_score")
    return drawn(run.controls, *names, "judged_rate", "control_rate")


CONTROLS = GalleryEntry(
    name="controls",
    question="Does the direction do more than any vector of its length?",
    caption="Each row is one intervention on one set of test prompts: the diamond is what the "
    "direction does to the refusal score, the dots what vectors without signal do: random ones of "
    "its length, of any orientation and drawn as activations vary within a label, and what the "
    "difference of means gives where labels are shuffled, which is short. An effect is a finding "
    "where the diamond leaves the dots of every colour; how far it moves beyond them is the "
    "direction's own share.",
    answers="",
    needs="controls",
    figure=lambda run: control_effects(controls_of(run)),  # pyright: ignore[reportArgumentType]
    data=controls_numbers,
)
