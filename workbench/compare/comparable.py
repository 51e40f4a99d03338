"""What can be compared: the directions of runs, files and published folders, and their noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import xarray as xr

from workbench.directions.cosines import Axis
from workbench.directions.direction import Directions
from workbench.directions.published import Published, load_published
from workbench.directions.published.asked import Asked, axes_of
from workbench.directions.published.files import LabelKnown, LabelNeeded, is_ours
from workbench.errors import ArtifactError
from workbench.positions import Position
from workbench.study import names, results
from workbench.study.ledger import holds_run
from workbench.study.material import N_RESAMPLES, RESAMPLING_SEED
from workbench.study.results import Run, load_run

Comparable = str | Path | Run | Directions


@dataclass(frozen=True, eq=False)
class Source:
    """One side of a comparison.

    Attributes:
        label: what it is called.
        directions: of its harm categories, where a run has them.
        layer: the chosen one, if any was.
        position: the same of positions.
        run: the run, if it is one.
        resampled: directions that know their noise, at fewer places; None where there are none.
        how: of a file of others, how it was read; "" where nothing had to be taken for something.
        open_position: whether the position is only a label, since the file does not say it.
        known: why labels that were given could not be used, by their names.
    """

    label: str
    directions: Directions
    layer: int | None = None
    position: Position | None = None
    run: Run | None = None
    resampled: Directions | None = None
    how: str = ""
    open_position: bool = False
    known: Mapping[str, LabelKnown] = field(default_factory=dict)

    def at_position(self, position: Position | None) -> "Source":
        """Itself, labelled with a position if its file says none."""
        if position is None or not self.open_position:
            return self
        how = self.how.replace(_LABEL, f"; position not in the file, taken to be {position}")
        return replace(self, directions=replace(self.directions, positions=(position,)), how=how)

    def over(self, over: Axis, name: str | None) -> Directions:
        """Categories, or a run's candidates where layers or positions of those are compared."""
        run = self.run
        if run is not None and over != "name" and (name is None or name in run.directions.names):
            return run.directions
        return self.directions

    def stored(self, over: Axis, asked: Mapping[str, Any]) -> xr.Dataset | None:
        """The run's own map, where it has the one that is asked for.

        Its maps between layers and positions are those of mean differences: of a run with another
        estimator they are not what its candidates would give.
        """
        if self.run is None:
            return None
        cosines = self.run.results.get("cosines" if over == "name" else f"cosines_between_{over}s")
        if cosines is None or (over != "name" and self._estimator != "mean_difference"):
            return None
        chosen = {}
        for axis, label in asked.items():
            if axis == over or label is None:
                continue
            if label not in cosines[axis].values.tolist():
                return None
            chosen[axis] = [label]
        return cosines.sel(chosen)

    def without_noise_because(self, over: Axis, asked: Mapping[str, Any]) -> str:
        """Why the run's stored map does not answer what is asked, and what would."""
        assert self.run is not None
        if "cosines" not in self.run.results:
            return self._lacks_cosines()
        name = asked["name"]
        if over != "name" and self._estimator != "mean_difference":
            return f"a run resamples mean differences only, and these are its {self._estimator}s"
        if over != "name" and name is not None and name not in self.run.directions.names:
            return (
                f"a run resamples categories at its own place only ({self._place}), not at all "
                f"{over}s"
            )
        return f"a run keeps intervals at its own place only ({self._place}), this is another"

    def lacks_resamples(self) -> str:
        """Why a source of two has no resampled vectors, and what would make them; "" if it has."""
        if self.resampled is not None:
            return ""
        if self.run is None:
            return (
                f"{self.label} carries no resampled vectors: give the folder of a run instead, or "
                "collect with n_resamples=200"
            )
        if "cosines" not in self.run.results:
            return f"{self.label}: {self._lacks_cosines()}"
        file = results.result_path(self.run.folder, "cosines")
        return (
            f"{self.label} has no {names.RESAMPLED_DIRECTIONS}: delete {file} and run the same "
            "study again"
        )

    def resampled_otherwise(self) -> str:
        """How an older run comes to resample as others do; "" if it does already."""
        if self.run is None or self.resampled is None or self.resampled.resampled is None:
            return ""
        own = self.resampled.resampled
        if (own.n_resamples, own.seed) == (N_RESAMPLES, RESAMPLING_SEED):
            return ""
        file = results.result_path(self.run.folder, "cosines")
        return (
            f"{self.label}: delete {file} and run the same study again, which resamples as others"
        )

    @property
    def _estimator(self) -> str:
        return "mean_difference" if self.run is None else self.run.study.estimator

    @property
    def _place(self) -> str:
        return f"layer {self.layer}, position {self.position}"

    def _lacks_cosines(self) -> str:
        assert self.run is not None
        if reason := self.run.skipped.get("cosines"):
            return f"the analysis 'cosines', which resamples, was skipped ({reason})"
        return (
            "the run was made without the analysis 'cosines', which resamples: run the same study "
            "again with --analyses cosines"
        )


_LABEL = "; position not in the file, taken to be -1"


