"""Run: what a study found, and where it lies."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from workbench.analysis.selection.selection import Choice, select_direction
from workbench.arguments import checked
from workbench.artifact import load_dataset
from workbench.directions.direction import Directions
from workbench.errors import ArtifactError, StudyError
from workbench.intake.limits import allowing, lies_there
from workbench.intake.parsing import parsing
from workbench.study import names
from workbench.study.command import command
from workbench.study.control_lines import check, is_current
from workbench.study.ledger import Ledger, holds_run, result_files, study_record
from workbench.study.registry import ANALYSES, Analysis
from workbench.study.settings import Study
from workbench.study.stored import read_note, read_replies
from workbench.tabled import Tabled


class AnalysisResults(dict[str, xr.Dataset]):
    """What the analyses of a run found, by the name of each result."""

    def __init__(self, found: Mapping[str, xr.Dataset], skipped: Mapping[str, str] | None = None):
        super().__init__(found)
        self.skipped = dict(skipped or {})

    def __missing__(self, name: str) -> xr.Dataset:
        there = f"It has {', '.join(self) or 'none'}."
        maker = next((each for each in ANALYSES if name in each.results), None)
        if maker is None:
            known = ", ".join(own for each in ANALYSES for own in each.results)
            raise StudyError(f"no analysis gives {name!r}. {there} There can be {known}.")
        if reason := self.skipped.get(maker.name):
            raise StudyError(
                f"this run has no {name!r}: the analysis {maker.name!r} was skipped, or left it "
                f"out ({reason}). {there}"
            )
        raise StudyError(
            f"this run has no {name!r}. {there} It comes from the analysis {maker.name!r}: run the "
            f"same study again with analyses={maker.name!r}, and the run gains it."
        )


@dataclass(frozen=True, eq=False, repr=False)
class Run(Tabled):
    """The results of a finished study.

    Attributes:
        folder: where everything lies.
        study: the settings.
        directions: every candidate.
        scores: the sweep.
        choice: the selected candidate and the ranked table.
        direction: the selected direction, raw.
        effects: refusal rates by prompt set and condition.
        replies: every reply with its verdict.
        controls: what random directions do beside the chosen one, as `measure_controls` gives it;
            None in what an earlier version made, or what is put together by hand.
        planted_cosine: cosine with the planted direction; None where nothing was planted.
        results: what the analyses found, by the name of each result; a name that is not there is a
            `StudyError` that says which are, and what makes it.
        skipped: why an analysis was not made, by its name.
        held_out: the chosen candidate and its runners-up on test prompts, which did not choose; see
            `measure_held_out`. None where the model treats too few of those as their label says,
            or an earlier version made the run.
        verification: what `verify_model` found of the model; None only in what is put together by
            hand.
        ledger: what the folder held when the run was read; None in the same case.
    """

    folder: Path
    study: Study
    directions: Directions
    scores: xr.Dataset
    choice: Choice
    direction: Directions
    effects: xr.Dataset
    replies: pd.DataFrame
    planted_cosine: float | None
    results: Mapping[str, xr.Dataset] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    held_out: xr.Dataset | None = None
    verification: xr.Dataset | None = None
    controls: xr.Dataset | None = None
    ledger: Ledger | None = None

    def to_dataframe(self) -> pd.DataFrame:
        """Refusal rates by prompt set and condition, with the bounds of their intervals."""
        cells = ["prompt_set", "condition"]
        rates = self.effects[["refusal_rate", "n"]].to_dataframe(dim_order=cells).reset_index()
        ends = self.effects["refusal_rate_interval"].transpose(*cells, "bound")
        low, high = (ends.sel(bound=bound).values.ravel() for bound in ("low", "high"))
        return rates.assign(refusal_rate_low=low, refusal_rate_high=high)

    def __repr__(self) -> str:
        return (
            f"Run({self.folder}; model {self.study.model}; direction of layer "
            f"{self.choice.layer}, position {self.choice.position}; results "
            f"{', '.join(self.results) or 'none'})"
        )

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What its results hang on beside the settings, and the versions it was made with.

        Raises:
            StudyError: the run was put together by hand.
        """
        return self._known.record["provenance"]

    def holds(self, name: str) -> bool:
        """Whether a file, by its path in the folder, was one of the run when it was read."""
        return self.ledger is not None and name in self.ledger.entries

    @property
    def results_held(self) -> list[str]:
        """Every file that the run was read with, but for heads that were asked for."""
        own = self._known.entries
        return [name for name in own if not name.startswith(names.HEADS_FOLDER)]

    @property
    def versions(self) -> dict[str, list[str]]:
        """The versions of everything that made some of its results, where they are several."""
        made = [self._known.entries[name].get("environment", {}) for name in self.results_held]
        every = {
            own: sorted({each[own] for each in made if own in each})
            for own in dict.fromkeys(own for each in made for own in each)
        }
        return {own: found for own, found in every.items() if len(found) > 1}

    def path(self, name: str) -> Path:
        """Where a file of the run lies, which is still the one that the run was read with.

        Raises:
            StudyError: it was changed or deleted since.
        """
        fault = replace(self._known, folder=self.folder).fault(name)
        if fault is not None:
            raise StudyError(
                f"{self.folder / name} {fault}. The run was read before that: read it again."
            )
        return self.folder / name

    def digest(self, name: str) -> str | None:
        """SHA-256 of a file of the run, which is still the one that the run was read with.

        Raises:
            StudyError: it was changed or deleted since.
        """
        self.path(name)
        return self._known.digest(name)

    @property
    def _known(self) -> Ledger:
        if self.ledger is None:
            raise StudyError(
                f"nothing says what {self.folder} holds: this run was put together by hand. Read "
                "it with load_run."
            )
        return self.ledger

    @property
    def found(self) -> dict[str, str]:
        """What each analysis found in one line, by its name.

        Raises:
            StudyError: a result lacks what its line is made from.
        """
        lines: dict[str, str] = {}
        for each in ANALYSES:
            with parsing(self.folder, f"a run with a whole result of {each.name}", StudyError):
                line = each.describe(self.results, self.choice.layer, self.choice.position)
            if line:
                lines[each.name] = line
        return lines


