"""Comparing directions: those of one run or file among themselves, or two sets of one model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import xarray as xr

from workbench import figures
from workbench.artifact import save_dataset, write_text
from workbench.directions.cosines import Axis, check_same_model, cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.directions.published import load_published
from workbench.directions.subspaces import principal_angles
from workbench.errors import ArtifactError, AxisError, StudyError
from workbench.study import results
from workbench.study.results import Run, load_run

Comparable = str | Path | Run | Directions


@dataclass(frozen=True, eq=False)
class Comparison:
    """Cosines between directions, and where to look first.

    Attributes:
        cosines: the map, as `cosine_similarity_map` gives it.
        over: the axis whose labels are compared.
        sources: what was compared, one or two.
        layer: where tables and figures look; the reference if layers are compared.
        position: the same of positions.
        angles: principal angles and overlaps where there is more than one name, or None.
        no_intervals: why nothing has an interval, or "".
    """

    cosines: xr.Dataset
    over: Axis
    sources: tuple[str, ...]
    layer: int
    position: int
    angles: xr.Dataset | None = None
    no_intervals: str = ""

    @property
    def at(self) -> xr.Dataset:
        """The map at the layer and position to look at, those that are not compared."""
        place = {"layer": self.layer, "position": self.position}
        return self.cosines.sel({axis: at for axis, at in place.items() if axis != self.over})

    def figures(self) -> dict[str, go.Figure]:
        """The figures of this comparison, by name."""
        drawn = {
            "cosine_map": figures.cosine_map(
                self.cosines,
                layer=None if self.over == "layer" else self.layer,
                position=None if self.over == "position" else self.position,
            )
        }
        if self.over == "name" and self.cosines.sizes["layer"] > 1:
            drawn["cosine_maps_by_layer"] = figures.cosine_maps_by_layer(
                self.cosines, position=self.position
            )
            if "mean_cosine" in self.cosines:
                drawn["cosine_by_layer"] = figures.cosine_by_layer(
                    self.cosines, position=self.position
                )
        return drawn

    def to_dataframe(self) -> pd.DataFrame:
        """One row per pair and place, each pair of one set once, with the ends of intervals."""
        dims = self.cosines["cosine"].dims
        columns: dict[str, xr.DataArray] = {}
        for name, values in self.cosines.data_vars.items():
            if set(values.dims) == set(dims):
                columns[str(name)] = values
            elif set(values.dims) == {*dims, "bound"}:
                base = str(name).removesuffix("_interval")
                columns |= {f"{base}_{end}": values.sel(bound=end) for end in ("low", "high")}
        frame = xr.Dataset({k: v.drop_vars("bound", errors="ignore") for k, v in columns.items()})
        table = frame.to_dataframe(dim_order=[str(dim) for dim in dims]).reset_index()
        if len(self.sources) == 1:
            labels = self.cosines[self.over].values.tolist()
            first, second = (
                np.array([labels.index(label) for label in table[key]])
                for key in (self.over, f"{self.over}_other")
            )
            table = table.loc[first < second].reset_index(drop=True)
        return table

    def save(self, folder: str | Path, png: bool = False) -> list[Path]:
        """Writes the map, its table and its figures; nothing before all of them are made."""
        folder = Path(folder)
        drawn, table = self.figures(), self.to_dataframe().to_csv(index=False)
        cosines = self.cosines.assign_attrs(compared=list(self.sources))
        written = [save_dataset(folder / "cosines.safetensors", cosines, kind="cosines")]
        if self.angles is not None:
            written.append(save_dataset(folder / "angles.safetensors", self.angles, kind="angles"))
        written.append(write_text(folder / "cosines.csv", table))
        for name, figure in drawn.items():
            files = figures.save_figure(figure, folder / results.FIGURES, name, png=png)
            written += files.values()
        return written


@dataclass(frozen=True, eq=False)
class _Source:
    """One side of a comparison."""

    label: str
    directions: Directions
    layer: int | None = None
    position: int | None = None
    run: Run | None = None


def compare_directions(
    first: Comparable,
    second: Comparable | None = None,
    *,
    over: Axis = "name",
    layer: int | None = None,
    position: int | None = None,
    name: str | None = None,
    confidence: float = 0.95,
) -> Comparison:
    """Cosines between the directions of one source, or between those of two.

    A run stands for the directions of its harm categories, and for its stored results where they
    hold what is asked for. Two sets are compared at the layers and positions that both have.

    Args:
        first: a run or its folder, directions or their file, or whatever `load_published` reads.
        second: another one of the same model; by default the first is compared with itself.
        over: what is compared: names (harm categories), layers or positions.
        layer: only this one; where layers are compared, the one that the others are set against.
        position: the same for positions.
        name: only this direction; needed where layers or positions of several are compared.
        confidence: of intervals that are not stored.

    Raises:
        AxisError: the sets come from different models, whose cosines mean nothing, or share no
            layer, position or name; or there is no such one.
        StudyError: there is nothing to compare with, or several names and none chosen.
        ArtifactError: a file that is absent, broken or holds no directions.
    """
    if over not in get_args(Axis):
        raise AxisError(f"no axis {over!r} to compare: {', '.join(get_args(Axis))}.")
    one = _read(first)
    other = None if second is None else _read(second)
    if other is not None:
        check_same_model(one.directions, other.directions)
    asked: dict[str, Any] = {"name": name, "layer": layer, "position": position}
    cosines = _stored(one, over, asked) if other is None else None
    angles = None
    if cosines is None:
        mine = _wanted(_of_run(one, over, name) if other is None else one.directions, over, asked)
        theirs = None
        if other is not None:
            mine, theirs = _common(mine, _wanted(other.directions, over, asked), over)
            if over == "name" and min(len(mine.names), len(theirs.names)) > 1:
                angles = principal_angles(mine, theirs)
        _check_names(mine, over, alone=theirs is None)
        cosines = cosine_similarity_map(mine, theirs, over=over, confidence=confidence)
    elif over == "name" and one.run is not None:
        angles = one.run.results.get("angles")
    baselines = cosines.attrs.get("baselines", "")
    reason = baselines.removeprefix("none: ") if isinstance(baselines, str) else ""
    if reason and one.run is not None and other is None:
        place = f"layer {one.layer}, position {one.position}"
        reason = f"a run keeps intervals at its own place only ({place}), this is another"
    return Comparison(
        cosines=cosines,
        over=over,
        sources=tuple(each.label for each in (one, other) if each is not None),
        layer=_place(cosines, "layer", layer, one.layer),
        position=_place(cosines, "position", position, one.position),
        angles=angles,
        no_intervals=reason,
    )


def _read(source: Comparable) -> _Source:
    """Directions from wherever they are, and the place that was chosen there."""
    if isinstance(source, Directions):
        return _Source("directions", source)
    if isinstance(source, Run):
        return _from_run(source)
    path = Path(source)
    if (path / results.STUDY).is_file():
        return _from_run(load_run(path))
    if path.is_file() and path.suffix == ".safetensors":
        return _Source(str(path), Directions.load(path))
    published = load_published(path)
    if published.directions is None:
        raise ArtifactError(f"{path} holds no directions, so there is nothing to compare.")
    choice = published.choice
    layer, position = (None, None) if choice is None else (choice.layer, choice.position)
    return _Source(str(path), published.directions, layer, position)


def _from_run(run: Run) -> _Source:
    path = run.folder / results.CATEGORY_DIRECTIONS
    directions = Directions.load(path) if path.is_file() else run.directions
    return _Source(str(run.folder), directions, run.choice.layer, run.choice.position, run)


def _stored(source: _Source, over: Axis, asked: Mapping[str, Any]) -> xr.Dataset | None:
    """The run's own map, where it has the one that is asked for."""
    if source.run is None:
        return None
    key = "cosines" if over == "name" else f"cosines_between_{over}s"
    cosines = source.run.results.get(key)
    if cosines is None:
        return None
    chosen = {}
    for axis, label in asked.items():
        if axis == over or label is None:
            continue
        if label not in cosines[axis].values:
            return None
        chosen[axis] = [label]
    return None if over == "name" and asked["name"] is not None else cosines.sel(chosen)


