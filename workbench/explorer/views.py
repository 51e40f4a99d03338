"""What the explorer shows: from a run and a selection to figures, without a widget."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from workbench.activations import Activations
from workbench.analysis.geometry.pca import pca_projection
from workbench.analysis.geometry.token_projections import ReadPrompt, token_projections
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.errors import WorkbenchError
from workbench.figures.geometry.cosine_pair import cosine_pair
from workbench.figures.geometry.cosines import cosine_map
from workbench.figures.geometry.pca import pca
from workbench.figures.geometry.tokens import token_projections as tokens_figure
from workbench.figures.heads.maps import head_map
from workbench.figures.parts.embed import Embedded, embed
from workbench.figures.parts.theme import INK
from workbench.figures.selection.sweep import sweep
from workbench.positions import T_INST, Position, position_order
from workbench.study.names import CATEGORY_DIRECTIONS
from workbench.study.results import Run

VIEWS = ("sweep", "pca", "cosines", "pair", "heads", "tokens")
"""Names of the figures, in the order in which they are shown."""

_FOLLOWS = {
    "sweep": ("layer", "position"),
    "pca": ("layer", "position"),
    "cosines": ("layer", "position"),
    "pair": ("pair", "position"),
    "heads": ("position",),
    "tokens": ("layer", "position", "name"),
}
"""Parts of the selection on which each figure hangs."""


@dataclass(frozen=True)
class Selection:
    """What is looked at.

    Attributes:
        layer: of the direction.
        position: of the direction.
        name: which direction: the run's own, or a harm category's.
        pair: two categories whose cosine is followed through the layers; None if there are none.
    """

    layer: int
    position: Position
    name: str
    pair: tuple[str, str] | None = None


class Views:
    """The figures of a run, drawn for a selection.

    Attributes:
        run: the run.
        prompt: what the token view shows, once a prompt was read.
        activations: test prompts at further positions, once they were read.
    """

    def __init__(self, run: Run):
        self.run = run
        self.prompt: ReadPrompt | None = None
        self.activations: tuple[Activations, ...] = ()
        self._projections: dict[Position, xr.Dataset] = {}
        self._drawn: dict[tuple[Any, ...], Embedded | str] = {}

    @cached_property
    def categories(self) -> Directions | None:
        """One direction per harm category, where the run has them."""
        if not self.run.holds(CATEGORY_DIRECTIONS):
            return None
        return Directions.load(self.run.path(CATEGORY_DIRECTIONS))

    @property
    def names(self) -> tuple[str, ...]:
        """Directions that can be chosen: the run's own, then the categories'."""
        return (*self.run.directions.names, *(self.categories.names if self.categories else ()))

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that can be chosen."""
        return self.run.directions.layers

    @property
    def positions(self) -> tuple[Position, ...]:
        """Positions that can be chosen; t_inst where the categories' directions have it."""
        own = set(self.run.directions.positions)
        own |= set(self.categories.positions if self.categories else ())
        return tuple(sorted(own, key=position_order))

    @property
    def start(self) -> Selection:
        """What the run chose, and its first pair of categories."""
        names = self.categories.names if self.categories else ()
        pair = (names[0], names[1]) if len(names) > 1 else None
        choice = self.run.choice
        return Selection(choice.layer, choice.position, self.run.directions.names[0], pair)

    def direction(self, selection: Selection) -> Directions:
        """The one vector of a selection.

        Raises:
            AxisError: this direction was not estimated there.
        """
        own = selection.name in self.run.directions.names
        directions = self.run.directions if own else self.categories
        assert directions is not None
        return directions.at(
            name=selection.name, layer=selection.layer, position=selection.position
        )

    def changed(self, before: Selection, after: Selection) -> tuple[str, ...]:
        """Figures that have to be drawn again."""
        return tuple(
            view
            for view in VIEWS
            if any(getattr(before, part) != getattr(after, part) for part in _FOLLOWS[view])
        )

    def draw(self, view: str, selection: Selection) -> Embedded | str:
        """One figure, or in words why there is none to show."""
        drawers: Mapping[str, Callable[[Selection], Embedded | str]] = {
            "sweep": self._sweep,
            "pca": self._pca,
            "cosines": self._cosines,
            "pair": self._pair,
            "heads": self._heads,
            "tokens": self._tokens,
        }
        # What was drawn once is shown again at once.
        key = (view, id(self.prompt) if view == "tokens" else len(self.activations))
        key += tuple(getattr(selection, part) for part in _FOLLOWS[view])
        if key not in self._drawn:
            try:
                self._drawn[key] = drawers[view](selection)
            except WorkbenchError as error:
                self._drawn[key] = str(error)
        return self._drawn[key]

    @cached_property
    def _whole_sweep(self) -> Embedded:
        return embed(sweep(self.run.scores, self.run.choice))

    def _sweep(self, selection: Selection) -> Embedded:
        """The sweep, drawn once; the selected candidate gets a ring in every panel."""
        whole = self._whole_sweep
        spec = {**whole.spec, "data": list(whole.spec["data"])}
        wanted = str(selection.position)
        for trace in whole.spec["data"]:
            lines = trace.get("mode") == "lines+markers" and trace.get("legendgroup") == wanted
            if not lines or selection.layer not in trace["x"]:
                continue
            at = trace["x"].index(selection.layer)
            spec["data"].append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [selection.layer],
                    "y": [trace["y"][at]],
                    "xaxis": trace.get("xaxis", "x"),
                    "yaxis": trace.get("yaxis", "y"),
                    "name": "selected",
                    "marker": {
                        "symbol": "circle-open",
                        "size": 20,
                        "color": INK,
                        "line": {"width": 2.5},
                    },
                    "hoverinfo": "skip",
                    "showlegend": False,
                    "meta": "selected",
                }
            )
        return replace(whole, spec=spec)

    def _pca(self, selection: Selection) -> Embedded | str:
        projection = self._projection(selection.position)
        if projection is None:
            return (
                f"The run stored no principal components at position {selection.position}. "
                "“Read all positions” reads the test prompts there."
            )
        at = projection.sel(layer=[selection.layer])
        if not bool(at["score"].sel(position=selection.position).notnull().any()):
            return f"At layer {selection.layer} all test prompts have the same activation here."
        return embed(pca(at, position=selection.position))

    def _projection(self, position: Position) -> xr.Dataset | None:
        """Principal components at a position, stored or from activations read since."""
        stored = self.run.results.get("pca")
        if stored is not None and position in stored["position"].values:
            return stored
        if position not in self._projections and self.activations:
            self._projections[position] = pca_projection(
                list(self.activations), positions=[position], confidence=self.run.study.confidence
            )
        return self._projections.get(position)

    def _cosines(self, selection: Selection) -> Embedded | str:
        cosines = self._cosines_at(selection.position)
        if cosines is None:
            return "This run has no directions of categories to compare."
        at = cosines.sel(layer=[selection.layer])
        if not bool(at["cosine"].notnull().any()):
            return f"At layer {selection.layer} the directions are zero but for rounding."
        return embed(cosine_map(at, layer=selection.layer, position=selection.position))

    def _cosines_at(self, position: Position) -> xr.Dataset | None:
        """The stored map where it has the position, else one without intervals."""
        stored = self.run.results.get("cosines")
        if stored is not None and position in np.atleast_1d(stored["position"].values):
            return stored
        if self.categories is None or position not in self.categories.positions:
            return None
        return self._plain_cosines

    @cached_property
    def _plain_cosines(self) -> xr.Dataset:
        assert self.categories is not None
        return cosine_similarity_map(self.categories)

    def _pair(self, selection: Selection) -> Embedded | str:
        cosines = self._cosines_at(selection.position)
        if cosines is None or selection.pair is None:
            return "This run has no pair of categories to follow through the layers."
        return embed(cosine_pair(cosines, selection.pair, position=selection.position))

    def _heads(self, selection: Selection) -> Embedded | str:
        patching = self.run.results.get("head_patching")
        if patching is None:
            return "This run holds no patching of heads."
        measured = patching["position"].values.tolist()
        if selection.position not in measured:
            return f"Heads were patched at position {', '.join(map(str, measured))} only."
        return embed(head_map(patching.sel(position=[selection.position])))

    def _tokens(self, selection: Selection) -> Embedded | str:
        if self.prompt is None:
            return "Type a prompt and press Enter: its tokens are shown along the direction."
        return embed(tokens_figure(token_projections(self.prompt, self.direction(selection))))


def clicked(selection: Selection, event: Mapping[str, Any]) -> Selection:
    """The selection after a click on a point of a figure; unchanged where it means nothing.

    A point of the sweep is a candidate, a cell of the cosine map a pair of categories, a column of
    the heads or tokens nothing.

    Args:
        selection: before.
        event: ``view``, ``x``, ``y`` and the ``group`` of the trace.
    """
    if event.get("view") == "sweep":
        try:
            group = event["group"]
            position: Position = T_INST if group == T_INST else int(group)
            return replace(selection, layer=int(event["x"]), position=position)
        except (TypeError, ValueError, KeyError):
            return selection
    if event.get("view") == "cosines":
        pair = str(event.get("y")).replace(" ", "_"), str(event.get("x")).replace(" ", "_")
        return replace(selection, pair=pair) if pair[0] != pair[1] else selection
    return selection


def as_message(view: Embedded | str) -> dict[str, Any]:
    """A view as the page's script reads it."""
    if isinstance(view, str):
        return {"message": view}
    return {
        "title": view.title,
        "subtitle": view.subtitle,
        "alternative": view.alternative,
        "spec": copy.copy(view.spec),
        "height": view.height,
        "narrowest": view.narrowest,
    }
