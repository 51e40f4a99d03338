"""Where heads look: shares of attention on the parts of a prompt, and tokens by heads."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.error_bars import error_bars
from workbench.figures.parts.heat import cells, labels
from workbench.figures.parts.theme import (
    INK,
    NEUTRAL,
    PALETTE,
    intervals_of,
    legend_below,
    model_of,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.kept import kept_line
from workbench.written import number, with_interval

_PARTS = {
    "pre_instruction": "template before",
    "instruction": "instruction",
    "post_instruction": "template after",
}
_COLOURS = {"harmful": PALETTE[3], "harmless": PALETTE[2]}
_BAR, _ROW, _GAP = 19, 26, 108
"""Heights of a bar, of a row of tokens, and of what stands between panels, in pixels."""
_LABELLED = 64
"""Most tokens whose text is written under the map; longer prompts show it on hover."""


@checked
def head_attention(view: xr.Dataset, prompts: str | Sequence[str] | None = None) -> go.Figure:
    """How much each head attends to the user's words and to the template, and to which tokens.

    Above, means over the prompts of each label; below, single prompts, token by token.

    Args:
        view: as `collect_attention` of the analyses returns it.
        prompts: ids of the prompts below; by default the first of each label.

    Raises:
        StudyError: not such a result, or no such prompt in it.
    """
    require(view, "view of attention", ["mass", "attention"], ("head",))
    shown = shown_prompts(view, prompts)
    heads = [str(each) for each in view["head"].values]
    groups = [str(each) for each in view["group"].values if each != "difference"]
    bars = len(heads) * (len(groups) * _BAR + 10)
    maps = len(heads) * _ROW
    heights = [bars, *[maps] * len(shown)]
    whole = sum(heights) + _GAP * len(shown)
    figure = make_subplots(
        rows=len(heights),
        cols=len(_PARTS),
        row_heights=heights,
        vertical_spacing=_GAP / whole,
        horizontal_spacing=0.06,
        specs=[[{}] * len(_PARTS), *[[{"colspan": len(_PARTS)}, None, None]] * len(shown)],
        subplot_titles=[*_PARTS.values(), *(_prompt_title(view, each) for each in shown)],
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    for column, part in enumerate(_PARTS, start=1):
        for index, group in enumerate(groups):
            at = view.sel(group=group, part=part)
            figure.add_trace(_bars(at, group, index, column == 1), 1, column)
        figure.update_yaxes(**labels(heads, downwards=True), row=1, col=column)
        figure.update_yaxes(showticklabels=column == 1, row=1, col=column)
        figure.update_xaxes(range=[0, 104], tickvals=[0, 50, 100], row=1, col=column)
    figure.update_xaxes(title_text="share of attention (%)", row=1, col=2)
    figure.update_yaxes(title_text="layer.head", col=1)
    for row, prompt in enumerate(shown, start=2):
        _tokens(figure, view.sel(prompt=prompt), heads, row, height=maps / whole)
    figure.update_layout(barmode="group", bargap=0.2, bargroupgap=0.05)
    counts = ", ".join(f"{int(view['n'].sel(group=group))} {group}" for group in groups)
    first = view["first_token"].sel(group=groups)
    parts = [
        model_of(view.attrs),
        f"attention from position {number(view.attrs['position'])}",
        f"n = {counts} prompts",
        kept_line(view.attrs.get("test_prompts")),
        intervals_of(view, "bars", "mass"),
        f"on the very first token: up to {100 * float(first.max()):.0f} %, on hover",
    ]
    themed(figure, "Where the heads look", parts, height=whole + 60)
    return legend_below(figure, "prompts")


def shown_prompts(view: xr.Dataset, prompts: str | Sequence[str] | None = None) -> list[str]:
    """Ids of the prompts that are drawn token by token.

    Raises:
        StudyError: no such prompt in the view.
    """
    known = [str(each) for each in view["prompt"].values]
    if prompts is None:
        first = {
            str(label): own
            for label, own in zip(view["label"].values[::-1], known[::-1], strict=True)
        }
        return [first[label] for label in sorted(first)]
    wanted = [prompts] if isinstance(prompts, str) else list(prompts)
    if missing := [each for each in wanted if each not in known]:
        raise StudyError(
            f"no prompt {missing[0]!r} in this view of {len(known)}: {', '.join(known[:5])}"
            + (", …" if len(known) > 5 else ".")
        )
    return wanted


def _bars(at: xr.Dataset, group: str, index: int, legend: bool) -> go.Bar:
    """One label's mean share on one part of the prompt, one bar per head."""
    share = 100 * at["mass"].values
    low, high = (
        100 * at["mass_interval"].transpose("bound", "head").sel(bound=["low", "high"]).values
    )
    hover = [
        f"head {head}, {html.escape(group)}<br>"
        f"{_PARTS[str(at['part'].item())]} {with_interval(value / 100, ends / 100, '.0%')}"
        f"<br>first token {with_interval(float(first), first_ends, '.0%')}"
        f"<br>n = {int(at['n'])}"
        for head, value, ends, first, first_ends in zip(
            at["head"].values,
            share,
            np.stack([low, high], 1),
            at["first_token"].values,
            at["first_token_interval"].values,
            strict=True,
        )
    ]
    return go.Bar(
        x=share.tolist(),
        y=list(range(len(share))),
        orientation="h",
        name=html.escape(group),
        legendgroup=group,
        showlegend=legend,
        marker={
            "color": _COLOURS.get(group, PALETTE[index % len(PALETTE)] if index else NEUTRAL),
            "line": {"color": INK, "width": 0.6},
        },
        error_x=error_bars(share, low, high, 3, color=INK, thickness=1.2),
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )


