"""What ``workbench judge`` compares, shows and writes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from workbench import screen
from workbench.errors import StudyError
from workbench.scores.compared import (
    LABEL,
    ComparedJudges,
    compare_judges,
    export_for_labels,
    read_replies,
    write_rows,
)
from workbench.scores.verdicts import VERDICTS
from workbench.written import with_interval

_SHOWN = 160
"""Characters of a reply that are shown."""


def compare(
    file: Path,
    judge: str,
    *,
    labels: str | None,
    against: str | None,
    columns: tuple[str | None, str | None],
    label_values: str | None,
    verdict: str,
    confidence: float,
    outputs: tuple[Path | None, Path | None],
    say: Callable[[str], None],
) -> list[ComparedJudges]:
    """The judge beside the labels, the other judge beside them, and both judges, as asked for.

    Raises:
        StudyError: nothing to compare with, a verdict that is none, no row that is labelled, or
            files that cannot be written.
        PromptError: a file that cannot be read.
    """
    out, export = outputs
    if labels is None and against is None:
        raise StudyError("nothing to compare with: pass labels=COLUMN, against=JUDGE, or both.")
    if export is not None and against is None:
        raise StudyError("export= writes replies on which two judges differ: pass against= too.")
    if verdict not in (*VERDICTS, "all"):
        raise StudyError(
            f"verdict must be one of {', '.join((*VERDICTS, 'all'))}, found {verdict!r}."
        )
    if out is not None and out.resolve() == file.resolve():
        raise StudyError(f"out={out} is the file that is read. Pass another.")
    rows = read_replies(
        file,
        reply_column=columns[0],
        prompt_column=columns[1],
        label_column=labels,
        label_values=label_values,
    )
    same: dict[str, Any] = {
        "verdict": None if verdict == "all" else verdict,
        "confidence": confidence,
    }
    found = []
    if labels is not None:
        told = rows.loc[np.flatnonzero(rows[LABEL] != "")]
        if len(told) < len(rows):
            say(f"{len(rows) - len(told)} of {len(rows)} rows have no label and are left out")
        if not len(told):
            raise StudyError(f"no row of {file} has a label in {labels!r}. Fill it in first.")
        for each in (judge, against):
            if each is not None:
                found.append(_compared(told, each, same, labels=told[LABEL].tolist()))
    if against is not None:
        found.append(_compared(rows, judge, same, against=against))
    return found


def _compared(rows: pd.DataFrame, judge: str, same: dict[str, Any], **side: Any) -> ComparedJudges:
    """A comparison whose rows are numbered as in the file."""
    found = compare_judges(
        rows["reply"].tolist(), judge=judge, prompts=rows["prompt"].tolist(), **side, **same
    )
    return ComparedJudges(found.agreement, found.table.assign(row=rows["row"].to_numpy()))


def show_compared(found: ComparedJudges, most: int, verdict: str, confidence: float) -> None:
    """Agreement, the verdicts of one side by those of the other, and some that differ."""
    at = found.agreement
    counts = pd.crosstab(found.table["first"], found.table["second"])
    named = [each for each in VERDICTS if each in counts.columns]
    table = Table(title=f"{at.first} and {at.second}: {at.n} replies")
    table.add_column(f"{at.first} ↓", no_wrap=True)
    for each in named:
        table.add_column(each, justify="right")
    for each in VERDICTS:
        if each in counts.index:
            table.add_row(each, *(str(counts.loc[each, other]) for other in named))
    screen.show(table)
    screen.tell(
        f"agree {'on the verdict' if verdict == 'all' else f'whether {verdict} or not'}: "
        f"{with_interval(at.accuracy, at.accuracy_interval, '.3f')} (Wilson), kappa "
        f"{with_interval(at.kappa, at.kappa_interval, '.2f')} (bootstrap); {confidence:.0%} "
        "intervals"
    )
    differing = found.differing
    if most and len(differing):
        shown = Table(title=f"{min(most, len(differing))} of {len(differing)} that differ")
        for name in ("row", "reply"):
            shown.add_column(name, overflow="fold")
        for name in (at.first, at.second):
            shown.add_column(name)
        for row in differing.head(most).to_dict("records"):
            text = screen.one_line(str(row["reply"]))
            text = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
            shown.add_row(str(row["row"]), text, str(row["first"]), str(row["second"]))
        screen.show(shown)


def write_compared(found: Sequence[ComparedJudges], out: Path | None, export: Path | None) -> None:
    """The rows that differ, and those that people are to label."""
    if out is not None:
        tables = [
            each.differing.assign(first_is=each.agreement.first, second_is=each.agreement.second)
            for each in found
        ]
        screen.tell_path("differing", write_rows(pd.concat(tables, ignore_index=True), out))
    if export is not None:
        screen.tell_path("to label", export_for_labels(found[-1].differing, export))
