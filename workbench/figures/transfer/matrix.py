"""What each category's direction does to every category, and in which layers."""

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.arguments import checked
from workbench.control_kinds import RANDOM, SHUFFLED, kinds_of, range_in_words, sorts
from workbench.errors import StudyError
from workbench.figures.parts.entry import GalleryEntry
from workbench.figures.parts.heat import ROW, cells, dividers, labels, printed
from workbench.figures.parts.theme import intervals_of, model_of, position_text, require, themed
from workbench.figures.tidy import drawn
from workbench.kept import kept_line
from workbench.written import estimated, number

_TITLES = {
    "ablate": "What ablating each direction does to each category",
    "add": "What adding each direction does to each category",
}
_BARS = {
    "effect": "change of refusal score (nats)",
    "score": "refusal score (nats)",
    "rate": "refusal rate (%)",
}


@checked
def transfer(matrix: xr.Dataset, mode: str = "ablate", quantity: str = "effect") -> go.Figure:
    """The transfer matrix as a heat map: directions down, the categories they act on across.

    Rows and columns stand in the order of their clusters, with lines between blocks; a direction's
    own categories are printed bold. Effects within the range of random vectors stand in brackets:
    they are no finding. That range is the last row.

    Args:
        matrix: as `measure_transfer` returns it.
        mode: ``"ablate"`` or ``"add"``, what is done with the direction.
        quantity: ``"effect"``, the change of the refusal score; ``"score"``, what it is then; or
            ``"rate"``, the judged refusal rate.

    Raises:
        StudyError: not a transfer matrix, or it does not hold that mode or quantity.
    """
    require(matrix, "transfer matrix", [quantity], ("name", "category", "mode"))
    if mode not in matrix["mode"].values:
        known = ", ".join(map(str, matrix["mode"].values))
        raise StudyError(f"this transfer matrix has no mode {mode!r}: {known}.")
    at = _in_order(matrix.sel(mode=mode))
    names = [str(each) for each in at["name"].values]
    categories = [str(each) for each in at["category"].values]
    values = at[quantity].transpose("name", "category").values
    percent = quantity == "rate"
    values = 100 * values if percent else values
    decimals = 0 if percent else 1
    texts = [
        [_bold(printed(each, decimals), own) for each, own in zip(row, marks, strict=True)]
        for row, marks in zip(values.tolist(), at["own"].values.tolist(), strict=True)
    ]
    hover = [[_hover(at, name, each) for each in categories] for name in names]
    random = _random(at, categories) if quantity == "effect" else None
    if random is not None:
        inside = ~at["outside"].transpose("name", "category").values
        texts = [
            [f"({text})" if within else text for text, within in zip(row, marks, strict=True)]
            for row, marks in zip(texts, inside.tolist(), strict=True)
        ]
        for _, medians, ranges, told in random:
            values = np.concatenate([values, medians[None]])
            texts, hover = [*texts, ranges], [*hover, told]
    figure = go.Figure(cells(values, texts, hover, _BARS[quantity], percent))
    same_place = len({*zip(at["layer"].values, at["position"].values, strict=True)}) == 1
    rows = names if same_place else [f"{n}\nlayer {int(at['layer'].sel(name=n))}" for n in names]
    blocks = at["block"].values.tolist()
    if random is not None:
        for name, *_ in random:
            rows, blocks = [*rows, name], [*blocks, None]
    figure.update_yaxes(**labels(rows, downwards=True), title_text="direction")
    figure.update_xaxes(**labels(categories), tickangle=-40, title_text="prompts of category")
    dividers(figure, blocks, len(categories), across=True)
    dividers(figure, at["category_block"].values.tolist(), len(rows), across=False)
    title = _TITLES.get(mode, f"{mode} each direction")
    return themed(
        figure, title, _describe(at, same_place, quantity), height=max(180, ROW * len(rows)) + 90
    )


