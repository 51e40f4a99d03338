"""From a table's rows to prompts: which column is what, and what of a row is the request."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from workbench.errors import PromptError
from workbench.prompts.categories import kept_categories
from workbench.prompts.chats import ROLES, check_no_turns, conversation, opening
from workbench.prompts.labels import (
    Kept,
    Values,
    in_spite,
    is_empty,
    kept,
    labels_of,
    one_label,
    suspects,
)
from workbench.prompts.presets import Preset
from workbench.prompts.prompt import LABELS, UNSPECIFIED, Prompt, proper_text, row_id
from workbench.prompts.promptset import PromptSet
from workbench.prompts.table import (
    CATEGORY_COLUMNS,
    CHAT_COLUMNS,
    CONTEXT_COLUMNS,
    ID_COLUMNS,
    LABEL_COLUMNS,
    PREFERENCE_COLUMN,
    SYSTEM_COLUMNS,
    TEXT_COLUMNS,
    Row,
    Table,
)
from workbench.prompts.taxonomy import to_categories

NOTES = "notes"
"""Where the provenance of a prompt set says what reading a file did beside reading it."""

_HISTORY_COLUMN = "history"
_NOTHING = {"", "<noinput>"}


@dataclass(frozen=True)
class Reading:
    """What the caller said about a table's columns and about all of its prompts.

    A column is found by its name where None is given; ``label_column``, ``category_column`` and
    ``context_column`` may be "", for none. ``label`` and ``category`` are those of all prompts
    where the table says nothing; where it does, they choose the rows that have them.
    """

    text_column: str | None = None
    category_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    context_column: str | None = None
    label: str | None = None
    category: str | None = None
    label_values: Values | None = None

    def given(self) -> list[str]:
        """Names of the fields that the caller filled."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]


def read_prompts(
    table: Table,
    reading: Reading,
    name: str,
    provenance: Mapping[str, Any],
    preset: Preset | None = None,
) -> PromptSet:
    """The rows of a table as prompts; every complaint names the source and the row.

    A cell that holds a conversation gives the user's first turn. A column of context (Alpaca's
    ``input``) follows the text after a blank line, in the rows where it says something. What was
    joined or left out is counted in ``provenance["notes"]``.

    Raises:
        PromptError: a column is missing or ambiguous, or a row holds no text that can be used.
    """
    requests = _Requests(table, reading, preset)
    id_column = table.find(
        "id",
        reading.id_column,
        preset.id_columns if preset else ID_COLUMNS,
        prefer_first=preset is not None,
    )
    try:
        for column in table.known(ROLES):
            check_no_turns(column, (row.get(column) for row in table.rows))
        labels, left_out = _labels(table, reading, preset, requests.column)
        own_categories = _categories(table, reading, preset)
        categories, of_others = kept_categories(own_categories, reading.category)
    except PromptError as error:
        raise PromptError(_placed(table.origin, error)) from error
    prompts = []
    for row, (values, label, category) in enumerate(
        zip(table.rows, labels, categories, strict=True), start=1
    ):
        if label is None or category is None:
            continue
        own = _plain(values.get(id_column)) if id_column else None
        if own is None:
            own = row_id(name, row)
        elif preset and reading.id_column is None:
            # Benchmarks count from 1, each of them; their names keep them apart in one set.
            own = f"{name}-{own}"
        try:
            if requests.leave_out(values):
                continue
            request = requests.of(values)
            own, kind = proper_text("the id", own), proper_text("the category", category)
            prompts.append(Prompt(own, proper_text("the text", request), label, kind))
        except PromptError as error:
            raise PromptError(f"{table.origin}, row {row}: {error}") from error
    notes = [*left_out, *of_others, *requests.notes()]
    if not prompts:
        raise PromptError(f"{table.origin} holds no prompts: {'; '.join(notes)}.")
    if notes:
        provenance = {**provenance, NOTES: notes}
    try:
        return PromptSet(tuple(prompts), name, provenance)
    except PromptError as error:
        raise PromptError(_placed(table.origin, error)) from error


def has_labels(table: Table, reading: Reading) -> bool:
    """Whether the rows say themselves what they are, as far as the columns' names tell."""
    if reading.label_column == "":
        return False
    column = table.find("label", reading.label_column, LABEL_COLUMNS)
    return column is not None and not is_empty(table, column)


class _Requests:
    """What of each row is the request, and counts of what is not."""

    def __init__(self, table: Table, reading: Reading, preset: Preset | None) -> None:
        self._n = len(table.rows)
        self.column = _text_column(table, reading, preset)
        # A benchmark's layout is known: nothing of it goes on elsewhere.
        self._context = None if preset else _context_column(table, reading, self.column)
        self._system = table.known(SYSTEM_COLUMNS)
        self._history = table.known((_HISTORY_COLUMN,))
        self._counts = dict.fromkeys(("joined", "turns", "system", "history"), 0)

    def leave_out(self, row: Row) -> bool:
        """Whether a row goes on from earlier turns, so that it is no request by itself."""
        goes_on = any(_said(row.get(column)) for column in self._history)
        self._counts["history"] += goes_on
        return goes_on

    def of(self, row: Row) -> Any:
        """The request of a row, which may turn out to be no text."""
        text = row.get(self.column)
        system = any(_said(row.get(column)) for column in self._system)
        turns = conversation(text)
        if turns is not None:
            start = opening(turns)
            text, system = start.text, system or start.system
            self._counts["turns"] += start.n_turns > 1
        self._counts["system"] += system
        context = row.get(self._context) if self._context else None
        if not _said(context):
            return text
        self._counts["joined"] += 1
        text = proper_text("the text", text)
        return f"{text}\n\n{proper_text(f'the {self._context}', context)}"

    def notes(self) -> list[str]:
        """What was done beside reading, one sentence each, without a full stop."""
        said = {
            "joined": f"{self.column} and {self._context} joined, a blank line between them",
            "turns": "only the first of the user's turns kept",
            "system": "a system prompt left out",
            "history": f"left out, for by {_HISTORY_COLUMN} they go on from earlier turns",
        }
        return [f"{n} of {self._n} rows: {said[key]}" for key, n in self._counts.items() if n]


