"""Which heads carry refusal, and which write the direction: maps of layers and heads."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr
from plotly.subplots import make_subplots

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.figures.heads.grid import (
    PLANTED,
    UNCORRECTED,
    Head,
    framed,
    head_axis,
    head_cells,
    largest,
    map_height,
    outline,
    outlined,
    planted_heads,
    top_heads,
)
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.theme import (
    INK,
    intervals_of,
    model_of,
    position_label,
    position_text,
    require,
    themed,
)
from workbench.figures.tidy import drawn
from workbench.kept import kept_line
from workbench.labels import has_intervals
from workbench.written import estimated, number, with_interval

_GAP = 74
"""Pixels between rows of panels, for ticks and titles."""
_WRITTEN = "contribution (activation units)"
_WRITERS = {"mlp_contribution": "MLP", "bias_contribution": "bias"}


@checked
def head_map(
    patching: xr.Dataset, planted: Iterable[Head] | None = None, top: int = 6
) -> go.Figure:
    """What patching each head does: layers down, heads across, one map per position.

    Args:
        patching: as `patch_heads` returns it.
        planted: (layer, head) pairs to outline; by default those that the result names as
            ``planted_heads``, else the largest effects.
        top: how many of those, over all positions.

    Raises:
        StudyError: not such a result.
    """
    require(patching, "head-patching result", ["effect"], ("layer", "head", "position"))
    effect = patching["effect"]
    positions = patching["position"].values.tolist()
    columns = min(len(positions), 2 if patching.sizes["head"] <= 16 else 1)
    rows = -(-len(positions) // columns)
    height = max(200, map_height(patching.sizes["layer"]))
    whole = height * rows + _GAP * (rows - 1)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        vertical_spacing=_GAP / whole if rows > 1 else 0,
        horizontal_spacing=0.1,
        subplot_titles=[panel_title(patching, index) for index in range(len(positions))],
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    limit = largest(effect)
    framed_at, told = _framed(patching, planted, top)
    for index, position in enumerate(positions):
        row, column = index // columns + 1, index % columns + 1
        trace = patch_cells(patching, position, limit, panels=columns)
        figure.add_trace(trace.update(showscale=index == 0), row, column)
        outline(
            figure,
            framed_at[position],
            patching["layer"].values,
            patching["head"].values,
            row,
            column,
        )
        figure.update_xaxes(**head_axis(patching["head"].values), row=row, col=column)
        figure.update_yaxes(**head_axis(patching["layer"].values, True), row=row, col=column)
        figure.update_xaxes(title_text="head", row=row, col=column)
    figure.update_yaxes(title_text="layer", col=1)
    parts = [
        *describe_patching(patching),
        told,
        _on_hover(patching, "effect"),
    ]
    return themed(figure, "What each head carries: patched alone", parts, height=whole + 60)


@checked
def head_attribution(
    attribution: xr.Dataset,
    planted: Iterable[Head] | None = None,
    top: int = 6,
    group: str | None = None,
) -> go.Figure:
    """What every head and MLP wrote along the direction, layer by layer.

    Args:
        attribution: as `direct_attribution` returns it.
        planted: (layer, head) pairs to outline; by default those that the result names as
            ``planted_heads``, else the largest contributions.
        top: how many of those.
        group: a label, or ``"difference"``, which is the default where it was measured.

    Raises:
        StudyError: not such a result, or no such group in it.
    """
    at, group = attribution_group(attribution, group)
    others = [name for name in _WRITERS if float(abs(at[name]).max()) > 0]
    limit = largest(at["contribution"], *(at[name] for name in others))
    figure = make_subplots(
        cols=2,
        shared_yaxes=True,
        column_widths=[at.sizes["head"], 1.4 * max(1, len(others))],
        horizontal_spacing=0.02,
    )
    figure.add_trace(attribution_cells(at, limit), 1, 1)
    heads, told = framed(planted, at, "contribution", top)
    outline(figure, heads, at["layer"].values, at["head"].values)
    figure.add_trace(_others(at, others, limit, at.sizes["head"] + len(others)), 1, 2)
    figure.update_xaxes(**head_axis(at["head"].values), title_text="head", col=1)
    figure.update_xaxes(
        tickvals=list(range(len(others))),
        ticktext=[_WRITERS[name] for name in others],
        ticks="",
        showline=False,
        showgrid=False,
        col=2,
    )
    figure.update_yaxes(**head_axis(at["layer"].values, True))
    figure.update_yaxes(title_text="layer", col=1)
    sums = [
        f"heads {number(float(at['contribution'].sum()))}",
        *(f"{_WRITERS[name]} {number(float(at[name].sum()))}" for name in others),
        f"embedding {number(float(at['embed_contribution']))}",
    ]
    parts = [
        *describe_attribution(at, group),
        "sums: " + ", ".join(sums),
        f"together {estimated(at, 'projection')}",
        told,
        _on_hover(at, "contribution"),
    ]
    title = "What each component writes along the direction"
    return themed(figure, title, parts, height=max(220, map_height(at.sizes["layer"])) + 60)


def patch_cells(
    patching: xr.Dataset, position: int, limit: float, panels: int = 1, **settings: Any
) -> go.Heatmap:
    """The map of one position."""
    at = patching.sel(position=position)
    where = f"position {number(position)}, {_counted(patching)}"
    hover = _hover(at, "effect", "change", where)
    return head_cells(at["effect"], hover, patch_units(patching), limit, panels, **settings)


def attribution_cells(at: xr.Dataset, limit: float, panels: int = 1, **settings: Any) -> go.Heatmap:
    """The map of one group's contributions."""
    hover = _hover(at, "contribution", "writes", _group_count(at))
    bar = _WRITTEN
    return head_cells(at["contribution"], hover, bar, limit, panels, **settings)