@checked
def layer_bands(matrix: xr.Dataset, name: str | None = None) -> go.Figure:
    """In which layers each category's refusals can be ablated: categories down, windows across.

    Ablating works in any window between where a direction is written and where it is read: a band
    places its own first and last layer, and nothing in between.

    Args:
        matrix: as `measure_transfer` returns it, with windows.
        name: this direction on every category; by default each direction on its own ones.

    Raises:
        StudyError: not a transfer matrix, one without windows, or no such direction.
    """
    variables = ["window_effect", "own"]
    require(matrix, "transfer matrix with windows", variables, ("name", "category"))
    at = _in_order(matrix.sel(mode=matrix["mode"].values[0]))
    names = [str(each) for each in at["name"].values]
    categories = [str(each) for each in at["category"].values]
    if name is not None and name not in names:
        raise StudyError(f"no direction {name!r} in this matrix: {', '.join(names)}.")
    pairs = [
        (own, category)
        for own in names
        for category in categories
        if own == name or (name is None and at["own"].sel(name=own, category=category))
    ]
    windows = [str(each) for each in at["window"].values]
    effect = at["window_effect"].transpose("name", "category", "window")
    values = np.array([effect.sel(name=n, category=c).values for n, c in pairs])
    hover = [[_window_hover(at, own, each, w) for w in windows] for own, each in pairs]
    texts = [
        [printed(each) if len(windows) <= 16 else "" for each in row] for row in values.tolist()
    ]
    figure = go.Figure(cells(values, texts, hover, _BARS["effect"]))
    rows = [
        category if name is not None or own == category else f"{category}\n{own}"
        for own, category in pairs
    ]
    figure.update_yaxes(**labels(rows, downwards=True))
    figure.update_xaxes(**labels(windows), title_text="layers in which it is ablated")
    key = "block" if name is None else "category_block"
    groups = [
        int(at[key].sel(name=own) if name is None else at[key].sel(category=category))
        for own, category in pairs
    ]
    dividers(figure, groups, len(windows), across=True)
    what = "each category's own direction" if name is None else f"the direction {name!r}"
    subtitle = [
        model_of(at.attrs),
        f"ablating {what} inside one window of layers, mean change of the refusal score",
        "works anywhere between where the direction is written and where it is read",
        _counts(at),
        kept_line(at.attrs.get("test_prompts")),
        _plain(at.sel(category=list(dict.fromkeys(category for _, category in pairs)))),
        intervals_of(at, "on hover", "window_effect"),
    ]
    title = "In which layers a category's refusal can be ablated"
    return themed(figure, title, subtitle, height=max(150, ROW * len(rows)) + 70)


_OF = {RANDOM: "random\nvectors", SHUFFLED: "directions of\nshuffled labels"}


def _in_order(at: xr.Dataset) -> xr.Dataset:
    """Rows and columns in the order of their clusters, where the matrix has one."""
    if "order" not in at:
        return at
    rows, columns = at["order"].values, at["category_order"].values
    return at.isel(name=rows, category=columns)


def _random(
    at: xr.Dataset, categories: Sequence[str]
) -> list[tuple[str, np.ndarray, list[str], list[str]]] | None:
    """Rows of controls: a label, medians by category, their range in print and on hover."""
    if "random_effect" not in at:
        return None
    rows = []
    effects = at["random_effect"].transpose("control", "category").values
    for sort, own in sorts(kinds_of(at)).items():
        every = effects[own]
        own_name = _OF[sort].replace("\n", " ")
        ends = list(zip(every.min(0).tolist(), every.max(0).tolist(), strict=True))
        told = [
            f"{len(every)} {own_name} on {html.escape(name)}<br>change {number(low)} to "
            f"{number(high)}"
            for name, (low, high) in zip(categories, ends, strict=True)
        ]
        ranges = [f"{printed(low)}<br>{printed(high)}" for low, high in ends]
        rows.append((f"{len(every)} {_OF[sort]}", np.median(every, axis=0), ranges, told))
    return rows


def _bold(text: str, own: bool) -> str:
    return f"<b>{text}</b>" if own else text


def _hover(at: xr.Dataset, direction: str, category: str) -> str:
    """Everything that was measured in one cell."""
    cell = at.sel(name=direction, category=category)
    lines = [f"{html.escape(direction)} on {html.escape(category)}"]
    for name, what in (("effect", "change"), ("score", "refusal score"), ("rate", "refusal rate")):
        if name in cell:
            lines.append(f"{what} {estimated(cell, name, '.0%' if name == 'rate' else number)}")
    if "p_value" in cell:
        lines.append(f"two-sided p among controls {float(cell['p_value']):.2g}")
    lines.append(f"plain {number(float(cell['plain_score']))}, n = {int(cell['n'])}")
    if int(cell.get("n_dropped", 0)):
        lines.append(f"{int(cell['n_dropped'])} dropped: not treated as their label says")
    return "<br>".join(lines)


def _window_hover(at: xr.Dataset, direction: str, category: str, window: str) -> str:
    """One window of one direction on one category."""
    cell = at.sel(name=direction, category=category, window=window)
    return (
        f"{html.escape(direction)} on {html.escape(category)}<br>layers {html.escape(window)}"
        f"<br>change {estimated(cell, 'window_effect')}"
        f"<br>plain {number(float(cell['plain_score']))}, n = {int(cell['n'])}"
    )