@checked
def load_run(folder: str | Path, *, max_bytes: int | None = None) -> Run:
    """Reads a finished run, after checking that all of it belongs together.

    Args:
        folder: of the run.
        max_bytes: of a file in it; by default 8 GiB of a result, 512 MiB of a text.

    Raises:
        StudyError: the folder holds no run, or one that is not finished or broken, or a result that
            was not made with the settings, prompts, template, weights and results that the run has.
        ArtifactError: a file in it is damaged, missing or too large.
    """
    folder = Path(folder)
    if not lies_there(folder):
        raise StudyError(f"{folder} holds no run: there is no such folder.")
    with allowing(max_bytes=max_bytes):
        return read_run(folder, heads=True)


def read_run(folder: Path, heads: bool) -> Run:
    """Reads a finished run; ``heads`` says whether what `find_heads` wrote has to be whole, too.

    Raises:
        WorkbenchError: as `load_run`.
    """
    if not holds_run(folder):
        raise StudyError(f"{folder} holds no run: there is no {names.STUDY}.")
    if missing := [name for name in (names.SCORES, names.EFFECTS) if not (folder / name).is_file()]:
        raise StudyError(
            f"the run in {folder} is not finished: no {', '.join(missing)}. Run the same study "
            "again; it goes on where it stopped."
        )
    with parsing(folder, "a run", StudyError):
        ledger = check_files(folder, heads)
        study = Study(**ledger.record["settings"])
        scores = load_dataset(folder / names.SCORES, kind="sweep")
        effects = load_dataset(folder / names.EFFECTS, kind="effects")
        directions = Directions.load(folder / names.DIRECTIONS)
        direction = Directions.load(folder / names.DIRECTION)
        replies = read_replies(folder / names.REPLIES)
        verification = load_dataset(folder / names.VERIFICATION, kind="verification")
        path = folder / names.CONTROLS
        controls = load_dataset(path, kind="controls") if path.is_file() else None
        controls = check(controls) if controls is not None and is_current(controls) else None
        again = folder / names.HELD_OUT
        held_out = load_dataset(again, kind="held_out") if again.is_file() else None
        results = {
            name: _in_todays_words(name, load_dataset(result_path(folder, name), kind=name))
            for each in ANALYSES
            for name in each.results
            if result_path(folder, name).is_file()
        }
        notes = {each.name: read_skipped(folder, each) for each in ANALYSES}
    skipped = {name: reason for name, reason in notes.items() if reason is not None}
    return Run(
        folder=folder,
        study=study,
        directions=directions,
        scores=scores,
        choice=choose(study, scores),
        direction=direction,
        effects=effects,
        replies=replies,
        planted_cosine=effects.attrs.get("planted_cosine"),
        results=AnalysisResults(results, skipped),
        skipped=skipped,
        held_out=held_out,
        verification=verification,
        controls=controls,
        ledger=ledger,
    )


