"""The plane in which a direction is chosen: what ablation costs against what it removes."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.theme import INK, MUTED, legend_below, themed
from workbench.figures.selection.candidates import (
    HOVER,
    ChoiceLike,
    KLAxis,
    candidate_numbers,
    chosen,
    describe,
    first_skipped,
    hover,
    mark,
    position_name,
    read_sweep,
    setting,
    star,
    units,
)
from workbench.written import number


@checked
def selection_plane(
    scores: xr.Dataset, choice: ChoiceLike | None = None, kl_cap: float = 0.1
) -> go.Figure:
    """KL against bypass: a good direction lies low and to the left.

    Candidates that fail a criterion (KL above the cap, induce below its floor, a layer that the
    selection leaves out) are hollow, so a filled mark is a direction that could have been chosen.

    Args:
        scores: scores by layer and position, as for `sweep`.
        choice: anything with ``.layer`` and ``.position``; ``kl_cap``, ``induce_floor`` and
            ``skip_last`` in its ``.settings`` are drawn where it has them.
        kl_cap: the highest KL that is accepted, in nats, where neither choice nor dataset say.

    Raises:
        StudyError: not a sweep, or nothing in it was measured.
    """
    scores = read_sweep(scores)
    kl_cap = float(setting(scores, choice, "kl_cap", kl_cap))
    axis = KLAxis.of(np.append(scores["kl"].values, kl_cap))
    figure = go.Figure()
    eligible = _eligible(scores, choice, kl_cap)
    for index, position in enumerate(scores["position"].values.tolist()):
        at = scores.sel(position=position)
        colour, symbol = mark(index)
        fills = [colour if each else "white" for each in eligible.sel(position=position).values]
        shape = {"symbol": symbol, "size": 10, "line": {"color": colour, "width": 1.6}}
        name = position_name(scores, position)
        figure.add_trace(
            go.Scatter(
                x=at["bypass"].values.tolist(),
                y=axis.drawn(at["kl"].values),
                mode="markers",
                name=name,
                legendgroup=str(position),
                showlegend=False,
                marker={**shape, "color": fills},
                customdata=hover(scores, position),
                hovertemplate=HOVER,
            )
        )
        # The legend would take the fill of the first candidate, which is usually hollow.
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name=name,
                legendgroup=str(position),
                marker={**shape, "color": colour},
            )
        )
    cell = chosen(scores, choice)
    if cell is not None and np.isfinite([cell["bypass"].item(), cell["kl"].item()]).all():
        y = axis.drawn(cell["kl"].values[None])[0]
        figure.add_trace(star(cell["bypass"].item(), y, cell, scores))
    figure.add_hline(kl_cap, line={"color": INK, "dash": "dash", "width": 1.3})
    baseline = scores.attrs.get("harmful_baseline")
    if baseline is not None:
        figure.add_vline(baseline, line={"color": MUTED, "dash": "dot", "width": 1.6})
    figure.update_xaxes(
        title_text=f"bypass: refusal score when ablated ({units(scores, 'bypass')})"
    )
    figure.update_yaxes(title_text=f"KL on harmless prompts ({units(scores, 'kl')})")
    figure.update_yaxes(**axis.layout())
    parts = [*describe(scores, choice), _rule(scores, choice, kl_cap), "dashed: KL cap"]
    if baseline is not None:
        parts.append(f"dotted: bypass with no intervention, {number(baseline)}")
    themed(figure, "Which candidates could be chosen", parts, height=430)
    return legend_below(figure, "position")


def _eligible(scores: xr.Dataset, choice: Any, kl_cap: float) -> xr.DataArray:
    floor = float(setting(scores, choice, "induce_floor", 0.0))
    passes = (scores["kl"] <= kl_cap) & (scores["induce"] >= floor) & scores["bypass"].notnull()
    first = first_skipped(scores, choice)
    return passes if first is None else passes & (scores["layer"] < first)


def _rule(scores: xr.Dataset, choice: Any, kl_cap: float) -> str:
    """What it takes to be filled, in words."""
    floor = float(setting(scores, choice, "induce_floor", 0.0))
    first = first_skipped(scores, choice)
    rule = f"filled: KL ≤ {number(kl_cap)}, induce ≥ {number(floor)}"
    return rule if first is None else f"{rule}, layer < {first}"


SELECTION_PLANE = GalleryEntry(
    name="selection_plane",
    question="Which candidates remove refusal and leave the rest alone?",
    caption="A good direction lies low and to the left. Hollow marks fail a criterion of the "
    "selection, named in the subtitle; a hollow mark further left than the star is "
    "not a better choice, it was refused.",
    answers="Arditi et al. 2024, the selection rule",
    needs="",
    figure=lambda run: selection_plane(run.scores, run.choice),
    data=candidate_numbers,
)
