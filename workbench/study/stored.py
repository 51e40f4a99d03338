"""What the JSON files of a run hold, and how they are read."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import StudyError
from workbench.intake.records import as_record, read_checked, read_lines, read_record
from workbench.study.settings import Study

_AGAIN = "Delete it and run the same study again."


@dataclass(frozen=True)
class _Provenance:
    weights: str
    prompts: dict[str, dict[str, str]]
    dtype: str | None = None
    date: str | None = None


@dataclass(frozen=True)
class _Recorded:
    settings: dict[str, Any]
    provenance: _Provenance


@dataclass(frozen=True)
class _Entry:
    sha256: str
    inputs: str
    made_from: dict[str, str | None]
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Ledger:
    study: _Recorded
    files: dict[str, _Entry]


@dataclass(frozen=True)
class Holder:
    """A process that writes into a run's folder."""

    pid: int
    host: str
    since: str
    command: str


@dataclass(frozen=True)
class _Labels:
    harmful: list[str]
    harmless: list[str]


@dataclass(frozen=True)
class _Parts:
    train: _Labels
    validation: _Labels
    test: _Labels | None = None


@dataclass(frozen=True)
class _Found:
    on_refusals: list[float]
    elsewhere: list[float]
    coverage: float
    auc: float | None
    accuracy: float | None
    n_refused: int
    n_other: int


@dataclass(frozen=True)
class _Kept:
    kept: _Parts
    refusal_tokens: list[int]
    refusal_token_texts: list[str] = field(default_factory=list)
    typed_specials: dict[str, int] = field(default_factory=dict)
    shared_t_inst: dict[str, int] = field(default_factory=dict)
    thoughts: dict[str, dict[str, dict[str, list[int]]]] = field(default_factory=dict)
    scores: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    refusal_tokens_found: _Found | None = None


@dataclass(frozen=True)
class Note:
    """Why an analysis was not made, and whether to try it again."""

    reason: str
    version: str | None = None
    again: bool = True


@dataclass(frozen=True)
class _Reply:
    prompt_set: str
    condition: str
    id: str
    category: str
    prompt: str
    reply: str
    verdict: str


@dataclass(frozen=True)
class _Text:
    part: str
    label: str
    id: str
    text: str
    category: str


def read_recorded(path: Path) -> dict[str, Any]:
    """Settings and provenance of a run.

    Raises:
        StudyError: the file is broken, or holds no settings of a study.
    """
    stored = read_checked(path, _Recorded, StudyError)
    _check_settings(path, stored)
    return {name: stored[name] for name in ("settings", "provenance")}


def check_ledger(path: Path, stored: dict[str, Any]) -> None:
    """Refuses what was read from a ledger, where it is of other types.

    Raises:
        WorkbenchError: it is.
    """
    as_record(json.dumps(stored), path, _Ledger)
    _check_settings(path, stored["study"])


def _check_settings(path: Path, stored: dict[str, Any]) -> None:
    as_record(json.dumps(stored["settings"]), f"{path}: settings", Study, StudyError)


def read_holder(path: Path) -> Holder:
    """Who writes into a run's folder.

    Raises:
        StudyError: the file is absent or broken.
    """
    return read_record(path, Holder, StudyError)


def read_prompt_texts(path: Path, advice: str) -> list[dict[str, Any]]:
    """The prompts of a run, one line each.

    Raises:
        StudyError: the file is broken.
    """
    return read_lines(path, _Text, StudyError, advice)


def read_kept(path: Path) -> dict[str, Any]:
    """Refusal tokens, and ids of the prompts that passed the filter, as `keep_prompts` gave them.

    Raises:
        StudyError: the file is broken.
    """
    return read_checked(path, _Kept, StudyError, _AGAIN)


def read_note(path: Path) -> Note:
    """Why an analysis was not made.

    Raises:
        StudyError: the file is broken.
    """
    return read_record(path, Note, StudyError, _AGAIN)


def read_replies(path: Path) -> pd.DataFrame:
    """Replies, one line each.

    Raises:
        StudyError: the file is broken, or holds none.
    """
    rows = read_lines(path, _Reply, StudyError, _AGAIN)
    if not rows:
        raise StudyError(f"{path} is broken: it holds no replies. {_AGAIN}")
    return pd.DataFrame(rows)
