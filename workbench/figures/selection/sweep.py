"""What every candidate direction does, by layer and position."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.control_kinds import RANDOM, SHUFFLED, kinds_of, n_of_sorts, sorts
from workbench.figures.parts.bands import band
from workbench.figures.parts.entry import GalleryEntry, controls_of
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    PALETTE,
    SHADE,
    interval_name,
    legend_below,
    position_text,
    themed,
    translucent,
)
from workbench.figures.selection.candidates import (
    HOVER,
    SCORES,
    ChoiceLike,
    KLAxis,
    candidate_numbers,
    chosen,
    describe,
    first_skipped,
    hover,
    interval,
    line_of,
    read_sweep,
    setting,
    star,
    units,
)
from workbench.labels import has_intervals
from workbench.positions import Position
from workbench.written import number

_LOOKS = {RANDOM: (MUTED, 0.35, -0.06), SHUFFLED: (PALETTE[5], 0.3, 0.06)}
"""Of controls: their colour, how dense their band is, and how far they stand from the choice."""
_TITLES = {
    "bypass": "<b>Bypass ↓</b>: harmful prompts, direction ablated",
    "induce": "<b>Induce ↑</b>: harmless prompts, direction added",
    "kl": "<b>KL ↓</b>: harmless prompts, plain ‖ ablated",
}
_DASHED = {
    "bypass": ("harmful_baseline", "no intervention"),
    "induce": ("harmless_baseline", "no intervention"),
    "kl": ("kl_cap", "cap"),
}


@checked
def sweep(
    scores: xr.Dataset, choice: ChoiceLike | None = None, controls: xr.Dataset | None = None
) -> go.Figure:
    """Bypass, induce and KL of every candidate, by layer, with one line per position.

    Draws, where the dataset has them: intervals as bands, the scores without intervention and the
    KL cap as dashed lines, the layers that the selection leaves out as a shade. The subtitle says
    where there are no intervals. KL is logarithmic when it spans more than two decades. Candidates
    that were skipped leave a gap.

    Args:
        scores: scores by layer and position, as `sweep_directions` and `load_published` give them.
        choice: anything with ``.layer`` and ``.position``, which are marked with a star; the
            thresholds in its ``.settings`` are drawn where it has them.
        controls: what vectors without signal do, as a run has it: their range is dotted, by layer
            where they are added, and a bar at the choice elsewhere.

    Raises:
        StudyError: not a sweep, or nothing in it was measured.
    """
    scores = read_sweep(scores)
    axis = KLAxis.of(scores["kl"].values)
    figure = make_subplots(
        rows=3,
        shared_xaxes=True,
        vertical_spacing=0.075,
        subplot_titles=[_panel_title(scores, panel, choice) for panel in SCORES],
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": INK})
    for row, panel in enumerate(SCORES, start=1):
        if controls is not None and choice is not None:
            for trace in _of_controls(controls, panel, choice, axis, showlegend=row == 1):
                figure.add_trace(trace, row, 1)
            figure.add_trace(_beside_controls(controls, panel, choice, axis, row == 1), row, 1)
        for index, position in enumerate(scores["position"].values.tolist()):
            band, line = _position(scores, panel, position, index, axis)
            if band is not None:
                figure.add_trace(band, row, 1)
            figure.add_trace(line.update(showlegend=row == 1), row, 1)
        cell = chosen(scores, choice)
        if choice is not None and cell is not None and np.isfinite(cell[panel].item()):
            y = _drawn(np.array([cell[panel].item()]), panel, axis)[0]
            figure.add_trace(star(choice.layer, y, cell, scores, showlegend=row == 1), row, 1)
        _references(figure, scores, panel, choice, row)
        what = "KL" if panel == "kl" else "refusal score"
        figure.update_yaxes(title_text=f"{what} ({units(scores, panel)})", row=row, col=1)
    figure.update_yaxes(row=3, col=1, **axis.layout())
    shaded = first_skipped(scores, choice)
    note = "" if shaded is None else f" (shaded: {shaded} and up are left out of the selection)"
    figure.update_xaxes(title_text=f"layer{note}", row=3, col=1)
    layers = scores["layer"].values
    figure.update_xaxes(range=[int(layers[0]) - 0.5, int(layers[-1]) + 0.5])
    parts = describe(scores, choice)
    parts.append(_bands(scores))
    if controls is not None and choice is not None:
        n_harmful, n_harmless = controls.attrs["n_swept"]
        parts.append(
            f"grey and ochre: range of {_sorts(controls)} at position "
            f"{position_text(choice.position)}, on {n_harmful} harmful and "
            f"{n_harmless} harmless of the prompts that chose the star; cross: the star on those"
        )
    themed(figure, "What each candidate direction does", parts, height=700)
    return legend_below(figure, "position")


def _bands(scores: xr.Dataset) -> str:
    """Which panels have bands, what they are, and what KL has instead."""
    drawn = [panel for panel in SCORES if has_intervals(scores.get(f"{panel}_interval"))]
    if not drawn:
        known = any(f"{panel}_interval" in scores for panel in SCORES)
        return "no intervals: " + ("too few prompts" if known else "none in these scores")
    text = f"bands: {interval_name(scores)}"
    if "kl" not in drawn:
        text += "; KL: mean without interval" + (
            ", median and maximum on hover" if "kl_median" in scores else ""
        )
    return text


def _panel_title(scores: xr.Dataset, panel: str, choice: Any) -> str:
    """The key to the dashed line stands in the title, where it covers no data."""
    value = _dashed(scores, panel, choice)
    return _TITLES[panel] + (
        "" if value is None else f" (dashed: {_DASHED[panel][1]}, {number(value)})"
    )


def _dashed(scores: xr.Dataset, panel: str, choice: Any) -> float | None:
    value = setting(scores, choice, _DASHED[panel][0])
    return None if value is None else float(value)


def _position(
    scores: xr.Dataset, panel: str, position: Position, index: int, axis: KLAxis
) -> tuple[go.Scatter | None, go.Scatter]:
    """The band and the line of one position in one panel."""
    values = _drawn(scores[panel].sel(position=position).values, panel, axis)
    ends = interval(scores, panel, position)
    ends = None if ends is None else np.array([_drawn(end, panel, axis) for end in ends])
    return line_of(scores, position, index, values, ends, hover(scores, position), HOVER)


def _drawn(values: np.ndarray, panel: str, axis: KLAxis) -> np.ndarray:
    """Where values stand in a panel: those of KL where its axis has them."""
    return np.asarray(axis.drawn(values)) if panel == "kl" else values


def _of_controls(
    controls: xr.Dataset, panel: str, choice: ChoiceLike, axis: KLAxis, showlegend: bool
) -> list[go.Scatter]:
    """The range of what controls do: by layer where they are added, else at the choice.

    Random vectors and directions of shuffled labels apart, since the latter are short.
    """
    traces = []
    for sort, rows in sorts(kinds_of(controls)).items():
        found = controls[f"control_{panel}"].isel(control=rows)
        colour, density, beside = _LOOKS[sort]
        low, high = found.min("control").values, found.max("control").values
        name = {"name": sort, "legendgroup": sort, "showlegend": showlegend}
        if "layer" in found.dims:
            layers = found["layer"].values.tolist()
            outline = {"color": colour, "width": 1.5, "dash": "dot"}
            drawn = band(layers, low, high, translucent(colour, density), **name)
            traces.append(drawn.update(line=outline))
            continue
        traces.append(
            go.Scatter(
                x=[choice.layer + beside] * 2,
                y=_drawn(np.array([low, high]).ravel(), panel, axis).tolist(),
                mode="lines+markers",
                line={"color": colour, "width": 5},
                marker={"symbol": "line-ew", "size": 12, "line": {"color": colour, "width": 2}},
                opacity=0.55,
                hovertemplate=f"{sort}: %{{y:.3g}}<extra></extra>",
                **name,
            )
        )
    return traces


def _sorts(controls: xr.Dataset) -> str:
    """How many controls of either sort there are."""
    random, shuffled = n_of_sorts(kinds_of(controls))
    text = f"{random} random vectors as long as the candidates"
    return f"{text} and {shuffled} directions of shuffled labels" if shuffled else text


def _beside_controls(
    controls: xr.Dataset, panel: str, choice: ChoiceLike, axis: KLAxis, showlegend: bool
) -> go.Scatter:
    """The chosen candidate on the few prompts that controls are measured on."""
    value = float(controls[panel])
    return go.Scatter(
        x=[choice.layer],
        y=_drawn(np.array([value]), panel, axis).tolist(),
        mode="markers",
        marker={"symbol": "x-thin", "size": 10, "line": {"color": INK, "width": 2}},
        name="chosen, on the prompts of the controls",
        legendgroup="beside",
        showlegend=showlegend,
        hovertemplate=f"the chosen one on those prompts: {number(value)}<extra></extra>",
    )


def _references(figure: go.Figure, scores: xr.Dataset, panel: str, choice: Any, row: int) -> None:
    """What the scores are read against: zero, no intervention, the cap, the layers left out."""
    above: dict[str, Any] = {"row": row, "col": 1, "layer": "above"}
    below: dict[str, Any] = above | {"layer": "below"}
    if panel != "kl":
        figure.add_hline(0, line={"color": MUTED, "width": 1}, **below)
    value = _dashed(scores, panel, choice)
    if value is not None:
        dashes = {"color": INK, "dash": "dash", "width": 1.3}
        figure.add_hline(value, line=dashes, **above)
    first, last = first_skipped(scores, choice), int(scores["layer"].values[-1])
    if first is not None and first <= last:
        figure.add_vrect(first - 0.5, last + 0.5, fillcolor=SHADE, line_width=0, **below)


SWEEP = GalleryEntry(
    name="sweep",
    question="Where does intervening with a direction change refusal?",
    caption="Each line is a token position, each point the candidate of one layer, the star "
    "the selected one. Bypass should be low, induce high and KL small at once. The "
    "validation prompts chose it, so it looks better here than it is: the figure held_out has "
    "the test prompts. Where bands of candidates that pass the selection overlap, the star "
    "is one of several. Grey and ochre are the ranges of random vectors of that length and of "
    "directions of shuffled labels, by layer where they are added and bars at the star's layer "
    "elsewhere: only what leaves both is the direction's own.",
    answers="Arditi et al. 2024, selection scores by layer and position",
    needs="",
    figure=lambda run: sweep(run.scores, run.choice, controls_of(run)),
    data=candidate_numbers,
)