def attribution_group(attribution: xr.Dataset, group: str | None) -> tuple[xr.Dataset, str]:
    """The contributions of one group, the difference where there is one.

    Raises:
        StudyError: not a result of `direct_attribution`, or no such group.
    """
    names = ["contribution", "mlp_contribution", "bias_contribution"]
    require(attribution, "head attribution", names, ("group", "layer"))
    known = [str(each) for each in attribution["group"].values]
    group = group or ("difference" if "difference" in known else known[0])
    if group not in known:
        raise StudyError(f"no group {group!r} in this attribution: {', '.join(known)}.")
    return attribution.sel(group=group), group


def describe_patching(patching: xr.Dataset) -> list[str]:
    """Model, what was patched into what, counts and scores."""
    attrs = patching.attrs
    source = "its mean on source prompts" if attrs.get("pairing") == "mean" else "its pair's"
    scores = [
        f"{name} {with_interval(float(attrs[key]), _ends(attrs, key))}"
        for key, name in (("plain", "plain"), ("source", "source"))
        if key in attrs
    ]
    return [
        model_of(attrs),
        f"z of one head replaced by {source}"
        + (f" to {attrs['aim']} refusal" if attrs.get("aim") else "")
        + (f", along {attrs['along']} only" if attrs.get("along") else ""),
        _counted(patching),
        kept_line(attrs.get("test_prompts")),
        ", ".join(scores),
    ]


def describe_attribution(at: xr.Dataset, group: str) -> list[str]:
    """Model, direction, where and on whom."""
    attrs = at.attrs
    who = "harmful minus harmless prompts" if group == "difference" else f"{group} prompts"
    return [
        model_of(attrs),
        f"direction {attrs['direction']!r} of layer {attrs['direction_layer']}",
        f"input of layer {attrs['end_layer']}, position {position_text(attrs['position'])}",
        f"{who}, {_group_count(at)}",
        kept_line(attrs.get("test_prompts")),
    ]


def patch_units(patching: xr.Dataset) -> str:
    """Title of the colour bar."""
    attrs = patching["effect"].attrs
    name, units = attrs.get("long_name", "change of the metric"), attrs.get("units", "")
    return f"{name} ({units})" if units else str(name)


def panel_title(patching: xr.Dataset, index: int) -> str:
    """The position of one panel, with its token."""
    label = ""
    if "position_label" in patching.coords:
        label = str(patching["position_label"].values[index])
    return f"position {position_label(int(patching['position'].values[index]), label)}"


