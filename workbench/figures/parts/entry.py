"""An entry of the catalogue: a figure of a run, what it asks, how it is read, its numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import plotly.graph_objects as go
import xarray as xr


@runtime_checkable
class RunLike(Protocol):
    """What a figure may look at of a run."""

    @property
    def scores(self) -> xr.Dataset:
        """The sweep."""
        ...

    @property
    def choice(self) -> Any:
        """The selected candidate, with ``.layer`` and ``.position``."""
        ...

    @property
    def effects(self) -> xr.Dataset:
        """Refusal rates."""
        ...

    @property
    def results(self) -> Mapping[str, xr.Dataset]:
        """What the analyses found."""
        ...


@dataclass(frozen=True)
class GalleryEntry:
    """One figure of a run.

    Attributes:
        name: of its files.
        question: what it answers, as a heading.
        caption: how it is read, and what would be misread.
        answers: the published figure that shows the same, or "".
        needs: the results that it draws, with spaces between, "" for one that every run has.
        figure: from a run to the figure; called only where ``needs`` is there.
        data: from a run to the numbers that the figure draws, for `tidy`.
    """

    name: str
    question: str
    caption: str
    answers: str
    needs: str
    figure: Callable[[RunLike], go.Figure]
    data: Callable[[RunLike], xr.Dataset]

    def draw(self, run: RunLike) -> go.Figure | None:
        """The figure, or None where the run has not the results that it draws.

        Raises:
            StudyError: the result is there and holds nothing that can be drawn.
        """
        there = all(_has(run, name) for name in self.needs.split())
        return self.figure(run) if there else None


def _has(run: RunLike, name: str) -> bool:
    """Whether a run has a result; what of the main ones may be missing is an attribute of it."""
    return name in run.results or getattr(run, name, None) is not None


def controls_of(run: RunLike) -> xr.Dataset | None:
    """What vectors without signal do, of a run that measured them."""
    return getattr(run, "controls", None)


def at_choice(run: Any, result: str) -> xr.Dataset:
    """A map of cosines at the chosen layer and position, whichever of them it still has."""
    cosines = run.results[result]
    place = {"layer": run.choice.layer, "position": run.choice.position}
    return cosines.sel({axis: [at] for axis, at in place.items() if axis in cosines["cosine"].dims})


def without_text(dataset: xr.Dataset) -> xr.Dataset:
    """A prompt is named by its id: tables are passed around, and prompts are not all harmless."""
    return dataset.drop_vars(["text", "category"], errors="ignore")