def _of_run(source: _Source, over: Axis, name: str | None) -> Directions:
    """A run's categories, or its candidates where layers or positions of those are compared."""
    run = source.run
    if run is not None and over != "name" and (name is None or name in run.directions.names):
        return run.directions
    return source.directions


def _wanted(directions: Directions, over: Axis, asked: Mapping[str, Any]) -> Directions:
    """What the options leave of one set; what is compared stays whole."""
    return directions.at(**{axis: at for axis, at in asked.items() if axis != over})


def _common(a: Directions, b: Directions, over: Axis) -> tuple[Directions, Directions]:
    """Both sets at the labels that they share on the axes that are not compared."""
    for axis in get_args(Axis):
        if axis == over:
            continue
        mine, theirs = getattr(a, f"{axis}s"), getattr(b, f"{axis}s")
        shared = [label for label in mine if label in theirs]
        if not shared:
            raise AxisError(
                f"the two sets share no {axis}: {list(mine)} and {list(theirs)}. Compare over "
                f"{axis}, or sets that were read at the same place."
            )
        a, b = a.at(**{axis: shared}), b.at(**{axis: shared})
    return a, b


def _check_names(directions: Directions, over: Axis, alone: bool) -> None:
    """Refuses a map of nothing, and one of several names where one is meant."""
    names = list(directions.names)
    if over == "name" and alone and len(names) < 2:
        raise StudyError(
            f"one direction, {names[0]!r}, has no other to be compared with. Pass a second run or "
            "file, compare over layer or position, or make a run with harm categories."
        )
    if over != "name" and len(names) > 1:
        raise StudyError(
            f"{over}s of one direction are compared, and there are {len(names)}: choose a name "
            f"among {', '.join(names)}."
        )


def _place(cosines: xr.Dataset, axis: str, asked: int | None, chosen: int | None) -> int:
    """The label that is asked for, else the chosen one, else the middle layer or last position.

    Raises:
        AxisError: the one that is asked for is not there.
    """
    known = cosines[axis].values.tolist()
    if asked is not None:
        if asked not in known:
            raise AxisError(f"no {axis} {asked} in this comparison: {known}.")
        return asked
    if chosen in known:
        return int(chosen)  # pyright: ignore[reportArgumentType]
    return int(known[len(known) // 2] if axis == "layer" else max(known))


def with_reference(comparison: Comparison) -> xr.Dataset:
    """Where layers or positions of one set are compared: every label against the reference."""
    reference = comparison.layer if comparison.over == "layer" else comparison.position
    return comparison.at.isel(name=0).sel({f"{comparison.over}_other": reference})


def lowest_pairs(at: xr.Dataset, limit: int) -> list[tuple[int, int]]:
    """Pairs of a square map, the least alike first; those that were not measured come last."""
    values = at["cosine"].values
    rows, columns = np.triu_indices(len(values), k=1)
    order = np.argsort(values[rows, columns], kind="stable")[:limit]
    return [(int(rows[index]), int(columns[index])) for index in order]
