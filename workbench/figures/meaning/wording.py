"""How refusals are worded: clusters by category, and how well their number is chosen."""

import html
import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.heat import cells, labels
from workbench.figures.parts.theme import (
    INK,
    PALETTE,
    SYMBOLS,
    legend_below,
    model_of,
    require,
    themed,
    translucent,
)
from workbench.figures.tidy import drawn
from workbench.written import estimated, number

_ROW, _CURVES = 56, 200
"""Height of one cluster and of the lower panel, in pixels."""
_LEVEL = 0.05
_LABEL = 30
"""Characters of a line of a cluster's wording."""


@checked
def wording(clusters: xr.Dataset) -> go.Figure:
    """Clusters of refusals by harm category, and below how the number of clusters was chosen.

    Cells hold how many refusals of a category are worded so; colours show where that is more or
    less than if wording and category had nothing to do with each other, and a star where it is by
    more than chance gives any cell.

    Args:
        clusters: as `cluster_refusals` returns it.

    Raises:
        StudyError: not such a result.
    """
    require(clusters, "clustering of refusals", ["count", "residual"], ("cluster", "category"))
    names = [str(each) for each in clusters["category"].values]
    height = _ROW * clusters.sizes["cluster"]
    curves = clusters.sizes.get("k", 0) > 1
    whole = height + (_CURVES + 120 if curves else 0)
    figure = make_subplots(
        rows=2 if curves else 1,
        row_heights=[height, _CURVES] if curves else None,
        vertical_spacing=120 / whole if curves else 0,
        subplot_titles=["", "How many clusters"] if curves else None,
    )
    figure.update_annotations(x=0, xanchor="left", font={"size": 13, "color": INK})
    counts, residuals = clusters["count"].values, clusters["residual"].values
    told = clusters["residual_p"].values <= _LEVEL if "residual_p" in clusters else counts < 0
    texts = [
        [f"{int(each)}{'*' if own else ''}" for each, own in zip(row, marks, strict=True)]
        for row, marks in zip(counts, told, strict=True)
    ]
    bar = "more or less than by chance (s.d.)"
    trace = cells(residuals, texts, _hover(clusters), bar)
    trace.update(colorbar={"y": 1 - height / whole / 2, "len": min(1.0, height / whole)})
    # Residuals of a few standard deviations are chance: colours are full at four.
    limit = max(4.0, float(np.abs(residuals).max()))
    trace.update(zmin=-limit, zmax=limit)
    figure.add_trace(trace, 1, 1)
    rows = [_label(clusters.isel(cluster=row)) for row in range(clusters.sizes["cluster"])]
    figure.update_yaxes(**labels(rows, downwards=True), row=1, col=1)
    figure.update_xaxes(**labels(names), tickangle=-40, row=1, col=1)
    if curves:
        _quality(figure, clusters)
    themed(figure, "How refusals are worded", _describe(clusters), height=whole + 40)
    return legend_below(figure, "") if curves else figure


def _label(at: xr.Dataset) -> str:
    """A cluster's wording, wrapped, and its size."""
    text = str(at["wording"].item()) if "wording" in at else f"cluster {int(at['cluster'])}"
    lines = textwrap.wrap(text, _LABEL, max_lines=2, placeholder=" \N{HORIZONTAL ELLIPSIS}")
    return "\n".join([*lines, f"n = {int(at['count'].sum())}"])


def _hover(clusters: xr.Dataset) -> list[list[str]]:
    """A representative reply, the count and its share of the category."""
    totals = clusters["count"].sum("cluster").values
    rows = []
    for index in range(clusters.sizes["cluster"]):
        at = clusters.isel(cluster=index)
        reply = str(at["representative"].item()) if "representative" in at else ""
        quoted = "<br>".join(map(html.escape, textwrap.wrap(reply, 60, max_lines=6)))
        terms = ", ".join(str(each) for each in at["term"].values if each) if "term" in at else ""
        rows.append(
            [
                f"{html.escape(str(category))}: {int(count)} of {int(total)} refusals "
                f"({count / max(total, 1):.0%}), residual {number(float(residual))}{p}"
                f"<br>typical: {html.escape(terms)}<br><i>{quoted}</i>"
                for category, count, total, residual, p in zip(
                    clusters["category"].values,
                    at["count"].values,
                    totals,
                    at["residual"].values,
                    _corrected(at),
                    strict=True,
                )
            ]
        )
    return rows