def _framed(
    patching: xr.Dataset, planted: Iterable[Head] | None, top: int
) -> tuple[dict[int, list[Head]], str]:
    """The heads to outline at each position: planted ones, or the largest of all positions."""
    positions = patching["position"].values.tolist()
    if (heads := planted_heads(planted, patching)) is not None:
        return dict.fromkeys(positions, heads), PLANTED
    ends = patching.get("effect_interval")
    found = []
    for position in positions:
        own = patching["effect"].sel(position=position)
        interval = None if ends is None else ends.sel(position=position)
        found += [(position, *head) for head in top_heads(own, interval, top)]

    def size(cell: tuple[int, int, int]) -> float:
        position, layer, head = cell
        return -abs(float(patching["effect"].sel(position=position, layer=layer, head=head)))

    kept = sorted(found, key=size)[:top]
    chosen = {each: [(layer, head) for at, layer, head in kept if at == each] for each in positions}
    return chosen, outlined(len(kept), has_intervals(ends))


def _others(at: xr.Dataset, names: list[str], limit: float, columns: int) -> go.Heatmap:
    """What is no head: one column for each kind of writer."""
    stacked = xr.concat([at[name] for name in names], dim="head").transpose("layer", "head")

    def hover(row: int, column: int) -> str:
        name, own = names[column], at.isel(layer=row)
        return (
            f"layer {int(own['layer'])}, {_WRITERS[name]}<br>writes {estimated(own, name)}"
            f"<br>{_group_count(at)}"
        )

    panels = -(-columns // max(1, len(names)))
    return head_cells(stacked, hover, "", limit, panels, showscale=False)


def _on_hover(dataset: xr.Dataset, name: str) -> str:
    """The intervals that hovering shows, and what they do not account for."""
    told = intervals_of(dataset, "on hover", name)
    return f"{told}, {UNCORRECTED}" if has_intervals(dataset.get(f"{name}_interval")) else told


def _hover(at: xr.Dataset, name: str, verb: str, where: str) -> Callable[[int, int], str]:
    """Text of a cell; arrays are taken out once, as labelled look-ups by cell are slow."""
    values = at[name].transpose("layer", "head").values
    ends = at.get(f"{name}_interval")
    bounds = None if ends is None else ends.transpose("layer", "head", "bound").values
    layers, heads = at["layer"].values, at["head"].values

    def hover(row: int, column: int) -> str:
        own = None if bounds is None else bounds[row, column]
        return (
            f"layer {int(layers[row])}, head {int(heads[column])}<br>"
            f"{verb} {with_interval(float(values[row, column]), own)}<br>{where}"
        )

    return hover


def _ends(attrs: dict[Any, Any], key: str) -> np.ndarray | None:
    return np.array(attrs[f"{key}_interval"]) if f"{key}_interval" in attrs else None


def _counted(patching: xr.Dataset) -> str:
    attrs = patching.attrs
    if "n_target" not in attrs:
        return "n not recorded"
    return f"n = {attrs['n_target']} targets, {attrs.get('n_source', '?')} sources"


def _group_count(at: xr.Dataset) -> str:
    return f"n = {int(at['n'])}" if "n" in at else "n not recorded"


def head_effects_numbers(run: Any) -> xr.Dataset:
    """Every head patched alone."""
    return drawn(run.results["head_patching"], "effect")


def head_writes_numbers(run: Any) -> xr.Dataset:
    """What components write along the direction, of the group that is drawn."""
    at, _ = attribution_group(run.results["head_attribution"], None)
    names = ("contribution", "mlp_contribution", "bias_contribution", "embed_contribution")
    return drawn(at, *names)


HEAD_MAP = GalleryEntry(
    name="head_map",
    question="Which attention heads carry refusal?",
    caption="Change of the refusal score of harmless prompts when the output of one head, at "
    "the last token, is replaced by its mean on harmful prompts. One head at a time: "
    "heads that stand in for each other look weaker than they are together.",
    answers="",
    needs="head_patching",
    figure=lambda run: head_map(run.results["head_patching"]),
    data=head_effects_numbers,
)


HEAD_ATTRIBUTION = GalleryEntry(
    name="head_attribution",
    question="Which components write the direction?",
    caption="What each head and MLP adds to the projection on the direction, harmful minus "
    "harmless prompts. Direct writes only: a head that makes another one write shows "
    "nothing here.",
    answers="",
    needs="head_attribution",
    figure=lambda run: head_attribution(run.results["head_attribution"]),
    data=head_writes_numbers,
)
