"""What the JSON files of a run hold, and how they are read."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from workbench.errors import StudyError
from workbench.intake.limits import check_rows
from workbench.intake.records import as_record, read_checked, read_record, read_text
from workbench.study.settings import Study

_AGAIN = "Delete it and run again."


@dataclass(frozen=True)
class _Provenance:
    weights: str
    prompts: dict[str, dict[str, str]]
    date: str | None = None


@dataclass(frozen=True)
class _Recorded:
    settings: dict[str, Any]
    provenance: _Provenance


@dataclass(frozen=True)
class _Labels:
    harmful: list[str]
    harmless: list[str]


@dataclass(frozen=True)
class _Parts:
    train: _Labels
    validation: _Labels


@dataclass(frozen=True)
class _Kept:
    kept: _Parts
    refusal_tokens: list[int]
    refusal_token_texts: list[str] = field(default_factory=list)
    typed_specials: dict[str, int] = field(default_factory=dict)
    thoughts: dict[str, dict[str, dict[str, list[int]]]] = field(default_factory=dict)


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


def read_recorded(path: Path) -> tuple[Study, dict[str, Any]]:
    """Settings and provenance of a run.

    Raises:
        StudyError: the file is broken.
    """
    stored = read_checked(path, _Recorded, StudyError)
    settings = json.dumps(stored["settings"])
    return as_record(settings, f"{path}: settings", Study, StudyError), stored["provenance"]


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
        StudyError: the file is broken.
    """
    # Not splitlines(): a reply may hold any Unicode line separator.
    lines = [line for line in read_text(path, StudyError).split("\n") if line]
    check_rows(path, len(lines), StudyError)
    for number, line in enumerate(lines, start=1):
        as_record(line, f"{path}, line {number},", _Reply, StudyError, _AGAIN)
    return pd.DataFrame([json.loads(line) for line in lines])
