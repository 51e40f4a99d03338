"""The figures of a page: the gallery of a run, each with how to read it."""

import json
from dataclasses import dataclass
from typing import Any

from workbench.errors import StudyError
from workbench.figures.catalogue import GALLERY
from workbench.figures.parts.embed import Embedded, embed
from workbench.study.results import Run


@dataclass(frozen=True)
class Plot:
    """A figure on the page.

    Attributes:
        name: of its anchor.
        question: what the figure answers, as its heading.
        caption: how to read it.
        answers: which published figure it answers; empty if none.
        figure: what is drawn.
    """

    name: str
    question: str
    caption: str
    answers: str
    figure: Embedded

    @property
    def spec(self) -> str:
        """What plotly draws, for a script element."""
        return script_json(self.figure.spec)


def gallery_plots(run: Run) -> tuple[list[Plot], dict[str, str]]:
    """Every figure that the run has results for, and why the others are not there."""
    plots: list[Plot] = []
    undrawn: dict[str, str] = {}
    for entry in GALLERY:
        try:
            figure = entry.draw(run)
        except StudyError as error:
            undrawn[f"figure {entry.name}"] = str(error)
            continue
        if figure is None:
            undrawn[f"figure {entry.name}"] = f"this run has no result {entry.needs!r}"
        else:
            words = entry.name, entry.question, entry.caption, entry.answers
            plots.append(Plot(*words, embed(figure)))
    return plots, undrawn


def script_json(value: Any) -> str:
    r"""JSON that can stand inside a script element whatever its texts hold.

    All of it is ASCII, and what could end the element or begin another is escaped.

    >>> script_json("</script>")
    '"\\u003c/script\\u003e"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
