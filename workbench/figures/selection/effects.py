"""What an intervention does to refusal, by set of prompts."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry, controls_of
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import (
    INK,
    NEUTRAL,
    PALETTE,
    interval_name,
    legend_below,
    model_of,
    position_text,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.labels import has_intervals
from workbench.written import number, p_value

_BAR = 0.8
"""Share of the room of a prompt set that its bars fill."""
_CLEAR = 1.5
"""Percent between the end of an interval and the value above it, so that its cap is no accent."""

_CONDITION_COLOURS = {
    "plain": NEUTRAL,
    "ablated": PALETTE[2],
    "added": PALETTE[3],
    "projection set": PALETTE[1],
}


@checked
def effects(effects: xr.Dataset, controls: xr.Dataset | None = None) -> go.Figure:
    """Refusal rates by prompt set, one bar per condition, with intervals and values.

    A rate that was not measured has no bar and says so, so that it is not read as zero.

    Args:
        effects: ``refusal_rate`` (prompt_set, condition), and where known
            ``refusal_rate_interval`` (…, bound) and ``n`` (prompt_set).
        controls: what vectors without signal do, as a run has it: hollow diamonds on the bars,
            one for each that was answered with.

    Raises:
        StudyError: not such a dataset, or nothing in it was measured.
    """
    require(effects, "result of effects", ["refusal_rate"], ("prompt_set", "condition"))
    conditions = [str(each) for each in effects["condition"].values]
    width = _BAR / len(conditions)
    figure = go.Figure()
    for index, condition in enumerate(conditions):
        at = effects.sel(condition=condition)
        rates = 100 * at["refusal_rate"].values
        low, high = _interval(at, rates)
        x = np.arange(len(rates)) + (index - (len(conditions) - 1) / 2) * width
        colour = _CONDITION_COLOURS.get(condition, PALETTE[(index + 1) % len(PALETTE)])
        figure.add_trace(
            go.Bar(
                x=x.tolist(),
                y=rates.tolist(),
                width=0.92 * width,
                name=condition,
                legendgroup=condition,
                marker={"color": colour, "line": {"color": INK, "width": 0.8}},
                error_y=error_bars(rates, low, high, color=INK, thickness=1.5),
                customdata=_hover(at, low, high),
                hovertemplate=(
                    f"%{{customdata[0]}}, {condition}<br>refusal rate %{{customdata[1]}}"
                    "%{customdata[3]}<br>n = %{customdata[2]}<extra></extra>"
                ),
            )
        )
        # Values stand above the intervals: inside a bar they vanish where it is short.
        figure.add_trace(
            go.Scatter(
                x=x.tolist(),
                y=(np.nan_to_num(high) + _CLEAR).tolist(),
                mode="text",
                text=[f"{rate:.0f}" if np.isfinite(rate) else "n/m" for rate in rates],
                textposition="top center",
                textfont={"size": 12, "color": INK},
                legendgroup=condition,
                showlegend=False,
                hoverinfo="skip",
            )
        )
    parts = _subtitle(effects)
    if controls is not None:
        figure.add_trace(_of_controls(effects, controls, conditions, width))
        n = " and ".join(str(int(each)) for each in dict.fromkeys(controls["n_judged"].values))
        parts.append(
            f"diamonds: {controls.sizes['judged']} controls ({_sorts(controls)}), on {n} of the "
            "prompts"
        )
    _axes(figure, effects)
    themed(figure, "What the direction does to refusal", parts, height=400)
    return legend_below(figure, "condition")


def _of_controls(
    effects: xr.Dataset, controls: xr.Dataset, conditions: list[str], width: float
) -> go.Scatter:
    """What is refused with each control, on the bar of what the direction does."""
    x, y, told = [], [], []
    kinds = [str(each) for each in effects["prompt_set"].values]
    for kind in map(str, controls["prompt_set"].values):
        for condition in map(str, controls["condition"].values):
            if kind not in kinds or condition not in conditions:
                continue
            at = controls.sel(prompt_set=kind, condition=condition)
            middle = kinds.index(kind) + width * (
                conditions.index(condition) - (len(conditions) - 1) / 2
            )
            for index, (name, rate) in enumerate(
                zip(at["judged"].values, at["control_rate"].values, strict=True)
            ):
                # Side by side, or one of two equal rates would not be seen.
                step = (index - (at.sizes["judged"] - 1) / 2) * width / 3
                x.append(middle + step)
                y.append(100 * float(rate))
                told.append(
                    f"{kind}, {condition}<br>{name}: {float(rate):.0%} refused<br>the direction on "
                    f"the same {int(at['n_judged'])} prompts: {float(at['judged_rate']):.0%}"
                )
    return go.Scatter(
        x=x,
        y=y,
        mode="markers",
        name="controls",
        marker={
            "symbol": "diamond",
            "size": 9,
            "color": "white",
            "line": {"color": INK, "width": 1.5},
        },
        cliponaxis=False,
        customdata=told,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _sorts(controls: xr.Dataset) -> str:
    """What the controls are that were answered with."""
    names = [str(name) for name in controls["judged"].values]
    shuffled = sum(name.startswith("permuted") for name in names)
    text = "random vectors as long as the direction"
    return f"{text}, {shuffled} of shuffled labels" if shuffled else text


def _interval(at: xr.Dataset, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both ends in percent; the rate itself where there is no interval."""
    if "refusal_rate_interval" not in at:
        return rates, rates
    ends = at["refusal_rate_interval"].sel(bound=["low", "high"]).transpose("bound", "prompt_set")
    low, high = np.where(np.isfinite(ends.values), 100 * ends.values, rates)
    # A rate of exactly 0 or 1 may stand outside its interval by rounding; bars do not go back.
    return np.minimum(low, rates), np.maximum(high, rates)


