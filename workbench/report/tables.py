"""What stands in the tables of a report: prompts with their replies, candidates, prompts used."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from workbench.errors import StudyError
from workbench.names import without_folders
from workbench.study.names import PROMPTS
from workbench.study.results import Run
from workbench.study.stored import read_kept
from workbench.study.texts import read_texts
from workbench.written import number, with_interval


@dataclass(frozen=True)
class Table:
    """A table that the page fills and filters.

    Attributes:
        name: of its anchor.
        title: its heading.
        about: what a row is, in a sentence.
        columns: their headings; ``text`` columns hold untrusted words, the others short values.
        kinds: ``text``, ``reply`` (a verdict and a text), ``value`` or ``number``, by column.
        filters: columns with few different values, by which the rows can be chosen.
        rows: one list of cells per row; a reply is ``[verdict, text]``.
    """

    name: str
    title: str
    about: str
    columns: list[str]
    kinds: list[str]
    filters: list[int]
    rows: list[list[Any]]

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {"kinds": self.kinds, "filters": self.filters, "rows": self.rows}


def replies_table(run: Run) -> Table:
    """Every test prompt with its reply under each condition, side by side."""
    replies = run.replies
    conditions = list(dict.fromkeys(replies["condition"])) if len(replies) else []
    rows: dict[tuple[str, str], list[Any]] = {}
    for reply in replies.to_dict("records"):
        key = reply["prompt_set"], reply["id"]
        unanswered = [["", ""] for _ in conditions]
        own = [reply["prompt_set"], reply["prompt"], *unanswered, reply["category"], reply["id"]]
        row = rows.setdefault(key, own)
        row[2 + conditions.index(reply["condition"])] = [reply["verdict"], reply["reply"]]
    n_conditions = len(conditions)
    return Table(
        name="replies",
        title="Test prompts and replies",
        about=f"One row per prompt: its reply under every condition, with the verdict of the judge "
        f"({run.effects.attrs.get('judge', run.study.judge)}). Replies end after "
        f"{run.study.max_new_tokens} tokens.",
        columns=["set", "prompt", *conditions, "category", "id"],
        kinds=["value", "text", *(["reply"] * n_conditions), "value", "value"],
        filters=[0, *range(2, 3 + n_conditions)],
        rows=list(rows.values()),
    )


def candidates_table(run: Run) -> Table:
    """Every candidate direction, best first, and why it was not chosen."""
    rows = []
    again = {} if run.held_out is None else _measured_again(run.held_out)
    for rank, row in enumerate(run.choice.table.to_dict("records")):
        scores = [*(_with_interval(row, name) for name in ("bypass", "induce")), _kl(row)]
        verdict = "chosen" if rank == 0 else row["dropped"] or "runner-up"
        place = row["layer"], row["position"]
        tested = again.get(place, ["", "", ""]) if again else []
        rows.append([*map(number, place), *tested, *scores, str(verdict)])
    confidence = f"{run.study.confidence:.0%}"
    tests = ["bypass ↓ (test)", "induce ↑ (test)", "KL ↓ (test)"] if again else []
    return Table(
        name="candidates",
        title="Candidate directions",
        about="One row per layer and position, best first, with "
        f"{confidence} intervals over prompts; all scores in nats. The validation prompts chose, "
        f"which flatters the winner: {_claim(run)} Of the KL the mean, in brackets the median and "
        "the largest of any prompt: a few prompts make its mean, so that has no interval.",
        columns=["layer", "position", *tests, "bypass ↓", "induce ↑", "KL ↓", "outcome"],
        kinds=[*(["number"] * (5 + len(tests))), "value"],
        filters=[0, 1],
        rows=rows,
    )


def _measured_again(scores: xr.Dataset) -> dict[tuple[int, int], list[str]]:
    """The scores on test prompts of each candidate that has them, by layer and position."""
    found = {}
    for rank in range(scores.sizes["candidate"]):
        cell = scores.isel(candidate=rank)
        row: dict[str, Any] = {}
        for name in ("bypass", "induce", "kl"):
            row[name] = float(cell[name])
            row[f"{name}_low"], row[f"{name}_high"] = cell[f"{name}_interval"].values.tolist()
        row |= {name: float(cell[name]) for name in ("kl_median", "kl_max")}
        place = int(cell["layer"]), int(cell["position"])
        found[place] = [*(_with_interval(row, name) for name in ("bypass", "induce")), _kl(row)]
    return found


def _claim(run: Run) -> str:
    """Which of the scores are to be quoted."""
    if run.held_out is None:
        return "this run measured nothing again on test prompts, of which too few were kept."
    others = " and the others that passed" if run.held_out.sizes["candidate"] > 1 else ""
    return (
        f"quote the test prompts, on which it{others} were measured again."
        if others
        else ("quote the test prompts, on which it was measured again.")
    )


def prompts_table(run: Run) -> Table:
    """The prompts that the direction was estimated on and chosen by, and those that were dropped.

    Where the run does not keep the texts, ids stand alone.
    """
    kept = _kept(run)
    texts, missing = _texts(run)
    rows: list[list[Any]] = []
    if texts:
        for part, by_label in kept.items():
            for label, ids in by_label.items():
                passed = set(ids)
                for name, (text, category) in texts[part, label].items():
                    dropped = "counts in rates only" if part == "test" else "dropped"
                    outcome = "used" if name in passed else f"{dropped}: {_MISTREATED[label]}"
                    rows.append([part, label, text, outcome, category, name])
    else:
        rows = [
            [part, label, "", "used", "", name]
            for part, by_label in kept.items()
            for label, ids in by_label.items()
            for name in ids
        ]
    return Table(
        name="prompts",
        title="Prompts of the estimate, the selection and the tests",
        about="Directions are estimated on the train prompts, chosen on the validation prompts and "
        "measured on the test prompts. A prompt that the model does not treat as its label says is "
        "dropped, but for refusal rates, which are about all test prompts." + missing,
        columns=["part", "label", "prompt", "outcome", "category", "id"],
        kinds=["value", "value", "text", "value", "value", "value"],
        filters=[0, 1, 3, 4],
        rows=rows,
    )


_MISTREATED = {"harmful": "the model does not refuse it", "harmless": "the model refuses it"}

Texts = dict[tuple[str, str], dict[str, tuple[str, str]]]
"""Text and category by id, of each (part, label)."""


def _texts(run: Run) -> tuple[Texts, str]:
    """The prompts as the run keeps them, or why they cannot be shown."""
    try:
        split = read_texts(run)
    except StudyError as error:
        return {}, f" Texts are not shown: {without_folders(str(error))}"
    return {
        (part, label): {own.id: (own.text, own.category) for own in split[label][part]}
        for label in ("harmful", "harmless")
        for part in ("train", "validation", "test")
    }, ""


def _kept(run: Run) -> dict[str, dict[str, list[str]]]:
    """Ids of the prompts that passed the filter.

    Raises:
        StudyError: the file is not the run's any more.
    """
    kept = read_kept(run.path(PROMPTS))["kept"]
    return {part: ids for part, ids in kept.items() if ids is not None}


def _with_interval(row: dict[str, Any], name: str) -> str:
    ends = [row.get(f"{name}_{end}", np.nan) for end in ("low", "high")]
    return with_interval(row[name], ends, lacking="")


def _kl(row: dict[str, Any]) -> str:
    """The mean KL with what else is known of the prompts' own."""
    middle, largest = (row.get(f"kl_{name}", np.nan) for name in ("median", "max"))
    if not np.isfinite([row["kl"], middle, largest]).all():
        return _with_interval(row, "kl")
    return f"{number(row['kl'])} (median {number(middle)}, max {number(largest)})"