def _describe(at: xr.Dataset, same_place: bool, quantity: str) -> list[str]:
    """The parts of the subtitle."""
    attrs = at.attrs
    where = ""
    if same_place:
        layer, position = int(at["layer"].values[0]), at["position"].values.tolist()[0]
        where = f"directions of layer {layer}, position {position_text(position)}"
    blocks = len({*at["block"].values.tolist()})
    parts = [
        model_of(attrs),
        where,
        _counts(at),
        kept_line(attrs.get("test_prompts")),
        _plain(at, quantity),
        f"judge: {attrs['judge']}" if attrs.get("judge") else "by first-token score, no judge",
        ("1 block" if blocks == 1 else f"{blocks} blocks, lines between")
        + ", own category in bold",
    ]
    if "random_effect" in at and quantity == "effect":
        parts.append(
            "in brackets: within the range of a kind of controls, no finding; last rows: ranges of "
            "random vectors as long as the longest direction"
            + (", of directions of shuffled labels" if SHUFFLED in sorts(kinds_of(at)) else "")
            + ", coloured by their median"
        )
        parts.append(range_in_words(at))
    # Of prompts that are refused anyway, adding a direction says little.
    if at["mode"].item() == "ablate" and "asymmetry" in at and np.isfinite(at["asymmetry"]):
        noise = float(at["asymmetry_noise"])
        chance = f"up to {noise:.2f} by chance" if noise == noise else "by chance not known"
        parts.append(f"asymmetry {estimated(at, 'asymmetry', '.2f')}, {chance}")
    return [*parts, intervals_of(at, "on hover", quantity)]


def _counts(at: xr.Dataset) -> str:
    return f"n = {_range(at['n'].values.tolist())} prompts per category"


def _plain(at: xr.Dataset, quantity: str = "effect") -> str:
    """What there is without an intervention, harmless prompts apart."""
    percent = quantity == "rate"
    values = at["plain_rate" if percent else "plain_score"].to_series()
    values = (100 * values).round() if percent else values.round(1)
    harmful = [float(each) for name, each in values.items() if name != "harmless"]
    harmless = [float(each) for name, each in values.items() if name == "harmless"]
    ranges = [_range(each) for each in (harmful, harmless) if each]
    unit = " %" if percent else ""
    return f"plain {'rate' if percent else 'score'} " + f"{unit}, harmless ".join(ranges) + unit


def _range(values: Sequence[float | int]) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def transfer_numbers(run: Any, mode: str) -> xr.Dataset:
    """What one mode does to every category."""
    at = run.results["transfer"].sel(mode=mode, drop=True)
    names = ("effect", "plain_score", "n", "block", "category_block")
    return drawn(at, *names, "random_effect", "outside", "p_value")


def transfer_rates_numbers(run: Any, mode: str) -> xr.Dataset:
    """How much of every category is judged refused under one mode."""
    at = run.results["transfer_rates"].sel(mode=mode, drop=True)
    return drawn(at, "rate", "plain_rate", "n", "block", "category_block")


def own_windows_numbers(run: Any) -> xr.Dataset:
    """What each direction does inside windows to the categories that it stands for."""
    found = run.results["transfer"]
    windows = drawn(found, "window_effect").where(found["own"].astype(bool))
    return windows.assign(drawn(found, "plain_score", "n"))


TRANSFER_ABLATE = GalleryEntry(
    name="transfer_ablate",
    question="Whose refusals does each category's direction carry?",
    caption="Mean change of the refusal score of test prompts of each category when a "
    "direction is ablated everywhere. A row that is dark everywhere belongs to a "
    "shared mechanism; a block is a mechanism of its own. A change is read against "
    "the plain score in the subtitle, below which there is nothing left to remove.",
    answers="",
    needs="transfer",
    figure=lambda run: transfer(run.results["transfer"], "ablate"),
    data=lambda run: transfer_numbers(run, "ablate"),
)


TRANSFER_RATES = GalleryEntry(
    name="transfer_rates",
    question="How much is still refused without each category's direction?",
    caption="Judged refusal rate of test prompts of each category when a direction is ablated "
    "everywhere. A rate is read against the plain rate in the subtitle. With few prompts per "
    "category it moves in large steps, so its interval, on hover, is wide.",
    answers="",
    needs="transfer_rates",
    figure=lambda run: transfer(run.results["transfer_rates"], "ablate", quantity="rate"),
    data=lambda run: transfer_rates_numbers(run, "ablate"),
)


TRANSFER_ADD = GalleryEntry(
    name="transfer_add",
    question="What does adding each category's direction do?",
    caption="Mean change of the refusal score when the raw vector is added at its own layer. "
    "The harmless column is the one to read: prompts that are refused anyway have "
    "little room to rise.",
    answers="",
    needs="transfer",
    figure=lambda run: transfer(run.results["transfer"], "add"),
    data=lambda run: transfer_numbers(run, "add"),
)


LAYER_BANDS = GalleryEntry(
    name="layer_bands",
    question="In which layers can a category's refusal be ablated?",
    caption="Change of the refusal score when each category's own direction is ablated inside "
    "one window of layers only. Any window between where a direction is written and "
    "where it is read works, so a band says two things alone: its first layer, where "
    "the direction stands whole, and its last, after which it has been read. Which "
    "layers in between use it, it does not say. Windows overlap, so neighbours are not "
    "independent. Where no window does much and ablating everywhere does, layers "
    "stand in for each other.",
    answers="",
    needs="transfer",
    figure=lambda run: layer_bands(run.results["transfer"]),
    data=own_windows_numbers,
)
