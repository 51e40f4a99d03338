"""How the figures of a sweep read it: names, hover texts, the KL axis, the marks of a selection."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.figures.parts.bands import band
from workbench.figures.parts.theme import (
    INK,
    PALETTE,
    SYMBOLS,
    model_of,
    position_label,
    position_text,
    require,
    translucent,
)
from workbench.figures.tidy import drawn
from workbench.layers import first_skipped_layer
from workbench.positions import Position, position_order
from workbench.written import number, with_interval

SCORES = ("bypass", "induce", "kl")

HOVER = (
    "layer %{customdata[0]}, position %{customdata[1]}<br>bypass %{customdata[2]}"
    "<br>induce %{customdata[3]}<br>KL %{customdata[4]}<extra></extra>"
)

_SMALLEST_KL = 1e-4
"""Below this, KL between two forward passes is rounding; a log axis would give it half the room."""


@dataclass(frozen=True)
class KLAxis:
    """The axis of KL: linear, or logarithmic with a floor at which smaller values are drawn."""

    floor: float | None
    top: float

    @classmethod
    def of(cls, values: np.ndarray) -> "KLAxis":
        """Logarithmic when the values that are not rounding span more than two decades."""
        finite = values[np.isfinite(values)]
        positive = finite[finite > 0]
        top = float(positive.max()) if positive.size else 1.0
        low = max(float(positive.min()), _SMALLEST_KL) if positive.size else top
        return cls(10.0 ** np.floor(np.log10(low)) if top / low > 100 else None, top)

    def drawn(self, values: np.ndarray) -> list[float]:
        """Where the values stand on the axis; below the floor means on it."""
        return (values if self.floor is None else np.maximum(values, self.floor)).tolist()

    def layout(self) -> dict[str, Any]:
        """Settings of the plotly axis; the floor's tick says that it stands for less as well."""
        if self.floor is None:
            return {"rangemode": "tozero"}
        low, high = round(np.log10(self.floor)), int(np.ceil(np.log10(self.top)))
        ticks = [10.0**power for power in range(low, high + 1)]
        labels = [f"{tick:g}" for tick in ticks]
        return {
            "type": "log",
            "range": [low - 0.15, max(high, np.log10(self.top) + 0.15)],
            "tickvals": ticks,
            "ticktext": [f"≤ {labels[0]}", *labels[1:]],
        }


def read_sweep(scores: xr.Dataset) -> xr.Dataset:
    """The dataset with layers ascending and positions in the order of the prompt.

    Raises:
        StudyError: not a sweep, or nothing in it was measured.
    """
    require(scores, "sweep", SCORES, ("layer", "position"))
    known = scores["position"].values.tolist()
    order = sorted(range(len(known)), key=lambda at: position_order(known[at]))
    return scores.sortby("layer").isel(position=order)


def units(scores: xr.Dataset, name: str) -> str:
    """Units of one of the scores."""
    return str(scores[name].attrs.get("units", "nats"))


def position_name(scores: xr.Dataset, position: Position) -> str:
    """The position and, where the dataset knows it, the token that stands there."""
    if "position_label" not in scores:
        return position_label(position)
    return position_label(position, str(scores["position_label"].sel(position=position).item()))


def mark(index: int) -> tuple[str, str]:
    """Colour and symbol of the position with this index."""
    return PALETTE[index % len(PALETTE)], SYMBOLS[index % len(SYMBOLS)]


def interval(scores: xr.Dataset, name: str, position: Position) -> np.ndarray | None:
    """Lower and upper bounds by layer, [bound layer], where the dataset has intervals."""
    if f"{name}_interval" not in scores:
        return None
    ends = scores[f"{name}_interval"].sel(position=position, bound=["low", "high"])
    return ends.transpose("bound", "layer").values


def hover(scores: xr.Dataset, position: Position) -> list[list[str]]:
    """What `HOVER` shows at each layer: all three scores, with their intervals."""
    columns = []
    for name in SCORES:
        values = scores[name].sel(position=position).values
        ends = interval(scores, name, position)
        bounds = [None] * len(values) if ends is None else ends.T
        texts = [with_interval(*each, lacking="") for each in zip(values, bounds, strict=True)]
        if name == "kl" and "kl_median" in scores:
            at = scores[["kl_median", "kl_max"]].sel(position=position)
            texts = [
                text
                if np.isnan(middle)
                else f"{text} (median {number(middle)}, max {number(most)})"
                for text, middle, most in zip(
                    texts, at["kl_median"].values, at["kl_max"].values, strict=True
                )
            ]
        columns.append(texts)
    label = position_name(scores, position)
    return [
        [str(layer), label, *texts]
        for layer, *texts in zip(scores["layer"].values.tolist(), *columns, strict=True)
    ]