def _text_column(table: Table, reading: Reading, preset: Preset | None) -> str:
    if preset or reading.text_column is not None:
        known = preset.text_columns if preset else TEXT_COLUMNS
        return table.require("text", reading.text_column, known, prefer_first=preset is not None)
    found = table.known((*TEXT_COLUMNS, *CHAT_COLUMNS))
    if len(found) > 1:
        rows = [[_opening(row.get(column)) for column in found] for row in table.rows]
        if not table.known(CHAT_COLUMNS) or any(len({*map(repr, each)}) > 1 for each in rows):
            raise table.ambiguous("text", found)
    if not found:
        found = [
            column
            for column in table.known((PREFERENCE_COLUMN,))
            if all(conversation(row.get(column)) for row in table.rows)
        ]
    return found[0] if found else table.require("text", None, (*TEXT_COLUMNS, *CHAT_COLUMNS))


def _opening(value: Any) -> Any:
    """A cell's request, for comparing columns that may say the same."""
    try:
        turns = conversation(value)
        value = opening(turns).text if turns else value
    except PromptError:
        pass  # said with its row, if this column is the one that is read
    return value.strip() if isinstance(value, str) else value


def _context_column(table: Table, reading: Reading, text: str) -> str | None:
    if reading.context_column is not None:
        if not reading.context_column:
            return None
        return table.require("context", reading.context_column, ())
    found = [
        column
        for column in table.known(CONTEXT_COLUMNS)
        if column != text and any(_said(row.get(column)) for row in table.rows)
    ]
    if len(found) > 1:
        raise table.ambiguous("context", found)
    return found[0] if found else None


def _labels(table: Table, reading: Reading, preset: Preset | None, text: str) -> Kept:
    unlike = (text, reading.id_column, reading.category_column)
    label = reading.label or (preset.label if preset and not preset.to_labels else None)
    if reading.label_column == "":
        if label is None:
            raise PromptError("label_column='' reads no labels. Pass label= for the whole file.")
        return in_spite(table, label, unlike)
    if preset is not None and reading.label_column is None and preset.to_labels is not None:
        column = table.require("category", None, preset.category_columns, prefer_first=True)
        own = [row.get(column) for row in table.rows]
        found = preset.to_labels(own)
        there = ", ".join(sorted({*found}))
        return kept(
            found, own, label, f"there are {there}. Ask for one of these, or give another source."
        )
    column = table.find("label", reading.label_column, LABEL_COLUMNS)
    if column is not None and not (label and is_empty(table, column)):
        return labels_of(table, column, label, reading.label_values)
    if reading.label_values is not None:
        raise PromptError(
            "there is no label column whose values label_values= could mean. Pass label_column=. "
            f"Columns: {', '.join(map(repr, table.columns))}."
        )
    if label is None:
        seeming = "".join(f" It may be {own!r}." for own in suspects(table, unlike)[:1])
        raise PromptError(
            f"no label column.{seeming} Pass label= ({', '.join(LABELS)}) for the whole file, or "
            f"label_column=. Columns: {', '.join(map(repr, table.columns))}. A known benchmark's "
            "file is read with its layout: 'NAME=FILE'."
        )
    if preset is not None and label != preset.label:
        raise PromptError(
            f"no row is labelled {label}: those of {preset.name} are {preset.label}. Pass "
            "label_column='' too, to take them for what they are not said to be."
        )
    labels, notes = one_label(table, label, unlike)
    if column is not None:
        notes = [f"{column!r} is empty in every row: all {len(labels)} are taken as {label}"]
    return labels, notes


def _categories(table: Table, reading: Reading, preset: Preset | None) -> list[Any]:
    if reading.category_column == "":
        return [UNSPECIFIED] * len(table.rows)
    if preset is None or reading.category_column is not None:
        column = table.find("category", reading.category_column, CATEGORY_COLUMNS)
        own = (_plain(row.get(column)) if column else None for row in table.rows)
        return [UNSPECIFIED if value is None else value for value in own]
    if not preset.category_columns:
        return [UNSPECIFIED] * len(table.rows)
    column = table.require("category", None, preset.category_columns, prefer_first=True)
    return list(to_categories(preset.name, (row.get(column) for row in table.rows)))


def _said(value: Any) -> bool:
    """Whether a cell holds anything."""
    if isinstance(value, str):
        return value.strip().lower() not in _NOTHING
    if hasattr(value, "__len__"):
        return len(value) > 0
    return value is not None and value == value


def _plain(value: Any) -> Any:
    """Whole numbers as text; empty text and NaN as nothing; anything else as it is."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and value != value:
        return None
    return None if isinstance(value, str) and not value.strip() else value


def _placed(origin: str, error: PromptError) -> str:
    message = str(error)
    return message if message.startswith(origin) else f"{origin}: {message}"
