"""What directions say: the tokens that each promotes and suppresses."""

import html
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.theme import INK, MUTED, PALETTE, model_of, require, themed
from workbench.figures.tidy import drawn
from workbench.written import number

_ROW, _PANEL = 19, 62
"""Height of one token, and of what a panel needs besides, in pixels."""
_NULLS = {
    "isotropic": "random",
    "covariance": "as activations vary",
    "permuted": "labels shuffled",
}
_COLOURS = {"promoted": PALETTE[3], "suppressed": PALETTE[2]}


@checked
def vocabulary(readout: xr.Dataset, top: int = 10) -> go.Figure:
    """The strongest tokens of each direction: promoted to the right, suppressed to the left.

    Dotted lines mark how far the strongest token of directions without meaning reaches, of the kind
    of them that reaches furthest.

    Args:
        readout: as `logit_lens` returns it.
        top: how many tokens of either sign.

    Raises:
        StudyError: not such a readout.
    """
    require(readout, "vocabulary readout", ["z", "logit"], ("name", "sign", "rank"))
    at = readout.isel(rank=slice(0, top))
    names = [str(each) for each in at["name"].values]
    columns = 1 if len(names) == 1 else 2
    rows = -(-len(names) // columns)
    ranks = at["rank"].values.tolist()
    panel = _ROW * len(ranks) + _PANEL
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[_title(at, name) for name in names],
        vertical_spacing=_PANEL / (panel * rows) if rows > 1 else 0,
        horizontal_spacing=0.06,
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    for index, name in enumerate(names):
        row, column = divmod(index, columns)
        for sign, colour in _COLOURS.items():
            bars = _bars(at.sel(name=name, sign=sign), ranks, colour)
            figure.add_trace(bars, row=row + 1, col=column + 1)
        chance = _chance(at.sel(name=name))
        for side in (chance, -chance) if chance else ():
            where: dict[str, Any] = {"row": row + 1, "col": column + 1}
            figure.add_vline(side, line={"color": MUTED, "dash": "dot", "width": 1}, **where)
    # Beside the longest bar there is as much room again, for the token at its end.
    limit = max(1.9 * float(abs(at["z"]).max()), 1.1 * _chance(at))
    figure.update_xaxes(range=[-limit, limit], zeroline=True, zerolinecolor=MUTED)
    figure.update_xaxes(title_text="standard deviations over the vocabulary", row=rows)
    figure.update_yaxes(
        range=[len(ranks) + 0.6, 0.4], showticklabels=False, ticks="", showgrid=False
    )
    figure.update_layout(bargap=0.25, barmode="overlay", showlegend=False)
    parts = [
        model_of(at.attrs),
        "logits of each direction alone through the final norm and unembedding",
        "right, rust: promoted · left, blue: suppressed",
        _dotted(at),
    ]
    return themed(figure, "What each direction says in tokens", parts, height=panel * rows)


def _bars(at: xr.Dataset, ranks: list[int], colour: str) -> go.Bar:
    """One sign of one direction, each bar with its token at the end."""
    tokens = [_visible(str(each)) for each in at["token"].values]
    numbers = [at[key].values.tolist() for key in ("token_id", "logit", "z")]
    rows = zip(tokens, *numbers, strict=True)
    return go.Bar(
        x=at["z"].values.tolist(),
        y=ranks,
        orientation="h",
        marker={"color": colour},
        text=tokens,
        textposition="outside",
        textfont={"size": 12, "color": INK},
        cliponaxis=False,
        customdata=[[token, each, number(logit), number(z)] for token, each, logit, z in rows],
        hovertemplate=(
            "%{customdata[0]} (id %{customdata[1]})<br>logit over the mean %{customdata[2]} nats"
            "<br>%{customdata[3]} standard deviations<extra></extra>"
        ),
    )


def _chance(at: xr.Dataset) -> float:
    """How far directions without meaning reach; 0 where nobody drew any."""
    return float(at["chance_z"].max()) if "chance_z" in at else 0.0


def _dotted(at: xr.Dataset) -> str:
    """What the dotted lines are, for the subtitle."""
    if "chance_z" not in at:
        return ""
    kinds = ", ".join(
        f"{_NULLS[str(null)]} {_span(at['chance_z'].sel(null=null).values)}"
        for null in at["null"].values
    )
    return (
        f"dotted: below it stays the strongest token of {float(at.attrs['confidence']):.0%} of "
        f"{at.attrs['n_random']} directions without meaning, of the kind that reaches furthest "
        f"({kinds})"
    )


def _span(values: np.ndarray) -> str:
    ends = [number(values.min()), number(values.max())]
    return " to ".join(dict.fromkeys(ends))


def _title(at: xr.Dataset, name: str) -> str:
    where = ""
    if "layer" in at.coords:
        where = f", layer {int(at['layer'].sel(name=name))}"
    return f"<b>{html.escape(name)}</b>{where}"


def _visible(token: str) -> str:
    """A token whose spaces and line breaks can be seen, cut when long; no tag is read in it."""
    token = token if len(token) <= 14 else f"{token[:13]}\N{HORIZONTAL ELLIPSIS}"
    shown = token.replace("\n", "\u21b5").replace("\t", "\u21e5").replace(" ", "\u2423")
    return html.escape(shown)


def vocabulary_numbers(run: Any) -> xr.Dataset:
    """The ten strongest tokens of either sign."""
    return drawn(run.results["vocabulary"].sel(rank=slice(None, 10)), "z", "token", "chance_z")


VOCABULARY = GalleryEntry(
    name="vocabulary",
    question="What do the directions say in tokens?",
    caption="The tokens that each direction alone makes more and less likely, read through "
    "the final norm and unembedding. Any direction has a strongest token: only bars "
    "beyond the dotted lines leave the range of directions without meaning, random ones and "
    "such as activations of one label vary in, 5 % of which pass them at either end. What "
    "later layers make of a direction is not shown.",
    answers="",
    needs="vocabulary",
    figure=lambda run: vocabulary(run.results["vocabulary"]),
    data=vocabulary_numbers,
)
