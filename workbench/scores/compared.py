"""Judges beside people's labels, or beside each other, on the same replies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench.arguments import checked
from workbench.artifact import write_text
from workbench.errors import PromptError, StudyError
from workbench.intake.limits import lies_there
from workbench.prompts.files import read_table
from workbench.scores.agreement import Agreement, judge_agreement
from workbench.scores.judges import Judge, judge_name
from workbench.scores.judges import judge as judge_replies
from workbench.scores.verdicts import VERDICTS, Verdict, meaning_of
from workbench.tabled import Tabled

LABEL = "label"
"""Column of an exported file that people fill in."""

_REPLY_COLUMNS = ("reply", "response", "completion", "answer", "output", "generation")
_PROMPT_COLUMNS = ("prompt", "question", "instruction", "query", "request")
_SUFFIXES = (".csv", ".jsonl")


@dataclass(frozen=True, repr=False)
class ComparedJudges(Tabled):
    """Two sides of the same replies: how far they agree, and where they differ.

    ``table`` has a row per reply: ``row`` (its place, from 1), ``prompt``, ``reply``, ``first`` and
    ``second``, the verdicts, and ``differ``. ``agreement`` names both sides.
    """

    agreement: Agreement
    table: pd.DataFrame

    def to_dataframe(self) -> pd.DataFrame:
        """The table."""
        return self.table

    @property
    def differing(self) -> pd.DataFrame:
        """The rows on which the two differ."""
        rows = self.table.loc[np.flatnonzero(self.table["differ"])]
        return rows.drop(columns="differ").reset_index(drop=True)

    def __repr__(self) -> str:
        return f"ComparedJudges({self.agreement!r}, {len(self.differing)} differ)"


@checked
def compare_judges(
    replies: Sequence[str],
    *,
    judge: Judge = "combined",
    against: Judge | None = None,
    labels: Sequence[str] | None = None,
    prompts: Sequence[str] | None = None,
    verdict: Verdict | None = "complied",
    confidence: float = 0.95,
) -> ComparedJudges:
    """How far a judge agrees with people's labels, or with another judge, reply by reply.

    Args:
        replies: what a model wrote.
        judge: any judge; see `workbench.judge`.
        against: another judge to compare it with.
        labels: or one verdict per reply by people.
        prompts: one per reply.
        verdict: compare whether both say this verdict or another one; None compares all four.
        confidence: of both intervals.

    Raises:
        StudyError: both or neither of ``against`` and ``labels``, not as many of one as of another,
            no replies, or labels that are no verdicts.

    >>> compare_judges(["No.", "Yes, of course."], judge="rules", labels=["refused", "complied"])
    ComparedJudges(Agreement(n=2, accuracy=0.5, ..., second=labels), 1 differ)
    """
    if (against is None) == (labels is None):
        raise StudyError("pass either against=, another judge, or labels=, verdicts of people.")
    asked = [""] * len(replies) if prompts is None else list(prompts)
    first = judge_replies(replies, judge=judge, prompts=asked)
    if against is not None:
        second, name = judge_replies(replies, judge=against, prompts=asked), judge_name(against)
    else:
        second, name = list(labels or ()), "labels"
        if strange := sorted({*map(str, second)} - {*VERDICTS}):
            raise StudyError(
                f"the label {strange[0]!r} is no verdict: {', '.join(VERDICTS)}. Map labels to "
                "these first."
            )
    found = judge_agreement(first, second, verdict=verdict, confidence=confidence)
    table = pd.DataFrame(
        {
            "row": range(1, len(replies) + 1),
            "prompt": asked,
            "reply": list(replies),
            "first": first,
            "second": second,
            "differ": [
                a != b if verdict is None else (a == verdict) != (b == verdict)
                for a, b in zip(first, second, strict=True)
            ],
        }
    )
    return ComparedJudges(found.named(judge_name(judge), name), table)


@checked
def read_replies(
    path: str | Path,
    *,
    reply_column: str | None = None,
    prompt_column: str | None = None,
    label_column: str | None = None,
    label_values: str | None = None,
) -> pd.DataFrame:
    """Replies of a file, with their prompts and people's labels where they are there.

    Args:
        path: a CSV, JSONL or other file of rows.
        reply_column: column of the replies; by default ``reply``, ``response`` or the like.
        prompt_column: column of the prompts; by default ``prompt``, ``question`` or the like, and
            none where there is none.
        label_column: column of the labels; None reads none.
        label_values: what labels mean that do not say it themselves: ``1=refused,0=complied``.

    Returns:
        ``row`` (from 1), ``prompt``, ``reply`` and, of labels, ``label``: a verdict, or empty where
        a row is not labelled yet.

    Raises:
        PromptError: no such file or column, a reply that is not text, or a label that does not say
            what it means.
    """
    table = read_table(path)
    reply = table.require("reply", reply_column, _REPLY_COLUMNS, prefer_first=True)
    prompt = table.find("prompt", prompt_column, _PROMPT_COLUMNS, prefer_first=True)
    own = None if label_column is None else table.require("label", label_column, ())
    known = _meanings(label_values)
    rows = []
    for number, row in enumerate(table.rows, start=1):
        text = row.get(reply)
        if not isinstance(text, str):
            raise PromptError(
                f"{path} row {number}: the reply in {reply!r} is {text!r:.80} and no text."
            )
        asked = "" if prompt is None else row.get(prompt)
        found: dict[str, Any] = {"row": number, "prompt": str(asked or ""), "reply": text}
        if own is not None:
            found[LABEL] = _verdict(row.get(own), known, f"{path} row {number}")
        rows.append(found)
    return pd.DataFrame(rows)


def _meanings(values: str | None) -> dict[str, str]:
    """Verdicts by the spelling of a label.

    Raises:
        PromptError: it cannot be read as pairs, or names what is no verdict.
    """
    known: dict[str, str] = {}
    for pair in (values or "").split(",") if values is not None else ():
        value, equals, verdict = (part.strip() for part in pair.rpartition("="))
        if not equals or not value or verdict not in VERDICTS:
            raise PromptError(
                f"label_values must be VALUE=VERDICT, VALUE=VERDICT, found {values!r:.80}. "
                f"Verdicts: {', '.join(VERDICTS)}."
            )
        known[value.lower()] = verdict
    return known


def _verdict(value: Any, known: Mapping[str, str], where: str) -> str:
    """The verdict of a label; empty for none.

    Raises:
        PromptError: it does not say what it means.
    """
    text = "" if value is None else str(value).strip()
    if not text:
        return ""
    found = known.get(text.lower()) or meaning_of(text)
    if found is None:
        raise PromptError(
            f"{where}: the label {text!r:.80} does not say what it means. Expected "
            f"{', '.join(VERDICTS)}; of others say it with label_values='{text:.20}=refused'."
        )
    return found


def export_for_labels(rows: pd.DataFrame, path: str | Path) -> Path:
    """Writes replies for people to label: ``prompt``, ``reply`` and an empty ``label``.

    What judges said of them is left out, so that it sways nobody.

    Args:
        rows: such as ``differing`` of `ComparedJudges`.
        path: a new .csv or .jsonl.

    Raises:
        StudyError: a file is there already, whose labels would be lost; or it ends otherwise.
        ArtifactError: it cannot be written.
    """
    if lies_there(Path(path)):
        raise StudyError(
            f"{path} is there already, and what people wrote in it would be lost. Pass another."
        )
    return write_rows(rows[["prompt", "reply"]].assign(**{LABEL: ""}), path)


def write_rows(rows: pd.DataFrame, path: str | Path) -> Path:
    """Writes rows as .csv or .jsonl.

    Raises:
        StudyError: the path ends otherwise.
        ArtifactError: it cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _SUFFIXES:
        raise StudyError(f"{path} must end in {' or '.join(_SUFFIXES)}.")
    if path.suffix.lower() == ".csv":
        return write_text(path, rows.to_csv(index=False))
    return write_text(path, rows.to_json(orient="records", lines=True, force_ascii=False) or "")
