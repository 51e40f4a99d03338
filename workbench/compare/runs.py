"""Comparing directions: those of one run or file among themselves, or two sets of one model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
import xarray as xr

from workbench import figures
from workbench.arguments import checked
from workbench.artifact import save_dataset, write_text
from workbench.compare.comparable import Comparable, Source, read_sources
from workbench.directions.cosines import Axis, check_same_model, cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.directions.published.zhao import OVERALL
from workbench.directions.subspaces import principal_angles
from workbench.errors import AxisError, StudyError
from workbench.figures.geometry.pairs import methods
from workbench.intake.limits import allowing
from workbench.labels import span
from workbench.positions import Position, position_order
from workbench.study import names
from workbench.study.ledger import check_no_result
from workbench.tabled import Tabled


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Tabled):
    """Cosines between directions, and where to look first.

    Attributes:
        cosines: the map, as `cosine_similarity_map` gives it.
        over: the axis whose labels are compared.
        sources: what was compared, one or two.
        layer: where tables and figures look; the reference if layers are compared.
        position: the same of positions.
        angles: principal angles and overlaps where there is more than one name, or None.
        no_intervals: why nothing has an interval, or "".
        left_out: names that take no part, since they are no category beside the others.
        read: how files that do not say where their vectors belong were read, one line each.
        shown: why the layer and the position are looked at, where they were not asked for.
        same: whether two sources hold the same vectors, so that what they share has cosines of 1.
    """

    cosines: xr.Dataset
    over: Axis
    sources: tuple[str, ...]
    layer: int
    position: Position
    angles: xr.Dataset | None = None
    no_intervals: str = ""
    left_out: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    same: bool = False

    def __repr__(self) -> str:
        labels = self.cosines[self.over].values.tolist()
        return (
            f"Comparison(of {' and '.join(self.sources)}; {len(labels)} {self.over}s; looks at "
            f"layer {self.layer}, position {self.position})"
        )

    @property
    def at(self) -> xr.Dataset:
        """The map at the layer and position to look at, those that are not compared."""
        place = {"layer": self.layer, "position": self.position}
        return self.cosines.sel({axis: at for axis, at in place.items() if axis != self.over})

    @property
    def estimated(self) -> str:
        """How the directions were estimated, in words; "" where that is not recorded."""
        return methods(self.cosines.attrs)

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
        """One row per pair and place, each pair of one set once, with the bounds of intervals."""
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

    @checked
    def save(self, folder: str | Path, png: bool = False) -> list[Path]:
        """Writes the map, its table and its figures; nothing before all of them are made."""
        folder = Path(folder)
        drawn, table = self.figures(), self.to_dataframe().to_csv(index=False)
        cosines = self.cosines.assign_attrs(compared=list(self.sources))
        for name in ("cosines.safetensors", "angles.safetensors", "cosines.csv"):
            check_no_result(folder / name)
        written = [save_dataset(folder / "cosines.safetensors", cosines, kind="cosines")]
        if self.angles is not None:
            written.append(save_dataset(folder / "angles.safetensors", self.angles, kind="angles"))
        written.append(write_text(folder / "cosines.csv", table))
        for name, figure in drawn.items():
            files = figures.save_figure(figure, folder / names.FIGURES, name, png=png)
            written += files.values()
        return written


@checked
def compare_directions(
    first: Comparable,
    second: Comparable | None = None,
    *,
    over: Axis = "name",
    layer: int | None = None,
    position: Position | None = None,
    name: str | None = None,
    confidence: float = 0.95,
    axes: str | None = None,
    site: str | None = None,
    read_at: str | None = None,
    max_bytes: int | None = None,
) -> Comparison:
    """Cosines between the directions of one source, or between those of two.

    A run stands for the directions of its harm categories, which are always mean differences, and
    for its stored results where they hold what is asked for; its layers and positions are those of
    its own candidates, unless a category is named. Two sets are compared at the layers and
    positions that both have: those where both were resampled, if there are any, so that there are
    intervals; two runs that chose the same place were. A direction named ``overall`` is no category
    and takes no part among the names of one set.

    Args:
        first: a run or its folder, directions or their file, or whatever `load_published` reads.
        second: another one of the same model; by default the first is compared with itself.
        over: what is compared: names (harm categories), layers or positions.
        layer: only this one; where layers are compared, the one that the others are set against.
            Also the layer of a single vector whose file does not say it.
        position: the same for positions: a negative number or ``"t_inst"``. A file that says none
            is taken to be of this one, else of the one that the other source chose.
        name: only this direction; needed where layers or positions of several are compared.
        confidence: of intervals that are not stored.
        axes: of a file that does not say it, as `load_published` takes them.
        site: the same.
        read_at: the same.
        max_bytes: of a file that is read, and of what it unpacks to; 512 MiB by default, 8 GiB of
            one that the workbench wrote.

    Raises:
        AxisError: the sets come from different models, whose cosines mean nothing, or share no
            layer, position or name; or there is no such one.
        StudyError: there is nothing to compare with, several names and none chosen, or one chosen
            where names are compared.
        ArtifactError: a file that is absent, broken, too large or holds no directions.
    """
    if over not in get_args(Axis):
        raise AxisError(f"no axis {over!r} to compare: {', '.join(get_args(Axis))}.")
    if over == "name" and name is not None:
        raise StudyError(
            f"name {name!r} picks one direction, and it is names that are compared. Leave name "
            "out, or compare over layer or position."
        )
    given = [each for each in (first, second) if each is not None]
    place, told = {"layer": layer, "position": position}, {"axes": axes, "site": site}
    with allowing(max_bytes=max_bytes):
        sources = read_sources(given, over, place, told | {"read_at": read_at})
    one, other = sources[0], sources[1] if len(sources) > 1 else None
    if other is not None:
        check_same_model(one.directions, other.directions)
    asked: dict[str, Any] = {"name": name, "layer": layer, "position": position}
    cosines = one.stored(over, asked) if other is None else None
    angles, left_out, reason, same = None, (), "", False
    if cosines is None:
        sets = [each.over(over, name) for each in (one, other) if each is not None]
        if other is None:
            mine, theirs = _wanted(sets, (one,), over, asked)[0], None
            mine, left_out = _without_overall(mine, over)
            if one.run is not None:
                reason = one.without_noise_because(over, asked)
        else:
            mine, theirs, reason = _resampled_or_whole(one, other, sets, over, asked)
            same = _same_vectors(mine, theirs, over)
            if over == "name" and min(len(mine.names), len(theirs.names)) > 1:
                angles = principal_angles(mine, theirs)
        _check_names(mine, over, alone=theirs is None)
        cosines = cosine_similarity_map(mine, theirs, over=over, confidence=confidence)
    elif over == "name" and one.run is not None:
        angles = one.run.results.get("angles")
    baselines = cosines.attrs.get("baselines", "")
    if not isinstance(baselines, str):
        reason = ""
    elif baselines and not reason:
        reason = baselines.removeprefix("none: ")
        older = [each.resampled_otherwise() for each in sources]
        reason = "; ".join([reason, *filter(None, older)])
    if left_out:
        cosines = cosines.assign_attrs(left_out=list(left_out))
    both = [each for each in (one, other) if each is not None]
    at_layer, why_layer = _place(cosines, "layer", layer, both)
    at_position, why_position = _place(cosines, "position", position, both)
    return Comparison(
        cosines=cosines,
        over=over,
        sources=tuple(each.label for each in both),
        layer=at_layer,
        position=at_position,
        angles=angles,
        no_intervals=reason,
        left_out=left_out,
        read=tuple(f"{each.label}: {each.how}" for each in sources if each.how),
        shown=tuple(filter(None, (why_layer, why_position))),
        same=same,
    )


def _wanted(
    sets: Sequence[Directions], sources: Sequence[Source], over: Axis, asked: Mapping[str, Any]
) -> list[Directions]:
    """What the options leave of every set; what is compared stays whole.

    Raises:
        AxisError: one of them has no such label; which one, and what both have.
    """
    chosen = {axis: at for axis, at in asked.items() if axis != over and at is not None}
    for axis, at in chosen.items():
        held = [getattr(each, f"{axis}s") for each in sets]
        for labels, source in zip(held, sources, strict=True):
            if at in labels:
                continue
            common = [label for label in held[0] if all(label in each for each in held)]
            of = "Both have" if len(held) > 1 else "It has"
            rest = f"{of} {span(common)}." if common else f"The two share no {axis}."
            how = f" ({source.how})" if source.how else ""
            raise AxisError(f"no {axis} {at!r} in {source.label}: {axis}s {span(labels)}{how}. "
                            f"{rest}")  # fmt: skip
    return [each.at(**chosen) for each in sets]


def _without_overall(directions: Directions, over: Axis) -> tuple[Directions, tuple[str, ...]]:
    """The categories without the direction of all of them, whose cosines would raise their mean."""
    rest = [name for name in directions.names if name != OVERALL]
    if over != "name" or len(rest) < 2 or len(rest) == len(directions.names):
        return directions, ()
    return directions.at(name=rest), (OVERALL,)


def _resampled_or_whole(
    one: Source, other: Source, sets: list[Directions], over: Axis, asked: Mapping[str, Any]
) -> tuple[Directions, Directions, str]:
    """Two sets where both are, resampled if both are there; and why not, else."""
    mine, theirs = _wanted(sets, (one, other), over, asked)
    lacking = filter(None, (one.lacks_resamples(), other.lacks_resamples()))
    lacks = "; ".join(dict.fromkeys(lacking))
    if over != "name":
        return *_common(mine, theirs, over), lacks or f"runs resample at one place, not {over}s"
    if lacks or one.resampled is None or other.resampled is None:
        return *_common(mine, theirs, over), lacks
    try:
        noisy = _wanted((one.resampled, other.resampled), (one, other), over, asked)
        return *_common(noisy[0], noisy[1], over), ""
    except AxisError:
        places = " and ".join(
            f"layer {_listed(each.layers)}, position {_listed(each.positions)}"
            for each in (one.resampled, other.resampled)
        )
        reason = f"the two were resampled at {places}, and not both at what is compared"
        return *_common(mine, theirs, over), reason


def _listed(labels: tuple[Position, ...]) -> str:
    return ", ".join(map(str, labels))


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


def _same_vectors(a: Directions, b: Directions, over: Axis) -> bool:
    """Whether both hold the same at the labels that they share, or all the same by other labels."""
    labels, others = getattr(a, f"{over}s"), getattr(b, f"{over}s")
    if shared := [label for label in labels if label in others]:
        a, b = a.at(**{over: shared}), b.at(**{over: shared})
    return torch.equal(a.values.float().cpu(), b.values.float().cpu())


def _check_names(directions: Directions, over: Axis, alone: bool) -> None:
    """Refuses a map of nothing, and one of several names where one is meant."""
    names = list(directions.names)
    if over == "name" and alone and len(names) < 2:
        raise StudyError(
            f"one direction, {names[0]!r}, has no other to be compared with. Pass a second run or "
            "file, compare over layer or position, or make a run with harm categories and its "
            "analyses (--analyses cosines)."
        )
    if over != "name" and len(names) > 1:
        raise StudyError(
            f"{over}s of one direction are compared, and there are {len(names)}: choose a name "
            f"among {', '.join(names)}."
        )


def _place(
    cosines: xr.Dataset, axis: str, asked: Position | None, sources: Sequence[Source]
) -> tuple[Any, str]:
    """The label to look at, and in words why: asked for, chosen, or the middle layer or last token.

    Raises:
        AxisError: the one that is asked for is not there.
    """
    known = cosines[axis].values.tolist()
    if asked is not None:
        if asked not in known:
            raise AxisError(f"no {axis} {asked} in this comparison: {known}.")
        return asked, ""
    chosen = {each.label: getattr(each, axis) for each in sources}
    at = next((own for own in chosen.values() if own in known), None)
    if at is not None:
        by = [label for label, own in chosen.items() if own == at]
        rest = [f"{label} chose {own}" for label, own in chosen.items() if own not in (at, None)]
        return at, "; ".join([f"{axis} {at}, chosen in {' and '.join(by)}", *rest])
    at = known[len(known) // 2] if axis == "layer" else max(known, key=position_order)
    which = "the middle one" if axis == "layer" else "the last one"
    unsaid = "it is not known which was chosen"
    return at, f"{axis} {at}, {which}: {unsaid}" if len(known) > 1 else ""


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