def _in_todays_words(name: str, found: xr.Dataset) -> xr.Dataset:
    """A result with the axes and attributes of today; earlier runs named two otherwise."""
    if name in ("transfer", "transfer_rates") and "direction" in found.dims:
        return found.rename(direction="name")
    if name in ("head_patching", "head_screen", "head_set") and "direction" in found.attrs:
        attrs = {("aim" if key == "direction" else key): own for key, own in found.attrs.items()}
        return found.drop_attrs(deep=False).assign_attrs(attrs)
    return found


def check_files(folder: Path, heads: bool) -> Ledger:
    """Refuses a run of which a file is damaged or missing, or was made from something else.

    Returns:
        The ledger, with the study that all of it was made with.

    Raises:
        WorkbenchError: as `load_run`.
    """
    study = Study(**study_record(folder)["settings"])
    made = f"{command(study, whole_paths=True)} --out {shlex.quote(str(folder))}"
    again = f"Make it again with `{made}`."
    try:
        ledger = Ledger.read(folder)
    except StudyError:
        raise StudyError(
            f"{folder} has no {names.LEDGER}, without which nothing says that its results belong "
            f"together: it was deleted, or an earlier version made the run. {again}"
        ) from None
    except ArtifactError as error:
        raise ArtifactError(f"{error} {again}") from error
    if not ledger.study_stands:
        raise ArtifactError(
            f"{folder / names.STUDY} is damaged: it is not what the ledger has. {again}"
        )
    for name in dict.fromkeys([*result_files(folder), *ledger.entries]):
        own = name.startswith(names.HEADS_FOLDER)
        fault = ledger.fault(name)
        if fault is None or (own and (not heads or not (folder / name).exists())):
            continue
        if own and name not in ledger.entries:
            continue  # written there by somebody else
        advice = "Find the heads again, with `workbench patch-heads`." if own else again
        kind = ArtifactError if "damaged" in fault or "missing" in fault else StudyError
        raise kind(f"{folder / name} {fault}. {advice}")
    return ledger


def result_path(folder: Path, result: str) -> Path:
    """Where a result of an analysis lies."""
    return folder / names.result_name(result)


def read_skipped(folder: Path, analysis: Analysis) -> str | None:
    """Why an analysis was not made; None where it was, or was not tried.

    Raises:
        StudyError: the file is broken.
    """
    path = folder / analysis.note
    return read_note(path).reason if path.is_file() else None


def choose(study: Study, scores: xr.Dataset) -> Choice:
    """The selection with the study's thresholds."""
    return select_direction(
        scores,
        kl_cap=study.kl_cap,
        induce_floor=study.induce_floor,
        skip_last=study.skip_last,
        top_k=study.top_k,
    )
