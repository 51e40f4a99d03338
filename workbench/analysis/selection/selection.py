"""The selection: one candidate by the published rule, and why every other one was dropped."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.layers import first_skipped_layer
from workbench.positions import T_INST, Position, position_order
from workbench.tabled import Tabled

_SCORES = ("bypass", "induce", "kl")


@dataclass(frozen=True, eq=False)
class Choice(Tabled):
    """A selected candidate, and how it compares.

    Attributes:
        layer: of the selected direction.
        position: of the selected direction.
        table: every candidate, best first, with its scores, its intervals where the sweep has
            them, and in ``dropped`` why it cannot be chosen (empty for those that can).
        top_k: how many of the eligible ones `top` shows.
        settings: the rule's thresholds.
    """

    layer: int
    position: Position
    table: pd.DataFrame
    top_k: int
    settings: dict[str, float]

    @property
    def top(self) -> pd.DataFrame:
        """The chosen candidate and its runners-up."""
        return self.table.query("dropped == ''").head(self.top_k)

    def to_dataframe(self) -> pd.DataFrame:
        """Every candidate, best first: a copy of `table`."""
        return self.table.copy()

    def __repr__(self) -> str:
        eligible = len(self.table.query("dropped == ''"))
        return (
            f"Choice(layer={self.layer}, position={self.position}; best of {eligible} eligible, "
            f"{len(self.table)} candidates)"
        )


@checked
def select_direction(
    scores: xr.Dataset,
    *,
    kl_cap: float = 0.1,
    induce_floor: float = 0.0,
    skip_last: float = 0.2,
    top_k: int = 5,
) -> Choice:
    """The candidate with the smallest bypass score among those that pass.

    A candidate is dropped if it has no score, if it lies in the last layers (``layer ≥
    int((1 - skip_last) · n_layers)``), if ablating it moves harmless prompts too far (``kl >
    kl_cap``), or if adding it does not induce refusal (``induce < induce_floor``).

    Args:
        scores: a sweep, or published scores in the same form.
        kl_cap: largest KL, in nats.
        induce_floor: smallest refusal score of harmless prompts with the vector added, in nats.
        skip_last: share of the layers, counted from the last, that cannot be chosen.
        top_k: how many to show: candidates next to each other often differ by less than their
            intervals, so a choice is reported with its runners-up.

    Where only the winner is wanted, `search_direction` finds it from fewer forwards, without the
    sweep.

    Raises:
        StudyError: nothing passes; the message names the nearest misses.

    Source: Arditi et al. 2024, appendix C.
    """
    _check_scores(scores)
    n_layers = scores.attrs.get("n_layers", int(scores["layer"].max()) + 1)
    first_skipped = first_skipped_layer(n_layers, skip_last)
    table = _table(scores)
    table["dropped"] = [
        _reason(row, kl_cap, induce_floor, first_skipped) for row in table.itertuples()
    ]
    table = best_first(table, "bypass", ascending=True)
    if table["dropped"].iloc[0] != "":
        raise StudyError(_nothing_passes(table))
    settings = {"kl_cap": kl_cap, "induce_floor": induce_floor, "skip_last": skip_last}
    return first_choice(table, top_k, settings)


def best_first(table: pd.DataFrame, score: str, ascending: bool) -> pd.DataFrame:
    """Candidates in the order of a score, those that were dropped last; ties in that of places."""
    return (
        table.assign(
            _eligible=table["dropped"] == "", _position=table["position"].map(position_order)
        )
        .sort_values(
            ["_eligible", score, "layer", "_position"], ascending=[False, ascending, True, True]
        )
        .drop(columns=["_eligible", "_position"])
        .reset_index(drop=True)
    )


def first_choice(table: pd.DataFrame, top_k: int, settings: dict[str, float]) -> Choice:
    """The first of a table of candidates, best first, as the choice."""
    best = table.iloc[0]
    position = best["position"] if best["position"] == T_INST else int(best["position"])
    return Choice(int(best["layer"]), position, table, top_k, settings)


def _check_scores(scores: xr.Dataset) -> None:
    """Refuses what a sweep does not give, such as a file that says it is one.

    Raises:
        StudyError: a score is missing, or is not one number for each layer and position.
    """
    for name in _SCORES:
        if name not in scores:
            raise StudyError(f"these scores hold no {name!r}: expected a result of a sweep.")
    intervals = (f"{own}_interval" for own in _SCORES)
    for name in (*_SCORES, "norm", "kl_median", "kl_max", *intervals):
        dims = {"layer", "position"} | ({"bound"} if name.endswith("_interval") else set())
        if name not in scores:
            continue
        if {*scores[name].dims} != dims or scores[name].dtype.kind not in "fiu":
            raise StudyError(
                f"{name!r} is not one number for each layer and position: expected a result of a "
                f"sweep, found {scores[name].dtype} by {', '.join(map(repr, scores[name].dims))}."
            )
    for axis in ("layer", "position"):
        own = scores[axis].values.ravel().tolist() if axis in scores.coords else []
        if axis == "position":
            own = [-1 if label == T_INST else label for label in own]
        if not own or any(type(label) is not int for label in own):
            raise StudyError(f"these scores do not say which {axis}s they are of, in numbers.")
    if "bound" in scores.dims and {*scores.indexes.get("bound", ())} != {"low", "high"}:
        raise StudyError("the intervals of these scores do not say which bound is low or high.")
    n_layers = scores.attrs.get("n_layers", 0)
    if isinstance(n_layers, bool) or not isinstance(n_layers, int | np.integer):
        raise StudyError(f"n_layers of these scores is {n_layers!r}, no number of layers.")


def _table(scores: xr.Dataset) -> pd.DataFrame:
    """One row per candidate, with intervals where the scores have them."""
    names = [*_SCORES, *(["norm"] if "norm" in scores else [])]
    columns = {name: scores[name].transpose("layer", "position") for name in names}
    for name in _SCORES:
        if f"{name}_interval" in scores:
            for bound in ("low", "high"):
                interval = scores[f"{name}_interval"].sel(bound=bound, drop=True)
                columns[f"{name}_{bound}"] = interval.transpose("layer", "position")
    for name in ("kl_median", "kl_max"):
        if name in scores:
            columns[name] = scores[name].transpose("layer", "position")
    frame = xr.Dataset(columns).to_dataframe().reset_index()
    return frame.reindex(columns=["layer", "position", *columns])


def _reason(row: Any, kl_cap: float, induce_floor: float, first_skipped: int) -> str:
    """Why a candidate cannot be chosen, or nothing."""
    scores = [getattr(row, name) for name in _SCORES]
    if any(pd.isna(score) for score in scores):
        return "no score: the vector is zero but for rounding, or its effect is not finite"
    reasons = []
    if row.layer >= first_skipped:
        reasons.append(f"layer ≥ {first_skipped}: too near the output")
    if scores[2] > kl_cap:
        reasons.append(f"KL {scores[2]:.3g} > {kl_cap:g}")
    if scores[1] < induce_floor:
        reasons.append(f"induce {scores[1]:.3g} < {induce_floor:g}")
    return "; ".join(reasons)


def _distance(row: Any) -> tuple[int, float]:
    """Fewest broken conditions first, then the smallest bypass."""
    return row.dropped.count(";"), row.bypass


def _nothing_passes(table: pd.DataFrame) -> str:
    """One line that names the candidates that came nearest."""
    rows: list[Any] = list(table.itertuples())
    scored = [row for row in rows if not pd.isna(row.bypass)]
    nearest = sorted(scored, key=_distance)[:3]
    misses = " | ".join(
        f"layer {row.layer}, position {row.position}: bypass {row.bypass:.3g}, {row.dropped}"
        for row in nearest
    )
    return (
        f"none of {len(table)} candidates passes. Nearest: {misses or 'none has a score'}. Raise "
        "kl_cap, lower induce_floor or skip_last, or collect other layers and positions."
    )
