"""What interventions do to the loss on ordinary text, against random directions."""

from typing import Any

import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.theme import (
    INK,
    MUTED,
    NEUTRAL,
    PALETTE,
    intervals_of,
    model_of,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.written import number, with_interval

_COLOURS = {"ablated": PALETTE[2], "added": PALETTE[3], "projection set": PALETTE[1]}


@checked
def losses(losses: xr.Dataset) -> go.Figure:
    """Change of the cross-entropy from the plain model's, a panel per set of texts.

    Random vectors of the same length are hollow, with their range. Panels have their own scales:
    the plain loss, which stands above each, may be a thousand times another's.

    Args:
        losses: ``change`` and ``change_interval`` (text_set, condition), as the analysis ``losses``
            of a run has them.

    Raises:
        StudyError: not such a dataset, or nothing in it was measured.
    """
    require(losses, "result of losses", ["change"], ("text_set", "condition"))
    sets = [str(each) for each in losses["text_set"].values]
    conditions = [str(each) for each in losses["condition"].values if str(each) != "plain"]
    figure = make_subplots(
        cols=len(sets),
        shared_yaxes=True,
        horizontal_spacing=0.06,
        subplot_titles=[_title(losses.sel(text_set=name)) for name in sets],
    )
    figure.update_annotations(font={"size": 12, "color": INK})
    for column, name in enumerate(sets, start=1):
        for condition in conditions:
            at = losses.sel(text_set=name, condition=condition)
            figure.add_trace(_dot(at, name, condition), 1, column)
        figure.add_vline(0, line={"color": MUTED, "width": 1.2}, row=1, col=column)  # pyright: ignore[reportArgumentType]
        figure.update_xaxes(title_text="change of loss (nats per token)", row=1, col=column)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    attrs = losses.attrs
    n_random = losses.sizes.get("control", 0)
    parts = [
        model_of(attrs),
        intervals_of(losses, "bars", "change"),
        f"hollow: mean and range of {n_random} random vectors of that length" if n_random else "",
        "scales differ between panels",
    ]
    return themed(figure, "What the direction does to ordinary text", parts, height=330)


def _title(at: xr.Dataset) -> str:
    plain = at.sel(condition="plain")
    return (
        f"{at['text_set'].item()} (n = {int(at['n'])})<br>plain: "
        f"{number(float(plain['loss']))} nats per token, perplexity "
        f"{number(float(plain['perplexity']))}"
    )


def _dot(at: xr.Dataset, name: str, condition: str) -> go.Scatter:
    """One condition's change with its interval."""
    change = float(at["change"])
    low, high = (float(end) for end in at["change_interval"].sel(bound=["low", "high"]).values)
    random = condition.startswith("random")
    if random and "random_change" in at:
        every = at["random_change"].sel(edit=condition.removeprefix("random ")).values
        low, high = float(every.min()), float(every.max())
    colour = _COLOURS.get(condition.removeprefix("random "), NEUTRAL)
    told = (
        f"{name}, {condition}<br>change {with_interval(change, (low, high))}<br>"
        f"loss {number(float(at['loss']))}, perplexity {number(float(at['perplexity']))}"
    )
    if "random_change" in at and condition in at["edit"].values:
        beside = at.sel(edit=condition)
        side = "outside" if bool(beside["outside"]) else "within"
        told += f"<br>{side} the range of random vectors, p = {float(beside['p_value']):.2g}"
    known = low == low
    return go.Scatter(
        x=[change],
        y=[condition],
        mode="markers",
        name=condition,
        showlegend=False,
        marker={
            "size": 11,
            "color": "white" if random else colour,
            "line": {"color": colour if random else INK, "width": 2 if random else 0.8},
        },
        error_x=error_bars([change], [low], [high], color=INK, thickness=1.5) if known else None,
        hovertemplate=f"{told}<extra></extra>",
    )


def losses_numbers(run: Any) -> xr.Dataset:
    """Losses and their changes by condition."""
    return drawn(run.results["losses"], "change", "loss", "perplexity", "n")


LOSSES = GalleryEntry(
    name="losses",
    question="What do the edits do to ordinary text?",
    caption="Change of the mean loss per token from the plain model's, on passages of everyday "
    "prose and on the model's own plain replies to harmless test prompts. An edit that leaves "
    "the model as it was lies on the line; one that does no more harm than any vector of its "
    "length lies within the bar of the hollow mark. Every token weighs the same. The plain loss "
    "says how far the text is from what the model was trained on; read changes against it.",
    answers="Arditi et al. 2024, loss with the direction ablated and added",
    needs="losses",
    figure=lambda run: losses(run.results["losses"]),
    data=losses_numbers,
)
