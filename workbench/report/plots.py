"""Gallery figures for a page: what plotly draws, and the words beside it."""

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
_PANEL, _CELL = 150, 26
"""Narrowest legible panel of several, and narrowest cell of a heat map, in pixels."""

_MARGIN = 110
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Plot:
    """A figure on the page.

    Attributes:
        name: of its anchor.
        question: what the figure answers.
        title: what it shows.
        subtitle: model, n, judge and whatever else the figure says about itself.
        caption: how to read it.
        answers: which published figure it answers; empty if none.
        spec: traces and layout without the title, as plotly's JSON.
        height: in pixels.
        narrowest: in pixels; on a narrower screen the figure scrolls in a box of its own.
    """

    name: str
    question: str
    title: str
    subtitle: str
    caption: str
    answers: str
    spec: str
    height: int
    narrowest: int

    @property
    def alternative(self) -> str:
        """What the figure shows, for those who do not see it."""
        return ". ".join(part.rstrip(".") for part in (self.title, self.subtitle) if part) + "."


def plot(figure: go.Figure, name: str, question: str, caption: str, answers: str = "") -> Plot:
    """Takes title and subtitle out of a figure: as text of the page they wrap on any screen.

    Args:
        figure: drawn by a function of `workbench.figures`.
        name: of its anchor.
        question: what the figure answers.
        caption: how to read it.
        answers: which published figure it answers.
    """
    spec: dict[str, Any] = json.loads(str(figure.to_json()))
    layout = spec["layout"]
    title = layout.pop("title", None) or {}
    subtitle = (title.get("subtitle") or {}).get("text", "")
    lines = len(_BREAK.split(subtitle)) if subtitle else 0
    head = _HEAD + _SUBTITLE_LINE * lines - _HEADROOM if title.get("text") else 0
    margin = layout.setdefault("margin", {})
    margin["t"] = max(_HEADROOM, margin.get("t", _HEAD) - head)
    height = int(layout.pop("height", None) or 450) - head
    layout["height"] = height
    layout["autosize"] = True
    layout.pop("width", None)
    return Plot(
        name=name,
        question=question,
        title=plain_text(title.get("text", name)),
        subtitle=" · ".join(plain_text(line) for line in _BREAK.split(subtitle) if line),
        caption=caption,
        answers=answers,
        spec=script_json(spec),
        height=height,
        narrowest=_narrowest(spec),
    )


def plain_text(marked: str) -> str:
    """Plotly's markup as text: breaks are spaces, tags go, entities are what they stand for.

    >>> plain_text("<b>a &lt; b</b><br>c")
    'a < b c'
    """
    return " ".join(html.unescape(_TAG.sub("", _BREAK.sub(" ", marked))).split())


def script_json(value: Any) -> str:
    """JSON that can stand inside a script element whatever its texts hold.

    All of it is ASCII, and what could end the element or begin another is escaped.

    >>> script_json("</script>")
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _narrowest(spec: dict[str, Any]) -> int:
    """How wide the figure must be for its panels and cells to be legible."""
    domains = {
        tuple(axis.get("domain", (0, 1)))
        for key, axis in spec["layout"].items()
        if re.fullmatch(r"xaxis\d*", key)
    }
    side_by_side = len({round(start, 3) for start, _ in domains})
    across = max((_columns(trace) for trace in spec["data"]), default=0)
    panels = _PANEL * side_by_side if side_by_side > 1 else 0
    return min(1100, max(320, _MARGIN + max(panels, _CELL * across if side_by_side < 2 else 0)))


def _columns(trace: dict[str, Any]) -> int:
    """Columns of a heat map, 0 for any other trace."""
    rows = trace.get("z") if trace.get("type") == "heatmap" else None
    if not isinstance(rows, Sequence) or not rows or not isinstance(rows[0], Sequence):
        return 0
    return len(rows[0])