def read_sources(
    sources: Sequence[Comparable], over: Axis, place: Mapping[str, Any], read: Mapping[str, Any]
) -> list[Source]:
    """Directions from wherever they are, and the place that was chosen there.

    A file that says no position is taken to be of the one that is asked for, else of the one that
    the other source chose or alone has.

    Args:
        sources: one or two.
        over: what is compared.
        place: the layer and position that are asked for; None where they are not.
        read: what `load_published` is told of files that do not say it themselves.

    Raises:
        LabelKnown: all of them say themselves what is told of them.
        StudyError: a run that is not finished.
        ArtifactError: a file that is absent, broken or holds no directions.
    """
    found = [read_source(source, place, read) for source in sources]
    for label in read:
        if all(label in each.known for each in found):
            raise found[0].known[label]
    if over == "position":
        return found
    position: Position | None = place["position"]
    if position is None:
        known = [each for each in found if not each.open_position]
        only: list[Position] = [own for each in known for own in each.directions.positions]
        only = only if len(only) == 1 else []
        chosen: list[Position] = [each.position for each in known if each.position is not None]
        likely: list[Position] = [*chosen, *only]
        position = likely[0] if likely else None
    return [each.at_position(position) for each in found]


def read_source(
    source: Comparable,
    place: Mapping[str, Any] = MappingProxyType({}),
    read: Mapping[str, Any] = MappingProxyType({}),
) -> Source:
    """Directions from wherever they are, and the place that was chosen there.

    Args:
        source: where they are.
        place: layer and position of a vector whose file does not say them.
        read: what `load_published` is told of a file that does not say it itself.

    Raises:
        StudyError: a run that is not finished.
        ArtifactError: a file that is absent, broken or holds no directions.
    """
    given = {label: each for label, each in read.items() if each is not None}
    if own := _own(source):
        return replace(own, known=_all_known(own.label, given))
    path = Path(str(source))
    try:
        published, known = _published(path, place, given)
    except ArtifactError as error:
        if path.is_dir():
            raise ArtifactError(f"{path} holds no run (no {names.STUDY}), and {error}") from error
        raise
    if published.directions is None:
        raise ArtifactError(f"{path} holds no directions, so there is nothing to compare.")
    choice = published.choice
    chosen_layer, position = (None, None) if choice is None else (choice.layer, choice.position)
    notes = published.directions.provenance
    of_layer, of_position = (str(notes.get(axis, "")) for axis in ("layer", "position"))
    is_label = of_position.startswith(("not in the file", "none"))
    is_label = is_label and len(published.directions.positions) == 1
    how = [f"layer {of_layer}{_LABEL if is_label else ''}"] if of_layer else []
    if of_position.startswith("as the file"):
        how.append("position as the file says")
    if "their_model" in notes:
        how.append(f"the file says model {notes['their_model']!r}")
    how += [f"{label}= is not used, since the file {each.why}" for label, each in known.items()]
    return Source(
        str(path),
        published.directions,
        chosen_layer,
        position,
        how="; ".join(how),
        open_position=is_label,
        known=known,
    )


def _own(source: Comparable) -> Source | None:
    """Of runs and directions of the workbench, which say all of themselves; None of others."""
    if isinstance(source, Directions):
        return _from_directions("directions", source)
    if isinstance(source, Run):
        return _from_run(source)
    path = Path(source)
    if holds_run(path):
        return _from_run(load_run(path))
    if path.is_file() and path.suffix == ".safetensors" and is_ours(path):
        found = _from_directions(str(path), Directions.load(path))
        layer, position = _chosen_beside(path)
        return replace(found, layer=layer, position=position)
    return None


def _chosen_beside(path: Path) -> tuple[int | None, Position | None]:
    """The layer and position that the run chose in whose folder a file of directions lies."""
    chosen = path.parent / names.DIRECTION
    if not holds_run(path.parent) or not chosen.is_file() or not is_ours(chosen):
        return None, None
    direction = Directions.load(chosen)
    return direction.layers[0], direction.positions[0]


def _all_known(label: str, given: Mapping[str, Any]) -> dict[str, LabelKnown]:
    """Each of the labels that were given with what says all of itself."""
    known: dict[str, LabelKnown] = {}
    for each, value in given.items():
        told: dict[str, Any] = {each: axes_of(value) if each == "axes" else value}
        try:
            Asked(**told).only(label)
        except LabelKnown as error:
            known[each] = error
    return known


def _published(
    path: Path, place: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[Published, dict[str, LabelKnown]]:
    """A file of others, told all but what it says itself, and that.

    Raises:
        ArtifactError: as `load_published`, which lacks a label or cannot use one.
    """
    told, known = dict(given), dict[str, LabelKnown]()
    while True:
        try:
            return load_published(path, **told), known
        except LabelKnown as error:
            known[error.label] = error
            del told[error.label]
        except LabelNeeded as error:
            if place.get(error.label) is None or error.label in told:
                raise
            told[error.label] = place[error.label]


def _from_directions(label: str, directions: Directions) -> Source:
    own = directions if directions.resampled is not None else None
    return Source(label, directions, resampled=own)


def _from_run(run: Run) -> Source:
    files = (names.CATEGORY_DIRECTIONS, names.RESAMPLED_DIRECTIONS)
    directions, resampled = (
        Directions.load(run.path(name)) if run.holds(name) else None for name in files
    )
    return Source(
        str(run.folder),
        directions or run.directions,
        run.choice.layer,
        run.choice.position,
        run,
        resampled,
    )
