"""A figure as part of a page: what plotly draws and, apart from it, words that can wrap."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

_HEAD, _HEADROOM = 66, 34
"""Pixels that the theme keeps for a title, and those that panel titles still need without it."""

_SUBTITLE_LINE = 17
_PANEL, _SIDES = 120, 180
"""Narrowest legible panel of several; room beside a heat map for its labels and its scale."""

_CELL, _WRITTEN_CELL = 14, 38
"""Narrowest cell of a heat map, without and with a value in it."""

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_AXIS = re.compile(r"([xy])axis(\d*)")


@dataclass(frozen=True)
class Embedded:
    """A figure for a page.

    Attributes:
        title: what the figure shows.
        subtitle: model, n, judge and whatever else the figure says about itself.
        spec: traces and layout without the title, as plotly's JSON.
        height: in pixels.
        narrowest: in pixels; on a narrower screen the figure should scroll in a box of its own.
    """

    title: str
    subtitle: str
    spec: dict[str, Any]
    height: int
    narrowest: int

    @property
    def alternative(self) -> str:
        """What the figure shows, for those who do not see it."""
        return ". ".join(part.rstrip(".") for part in (self.title, self.subtitle) if part) + "."


def embed(figure: go.Figure) -> Embedded:
    """Takes title and subtitle out of a figure: as text of a page they wrap on any screen."""
    spec: dict[str, Any] = json.loads(str(figure.to_json()))
    layout = spec["layout"]
    title = layout.pop("title", None) or {}
    subtitle = (title.get("subtitle") or {}).get("text", "")
    lines = len(_BREAK.split(subtitle)) if subtitle else 0
    head = _HEAD + _SUBTITLE_LINE * lines - _HEADROOM if title.get("text") else 0
    margin = layout.setdefault("margin", {})
    margin["t"] = max(_HEADROOM, margin.get("t", _HEAD) - head)
    height = int(layout.pop("height", None) or 450) - head
    layout.pop("width", None)
    layout |= {"height": height, "autosize": True}
    for name, axis in _axes(spec).items():
        # plotly.js warns of an axis that is to match itself.
        if axis.get("matches") == name:
            del axis["matches"]
    return Embedded(
        title=plain_text(title.get("text", "")),
        subtitle=" · ".join((layout.pop("meta", None) or {}).get("subtitle", []))
        or plain_text(subtitle),
        spec=spec,
        height=height,
        narrowest=_narrowest(spec),
    )


def plain_text(marked: str) -> str:
    """Plotly's markup as text: breaks are spaces, tags go, entities are what they stand for.

    >>> plain_text("<b>a &lt; b</b><br>c")
    'a < b c'
    """
    return " ".join(html.unescape(_TAG.sub("", _BREAK.sub(" ", marked))).split())


def _axes(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Axes by the name that traces have for them, such as x2."""
    found = ((_AXIS.fullmatch(key), axis) for key, axis in spec["layout"].items())
    return {"".join(match.groups()): axis for match, axis in found if match}


def _narrowest(spec: dict[str, Any]) -> int:
    """How wide the figure must be for its panels and cells to be legible."""
    domains = {
        name: tuple(axis.get("domain", (0.0, 1.0)))
        for name, axis in _axes(spec).items()
        if name.startswith("x")
    }
    starts = {round(start, 3) for start, _ in domains.values()}
    needed = [_PANEL * len(starts) + _SIDES // 2] if len(starts) > 1 else [0]
    for trace in spec["data"]:
        start, end = domains.get(trace.get("xaxis", "x"), (0.0, 1.0))
        cell = _WRITTEN_CELL if trace.get("texttemplate") and _any_text(trace) else _CELL
        needed.append(round(cell * _columns(trace) / (end - start)) + _SIDES)
    return min(1400, max(300, *needed))


def _columns(trace: dict[str, Any]) -> int:
    """Columns of a heat map, 0 for any other trace."""
    rows = trace.get("z") if trace.get("type") == "heatmap" else None
    if not isinstance(rows, Sequence) or not rows or not isinstance(rows[0], Sequence):
        return 0
    return len(rows[0])


def _any_text(trace: dict[str, Any]) -> bool:
    return any(str(text) for row in trace.get("text") or [] for text in row)