def _corrected(at: xr.Dataset) -> list[str]:
    """The p-values of a cluster's residuals, in words; "" where there are none."""
    if "residual_p" not in at:
        return [""] * at.sizes["category"]
    values = at["residual_p"].values.tolist()
    return [f" (p = {number(p)}, corrected over cells)" if p == p else "" for p in values]


def _quality(figure: go.Figure, clusters: xr.Dataset) -> None:
    """Silhouette and stability by the number of clusters, the one in use marked."""
    ks = clusters["k"].values.tolist()
    low, high = clusters["stability_interval"].transpose("bound", "k").values.tolist()
    figure.add_trace(
        go.Scatter(
            x=[*ks, *ks[::-1]],
            y=[*low, *high[::-1]],
            fill="toself",
            fillcolor=translucent(PALETTE[3]),
            line={"width": 0},
            mode="lines",
            showlegend=False,
            hoverinfo="skip",
        ),
        2,
        1,
    )
    series = (("silhouette", "silhouette", 2), ("stability", "stability (adjusted Rand index)", 3))
    for index, (name, label, colour) in enumerate(series):
        figure.add_trace(
            go.Scatter(
                x=ks,
                y=clusters[name].values.tolist(),
                mode="lines+markers",
                name=label,
                line={"color": PALETTE[colour], "width": 2},
                marker={"symbol": SYMBOLS[index], "size": 7},
                hovertemplate=f"%{{x}} clusters<br>{label} %{{y:.2f}}<extra></extra>",
            ),
            2,
            1,
        )
    chosen = int(clusters.attrs.get("k", clusters.sizes["cluster"]))
    if chosen in ks:
        line = {"color": INK, "dash": "dash", "width": 1.3}
        figure.add_vline(chosen, line=line, row=2, col=1)  # pyright: ignore[reportArgumentType]
    figure.update_xaxes(title_text="clusters (dashed: in use)", tickvals=ks, row=2, col=1)
    figure.update_yaxes(range=[min(0.0, *low) - 0.02, 1.05], row=2, col=1)


def _describe(clusters: xr.Dataset) -> list[str]:
    attrs = clusters.attrs
    n = int(clusters["count"].sum())
    of = f" of {attrs['n_replies']} replies" if "n_replies" in attrs else ""
    of += f" to {attrs['prompt_set']} prompts" if attrs.get("prompt_set") else ""
    parts = [
        model_of(attrs),
        f"n = {n} refusals{of}",
        f"condition: {attrs['condition']}" if attrs.get("condition") else "",
        f"clustered by {attrs['features']}" if attrs.get("features") else "",
        f"judge: {attrs['judge']}" if attrs.get("judge") else "judge not recorded",
    ]
    if "cramers_v" in clusters and np.isfinite(clusters["cramers_v"]):
        parts.append(
            f"wording and category: Cramér's V "
            f"{estimated(clusters, 'cramers_v', '.2f')}, p = {number(float(clusters['p_value']))}"
        )
    else:
        parts.append("one wording or one category: nothing to go together")
    if "residual_p" in clusters and bool(clusters["residual_p"].notnull().all()):
        n_cells = clusters["residual_p"].size
        n_told = int((clusters["residual_p"] <= _LEVEL).sum())
        parts.append(
            f"*: more or less often than by chance (p ≤ {_LEVEL}, corrected over {n_cells} cells): "
            f"{n_told or 'none'}"
        )
    parts.append("… stands for what a reply repeats of its request")
    return parts


def wording_numbers(run: Any) -> xr.Dataset:
    """Clusters by category, and how well their number is chosen."""
    names = ("count", "residual", "residual_p", "wording", "silhouette", "stability")
    return drawn(run.results["wording"], *names)


WORDING = GalleryEntry(
    name="wording",
    question="Are categories refused in different words?",
    caption="Plain refusals of harmful prompts, grouped by wording and by the model's first "
    "token; words of their own prompts are left out. Colours show where a category is refused "
    "in these words more or less often than by chance; a star is a cell in which it is so by "
    "more than the largest of all cells is by chance. Clusters of low stability are arbitrary.",
    answers="",
    needs="wording",
    figure=lambda run: wording(run.results["wording"]),
    data=wording_numbers,
)
