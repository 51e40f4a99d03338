"""Run: what a study found, and where it lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from workbench.analysis.selection import Choice, select_direction
from workbench.arguments import checked
from workbench.artifact import load_dataset
from workbench.directions.direction import Directions
from workbench.errors import StudyError
from workbench.intake.limits import allowing, lies_there
from workbench.intake.parsing import parsing
from workbench.study.analyses import ANALYSES, Analysis
from workbench.study.settings import Study
from workbench.study.stored import read_note, read_recorded, read_replies

# One name per result; a run goes on from the first that is missing.
STUDY = "study.json"
PROMPTS = "prompts.json"
DIRECTIONS = "directions.safetensors"
SCORES = "scores.safetensors"
DIRECTION = "direction.safetensors"
CANDIDATES = "candidates.csv"
REPLIES = "replies.jsonl"
EFFECTS = "effects.safetensors"
FIGURES = "figures"
CATEGORY_DIRECTIONS = "category_directions.safetensors"
RESAMPLED_DIRECTIONS = "category_directions_resampled.safetensors"
ANALYSES_FOLDER = "analyses"
VERIFICATION = "verification.safetensors"


@dataclass(frozen=True, eq=False)
class Run:
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
        planted_cosine: cosine with the planted direction; None where nothing was planted.
        results: what the analyses found, by the name of each result.
        skipped: why an analysis was not made, by its name.
        verification: what `verify_model` found of the model; None in a run that was made before
            runs kept it.
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
    verification: xr.Dataset | None = None

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
def load_run(folder: str | Path, max_bytes: int | None = None) -> Run:
    """Reads a finished run.

    Args:
        folder: of the run.
        max_bytes: of a file in it; by default 8 GiB of a result, 512 MiB of a text.

    Raises:
        StudyError: the folder holds no run, or one that is not finished or broken.
        ArtifactError: a result in it is broken or too large.
    """
    folder = Path(folder)
    if not lies_there(folder):
        raise StudyError(f"{folder} holds no run: there is no such folder.")
    with allowing(max_bytes=max_bytes), parsing(folder, "a run", StudyError):
        return _read_run(folder)


def _read_run(folder: Path) -> Run:
    missing = [name for name in (STUDY, SCORES, EFFECTS) if not (folder / name).is_file()]
    if STUDY in missing:
        raise StudyError(f"{folder} holds no run: there is no {STUDY}.")
    if missing:
        raise StudyError(
            f"the run in {folder} is not finished: no {', '.join(missing)}. Run the same study "
            "again; it goes on where it stopped."
        )
    study, _ = read_study(folder)
    scores = load_dataset(folder / SCORES, kind="sweep")
    effects = load_dataset(folder / EFFECTS, kind="effects")
    verification = folder / VERIFICATION
    return Run(
        folder=folder,
        study=study,
        directions=Directions.load(folder / DIRECTIONS),
        scores=scores,
        choice=choose(study, scores),
        direction=Directions.load(folder / DIRECTION),
        effects=effects,
        replies=read_replies(folder / REPLIES),
        planted_cosine=effects.attrs.get("planted_cosine"),
        results={
            name: load_dataset(result_path(folder, name), kind=name)
            for each in ANALYSES
            for name in each.results
            if result_path(folder, name).is_file()
        },
        skipped={
            each.name: reason
            for each in ANALYSES
            if (reason := read_skipped(folder, each)) is not None
        },
        verification=load_dataset(verification, kind="verification")
        if verification.is_file()
        else None,
    )


def result_path(folder: Path, result: str) -> Path:
    """Where a result of an analysis lies."""
    return folder / ANALYSES_FOLDER / f"{result}.safetensors"


def skipped_path(folder: Path, analysis: Analysis) -> Path:
    """Where it stands that an analysis was skipped."""
    return folder / ANALYSES_FOLDER / f"{analysis.name}.skipped.json"


def read_skipped(folder: Path, analysis: Analysis) -> str | None:
    """Why an analysis was not made; None where it was, or was not tried.

    Raises:
        StudyError: the file is broken.
    """
    path = skipped_path(folder, analysis)
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


def read_study(folder: Path) -> tuple[Study, dict[str, Any]]:
    """Settings and provenance of the run in a folder.

    Raises:
        StudyError: the file is broken.
    """
    return read_recorded(folder / STUDY)
