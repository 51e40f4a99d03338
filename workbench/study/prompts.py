"""Which prompts a study trains, validates and tests on."""

import itertools
import reprlib
from collections.abc import Mapping
from dataclasses import replace

from workbench.errors import PromptError, StudyError
from workbench.intake.limits import allowing
from workbench.prompts.presets import BY_PATH
from workbench.prompts.prompt import spoken
from workbench.prompts.promptset import PromptSet
from workbench.prompts.reading import NOTES, Reading, has_labels
from workbench.prompts.sources import Opened, open_source
from workbench.prompts.table import Table
from workbench.prompts.taxonomy import OWN_CATEGORIES, OWN_LABELS
from workbench.study.settings import Study

Split = dict[str, dict[str, PromptSet]]
"""Prompts by label and part: ``split["harmful"]["train"]``."""

_ADVICE = {
    BY_PATH: "",
    OWN_LABELS: "give it by itself, without NAME=, and its label_column= and category_column=",
    OWN_CATEGORIES: "give its file by itself, without NAME=, and its category_column=",
}
_COLUMNS = ("text", "category", "label", "id", "context")


def split_prompts(study: Study) -> Split:
    """Every label's prompts, split; borderline prompts are only ever tested.

    Raises:
        PromptError: a source cannot be read, or has too few prompts.
        StudyError: none would be left to test, a text stands under two labels, or a column or split
            was named that no source has.
    """
    loaded = _loaded(study)
    split: Split = {}
    for label in ("harmful", "harmless"):
        prompts = loaded[label]
        if len(prompts) < study.n_train + study.n_validation:
            raise PromptError(
                f"{len(prompts)} {label} prompts are too few for {study.n_train} to train and "
                f"{study.n_validation} to validate on. Lower n_train or n_validation, or give more."
            )
        train, validation, test = prompts.split(
            train=study.n_train, validation=study.n_validation, seed=study.seed
        )
        if not len(test):
            raise StudyError(
                f"{len(prompts)} {label} prompts leave none to test after {study.n_train} to train "
                f"and {study.n_validation} to validate. Lower n_train or n_validation."
            )
        split[label] = {"train": train, "validation": validation, "test": test}
    if study.borderline:
        split["borderline"] = {"test": loaded["borderline"]}
    for parts in split.values():
        if len(parts["test"]) > study.n_test:
            parts["test"] = parts["test"].sample(study.n_test, seed=study.seed)
    return split


def reading_notes(split: Split) -> dict[str, list[str]]:
    """What reading each label's source did beside reading it: what was joined, what left out."""
    found = {label: parts["test"].provenance for label, parts in split.items()}
    notes = {
        label: [*own.get(NOTES, ()), *filter(None, [own.get("left_out")])]
        for label, own in found.items()
    }
    return {label: own for label, own in notes.items() if own}


def _loaded(study: Study) -> dict[str, PromptSet]:
    """The prompts of every label, each text once and under one label, each id once."""
    labels = ("harmful", "harmless", *(["borderline"] if study.borderline else []))
    try:
        with allowing(max_bytes=study.max_bytes, max_rows=study.max_rows):
            opened = {
                label: open_source(getattr(study, label), split=study.split, optional=True)
                for label in labels
            }
        _check_named(study, opened)
        loaded = {label: _of_label(study, own, label) for label, own in opened.items()}
    except PromptError as error:
        raise PromptError(_in_a_study(str(error))) from error
    for first, second in itertools.combinations(labels, 2):
        others = set(map(spoken, loaded[second].texts))
        both = [text for text in loaded[first].texts if spoken(text) in others]
        if both:
            shown = ", ".join(map(reprlib.repr, both[:3]))
            more = f" and {len(both) - 3} more" if len(both) > 3 else ""
            raise StudyError(
                f"{len(both)} {'text stands' if len(both) == 1 else 'texts stand'} both in the "
                f"{first} prompts ({getattr(study, first)}) and in the {second} ones "
                f"({getattr(study, second)}): {shown}{more}. Take them out of one of the two."
            )
    return _told_apart(loaded)