def _tokens(figure: go.Figure, at: xr.Dataset, heads: list[str], row: int, height: float) -> None:
    """One prompt: its tokens across, heads down."""
    kept = at["token_part"].values.astype(str) != ""
    values = 100 * at["attention"].transpose("head", "token").values[:, kept]
    texts = [_visible(str(each)) for each in at["token_text"].values[kept]]
    parts = at["token_part"].values[kept].astype(str)
    positions = at["token"].values[kept]
    hover = [
        [
            f"{html.escape(text)}<br>position {number(int(position))}, {_PARTS[part]}"
            f"<br>head {head}: {value:.1f} %"
            for text, part, position, value in zip(texts, parts, positions, line, strict=True)
        ]
        for head, line in zip(heads, values, strict=True)
    ]
    blank = [[""] * len(texts)] * len(heads)
    trace = cells(values, blank, hover, "attention (%)", percent=True)
    trace.update(showscale=row == 2, colorbar={"len": height, "y": _middle(figure, row)})
    figure.add_trace(trace, row, 1)
    figure.update_yaxes(**labels(heads, downwards=True), row=row, col=1)
    figure.update_xaxes(**labels(texts), tickangle=-60, row=row, col=1)
    figure.update_xaxes(
        showticklabels=len(texts) <= _LABELLED, tickfont={"size": 10}, row=row, col=1
    )
    where: dict[str, Any] = {"row": row, "col": 1}
    for index in np.flatnonzero(parts[1:] != parts[:-1]):
        figure.add_vline(float(index) + 0.5, line={"color": INK, "width": 1.5}, **where)


def _middle(figure: go.Figure, row: int) -> float:
    """Where the middle of a row of panels stands, as a share of the plot's height."""
    axis = next(figure.select_yaxes(row=row, col=1))
    return sum(axis.domain) / 2


def _prompt_title(view: xr.Dataset, prompt: str) -> str:
    at = view.sel(prompt=prompt)
    return html.escape(f"{prompt} ({at['label'].item()})")


def _visible(token: str) -> str:
    """A token with its white space shown, and cut where it is long."""
    text = token.replace("\n", "\u21b5").replace("\t", "\u21e5").replace(" ", "\u2423")
    return text if len(text) <= 14 else text[:13] + "…"


def head_attention_numbers(run: Any) -> xr.Dataset:
    """Shares of attention by label, and the single prompts that are drawn below them."""
    view = run.results["head_attention"]
    single = drawn(view, "attention", "token_text").sel(prompt=shown_prompts(view))
    labels = view.sel(group=view["group"] != "difference")
    return drawn(labels, "mass", "first_token").assign(single)


HEAD_ATTENTION = GalleryEntry(
    name="head_attention",
    question="Where do these heads look?",
    caption="Attention of the heads with the largest effects, from the last token, over the "
    "user's words and the template around them; below, single prompts. Attention "
    "says where a head reads, not what it takes from there.",
    answers="",
    needs="head_attention",
    figure=lambda run: head_attention(run.results["head_attention"]),
    data=head_attention_numbers,
)