def line_of(
    scores: xr.Dataset,
    position: Position,
    index: int,
    values: np.ndarray,
    ends: np.ndarray | None,
    customdata: list[list[str]],
    hovertemplate: str,
) -> tuple[go.Scatter | None, go.Scatter]:
    """One position's values by layer as a line, and their intervals as a band under it.

    Args:
        scores: over (layer, position), from which the line has its name.
        position: of the line.
        index: how many lines stand before it.
        values: by layer, as they are drawn.
        ends: low and high by layer, likewise; None gives no band.
        customdata: texts for hovering, by layer.
        hovertemplate: how they are shown.
    """
    layers = scores["layer"].values.tolist()
    colour, symbol = mark(index)
    line = go.Scatter(
        x=layers,
        y=values.tolist(),
        mode="lines+markers",
        name=position_name(scores, position),
        legendgroup=str(position),
        line={"color": colour, "width": 2},
        marker={"symbol": symbol, "size": 7},
        customdata=customdata,
        hovertemplate=hovertemplate,
    )
    if ends is None:
        return None, line
    group = {"legendgroup": str(position), "showlegend": False}
    low, high = ends
    return band(layers, low, high, translucent(colour), **group), line


def setting(scores: xr.Dataset, choice: Any, name: str, default: Any = None) -> Any:
    """A setting of the selection, from the choice or else from the dataset."""
    of_choice = getattr(choice, "settings", None) or {}
    return of_choice.get(name, scores.attrs.get(name, default))


def first_skipped(scores: xr.Dataset, choice: Any) -> int | None:
    """First of the last layers that the selection leaves out, which act on the output directly."""
    skip_last, n_layers = setting(scores, choice, "skip_last"), scores.attrs.get("n_layers")
    if not skip_last or n_layers is None:
        return None
    return first_skipped_layer(n_layers, skip_last)


@runtime_checkable
class ChoiceLike(Protocol):
    """Anything that names a candidate."""

    @property
    def layer(self) -> int:
        """Of the chosen direction."""
        ...

    @property
    def position(self) -> Position:
        """Of the chosen direction."""
        ...


def chosen(scores: xr.Dataset, choice: Any) -> xr.Dataset | None:
    """The scores of the choice, if there is one and this sweep has it."""
    if choice is None:
        return None
    try:
        return scores.sel(layer=choice.layer, position=choice.position)
    except KeyError:
        return None


def star(
    x: float | int, y: float, cell: xr.Dataset, scores: xr.Dataset, **settings: Any
) -> go.Scatter:
    """The mark of the chosen candidate."""
    layer, position = int(cell["layer"]), cell["position"].item()
    row = scores["layer"].values.tolist().index(layer)
    return go.Scatter(
        x=[x],
        y=[y],
        mode="markers",
        name=f"chosen: layer {layer}, position {position_text(position)}",
        marker={
            "symbol": "star",
            "size": 17,
            "color": "#FFD400",
            "line": {"color": INK, "width": 1.5},
        },
        customdata=[hover(scores, position)[row]],
        hovertemplate=f"chosen<br>{HOVER}",
        legendgroup="chosen",
        **settings,
    )


def describe(scores: xr.Dataset, choice: Any = None) -> list[str]:
    """The parts of the subtitle: model, site, n, and what the intervals and the stars are."""
    attrs = scores.attrs
    counts = [
        f"{attrs[key]} {label}"
        for key, label in (("n_harmful", "harmful"), ("n_harmless", "harmless"))
        if key in attrs
    ]
    origin = str(attrs.get("refusal_tokens_from", ""))
    parts = [
        model_of(attrs),
        f"directions {attrs['name']!r}" if attrs.get("name") else "",
        f"site {attrs['site']}" if attrs.get("site") else "",
        f"n = {' and '.join(counts)} prompts" if counts else "n not recorded",
        "scored by first-token refusal score, no judge",
        "refusal tokens found on these prompts" if "that are scored" in origin else "",
        f"added at {attrs['tokens']} tokens" if attrs.get("tokens") else "",
    ]
    if choice is not None and chosen(scores, choice) is None:
        parts.append(
            f"the choice (layer {choice.layer}, position {position_text(choice.position)}) "
            "is not here"
        )
    return parts


DRAWN_SCORES = (*SCORES, "kl_median", "kl_max")
"""What of a sweep its table has."""


def candidate_numbers(run: Any) -> xr.Dataset:
    """The sweep with what it is read against: no intervention, the thresholds, the choice."""
    against = {
        name: run.scores.attrs[name]
        for name in ("harmful_baseline", "harmless_baseline")
        if name in run.scores.attrs
    }
    against |= getattr(run.choice, "settings", None) or {}
    against |= {"chosen_layer": run.choice.layer, "chosen_position": run.choice.position}
    singles = {name: value for name, value in against.items() if isinstance(value, int | float)}
    return drawn(run.scores, *DRAWN_SCORES).assign(singles)