def _of_label(study: Study, opened: Opened, label: str) -> PromptSet:
    """The prompts of one label; a source that names no labels holds that label only."""
    reading = Reading(label=label)
    if not _has_layout(opened):
        columns = {f"{what}_column": _column(study, opened.table, what) for what in _COLUMNS}
        reading = Reading(**columns, label=label)
        if has_labels(opened.table, reading):
            reading = replace(reading, label_values=study.label_values)
    elif label not in (there := opened.read(Reading()).labels):
        raise PromptError(
            f"no prompt of {getattr(study, label)!r} is labelled {label}: they are "
            f"{', '.join(sorted({*there}))}. Give another source."
        )
    chosen = opened.read(reading)
    # A text that stands twice, however it is typed, would leak from training into the test.
    unique = chosen.unique()
    if len(unique) == len(chosen):
        return unique
    twice = len(chosen) - len(unique)
    notes = [
        *unique.provenance.get(NOTES, ()),
        f"{twice} of {len(chosen)} rows left out: texts that stand twice, "
        "but for capitals and white space",
    ]
    return replace(unique, provenance={**unique.provenance, NOTES: notes})


def _has_layout(opened: Opened) -> bool:
    """Whether the columns of a source are known, so that settings about columns are not for it."""
    return opened.preset is not None or opened.provenance["kind"] == "built-in"


def _names(study: Study, what: str) -> list[str]:
    """The columns that a setting names."""
    given = getattr(study, f"{what}_column") or ""
    return [name.strip() for name in given.split(",") if name.strip()]


def _column(study: Study, table: Table, what: str) -> str | None:
    """The one of the named columns that this table has; "" where the setting says that none counts.

    Raises:
        StudyError: it has several of them.
    """
    given = getattr(study, f"{what}_column")
    if given is None or not given.strip():
        return given
    found = table.known([given]) or table.known(_names(study, what))
    if len(found) > 1:
        raise StudyError(
            f"{table.origin} has several of the columns that {what}_column names: "
            f"{', '.join(found)}. Name one of them."
        )
    return found[0] if found else None


def _check_named(study: Study, opened: Mapping[str, Opened]) -> None:
    """Refuses a column or split that no source has: a misspelt one would be ignored otherwise.

    Raises:
        StudyError: there is one.
    """
    tables = {own.table.origin: own.table for own in opened.values() if not _has_layout(own)}
    listed = (f"{origin}: {', '.join(map(repr, own.columns))}" for origin, own in tables.items())
    shown = "; ".join(listed) or "built-in sets and benchmarks need none"
    for what in _COLUMNS:
        given = getattr(study, f"{what}_column")
        names = _names(study, what)
        if names and any(table.known([given]) for table in tables.values()):
            continue
        absent = [
            name for name in names if not any(table.known([name]) for table in tables.values())
        ]
        if absent:
            raise StudyError(
                f"no file has a column {' or '.join(map(repr, absent))}, which {what}_column "
                f"names ({shown})."
            )
    if study.label_values is not None:
        labelled = (
            has_labels(own, Reading(label_column=_column(study, own, "label")))
            for own in tables.values()
        )
        if not any(labelled):
            raise StudyError(
                f"no file has a label column whose values label_values could mean ({shown}). Pass "
                "label_column=."
            )
    if study.split is not None and all(table.split is None for table in tables.values()):
        raise StudyError(
            f"none of the sources has splits, so split={study.split!r} chooses nothing. Leave it "
            "out."
        )


def _in_a_study(message: str) -> str:
    """Advice of `load_prompts` as that of a study, which has settings instead of its arguments."""
    for ours, theirs in _ADVICE.items():
        message = message.replace(ours, theirs)
    return message


def _told_apart(loaded: dict[str, PromptSet]) -> dict[str, PromptSet]:
    """The same prompts, those of every label named after it where ids would be mixed up.

    Files that number their rows, or that have one name in two folders, give the same ids.
    """
    ids = [own for prompts in loaded.values() for own in prompts.ids]
    if len(set(ids)) == len(ids):
        return loaded
    return {
        label: PromptSet(
            tuple(replace(prompt, id=f"{label}-{prompt.id}") for prompt in prompts),
            prompts.name,
            prompts.provenance,
        )
        for label, prompts in loaded.items()
    }