def _hover(at: xr.Dataset, low: np.ndarray, high: np.ndarray) -> list[list[str]]:
    rows = []
    for index, name in enumerate(at["prompt_set"].values):
        rate = at["refusal_rate"].values[index]
        text = f"{rate:.1%} [{low[index]:.1f}, {high[index]:.1f}]"
        n = str(int(at["n"].values[index])) if "n" in at else "not recorded"
        told = _against_plain(at.isel(prompt_set=index))
        rows.append([str(name), text if np.isfinite(rate) else "not measured", n, told])
    return rows


def _against_plain(cell: xr.Dataset) -> str:
    """How a rate differs from the plain one on the same prompts, where that was compared."""
    if "p_holm" not in cell or not np.isfinite(p := float(cell["p_holm"])):
        return ""
    low, high = 100 * cell["difference_interval"].sel(bound=["low", "high"]).values
    change = 100 * float(cell["difference"])
    return f"<br>against plain {change:+.0f} points [{low:+.0f}, {high:+.0f}], {p_value(p)}"


def _axes(figure: go.Figure, effects: xr.Dataset) -> None:
    names = [str(each) for each in effects["prompt_set"].values]
    if "n" in effects:
        counts = effects["n"].values
        names = [f"{name}<br>n = {int(n)}" for name, n in zip(names, counts, strict=True)]
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5]
    )
    # Room above 100 for the values; the axis itself ends where rates end.
    figure.update_yaxes(
        title_text="refusal rate (%)", range=[0, 112], tickvals=list(range(0, 101, 20))
    )


def _subtitle(effects: xr.Dataset) -> list[str]:
    attrs = effects.attrs
    where = [
        f"{key} {position_text(attrs[key]) if key == 'position' else number(attrs[key])}"
        for key in ("layer", "position", "coefficient")
        if attrs.get(key) is not None
    ]
    if attrs.get("projection") is not None:
        where.append(
            f"projection set to {number(attrs['projection'])}, the mean of harmful prompts"
        )
    not_measured = bool(np.isnan(effects["refusal_rate"].values).any())
    known = has_intervals(effects.get("refusal_rate_interval"))
    return [
        model_of(attrs),
        ", ".join(where),
        f"judge: {attrs['judge']}" if attrs.get("judge") else "judge not recorded",
        "" if "n" in effects else "n not recorded",
        "bars: share of replies refused"
        + (f", {interval_name(effects)}" if known else ", no intervals"),
        _test(effects),
        "n/m: not measured" if not_measured else "",
    ]


def _test(effects: xr.Dataset) -> str:
    """What is not told apart from plain, and by which test."""
    n = int(effects.attrs.get("n_compared", 0))
    if not n or "p_holm" not in effects:
        return ""
    level = 1 - float(effects.attrs.get("confidence", 0.95))
    p = effects["p_holm"]
    alike = [
        f"{condition} on {kind}"
        for kind in effects["prompt_set"].values
        for condition in effects["condition"].values
        if float(p.sel(prompt_set=kind, condition=condition)) >= level
    ]
    text = ", ".join(alike) if alike else "none"
    return f"not told apart from plain: {text} (McNemar's test, exact, Holm over {n})"


def rates_numbers(run: Any) -> xr.Dataset:
    """Refusal rates by condition."""
    return drawn(
        run.effects, "refusal_rate", "n", "difference", "gained", "lost", "p_value", "p_holm"
    )


EFFECTS = GalleryEntry(
    name="effects",
    question="Does the direction decide whether the model refuses?",
    caption="Share of test prompts refused under each condition, as the named judge sees it. "
    "Needed for refusal: the bar of harmful prompts falls when the direction is "
    "ablated. Enough for it: the bar of harmless prompts rises when it is added or "
    "when its projection is set to the mean of harmful prompts. Where a random vector "
    "(diamond) does as much, it is not the direction's doing. A reply that is not refused need "
    "not be a good one. Bars are compared on the same prompts, so two intervals that overlap "
    "can still be told apart: the subtitle says which are not.",
    answers="Arditi et al. 2024, refusals with the direction ablated and added",
    needs="",
    figure=lambda run: effects(run.effects, controls_of(run)),
    data=rates_numbers,
)
