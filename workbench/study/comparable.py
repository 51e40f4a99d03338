"""What can be compared: the directions of runs, files and published folders, and their noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from workbench.directions.cosines import Axis
from workbench.directions.direction import Directions
from workbench.directions.published import load_published
from workbench.directions.published.files import is_ours
from workbench.errors import ArtifactError
from workbench.study import names, results
from workbench.study.ledger import holds_run
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
    """

    label: str
    directions: Directions
    layer: int | None = None
    position: int | None = None
    run: Run | None = None
    resampled: Directions | None = None

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
            if label not in cosines[axis].values:
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


def read_source(source: Comparable) -> Source:
    """Directions from wherever they are, and the place that was chosen there.

    Raises:
        StudyError: a run that is not finished.
        ArtifactError: a file that is absent, broken or holds no directions.
    """
    if isinstance(source, Directions):
        return _from_directions("directions", source)
    if isinstance(source, Run):
        return _from_run(source)
    path = Path(source)
    if holds_run(path):
        return _from_run(load_run(path))
    if path.is_file() and path.suffix == ".safetensors" and is_ours(path):
        return _from_directions(str(path), Directions.load(path))
    try:
        published = load_published(path)
    except ArtifactError as error:
        if path.is_dir():
            raise ArtifactError(f"{path} holds no run (no {names.STUDY}), and {error}") from error
        raise
    if published.directions is None:
        raise ArtifactError(f"{path} holds no directions, so there is nothing to compare.")
    choice = published.choice
    layer, position = (None, None) if choice is None else (choice.layer, choice.position)
    return Source(str(path), published.directions, layer, position)


def _from_directions(label: str, directions: Directions) -> Source:
    own = directions if directions.resampled is not None else None
    return Source(label, directions, resampled=own)


def _from_run(run: Run) -> Source:
    paths = (run.folder / name for name in (names.CATEGORY_DIRECTIONS, names.RESAMPLED_DIRECTIONS))
    directions, resampled = (Directions.load(path) if path.is_file() else None for path in paths)
    return Source(
        str(run.folder),
        directions or run.directions,
        run.choice.layer,
        run.choice.position,
        run,
        resampled,
    )
