"""Which label each row has: what its column says, and never another one.

Where one label is asked for of rows that say theirs, those that have it are kept; the others are
left out and counted. A label that is given for a whole file is for files that say nothing.
"""

import re
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.arguments.kinds import is_blank
from workbench.errors import PromptError
from workbench.prompts.prompt import LABELS, is_missing
from workbench.prompts.table import CATEGORY_COLUMNS, LABEL_COLUMNS, Row, Table
from workbench.prompts.taxonomy import LABEL_SPELLINGS, spelled

Kept = tuple[Sequence[str | None], list[str]]
"""A label for each row, None for rows that are left out, and notes about what was done."""
Values = Mapping[Any, str] | str
"""What the values of a label column mean: ``{1: "harmful", 0: "harmless"}``, or the same as text,
``"1=harmful, 0=harmless"``."""

_PAIR = re.compile(rf"(.*?)=\s*({'|'.join(LABELS)})\s*(?:,|$)", re.DOTALL)
_TWO = re.compile(rf"=\s*({'|'.join(LABELS)})\b")
"""Within a value: two pairs without the comma between them."""
_VERDICT = re.compile(
    r"(?!response|reply|answer|output)(.*label|((is|prompt|text)_?)?(harm|harmful|harmfulness|"
    r"harmless|safe|safety|unsafe|benign|toxic|toxicity|malicious|class|verdict|jailbreak|flagged|"
    r"moderation|refusal|(should_)?refuse)(_?(score|level|type))?)s?"
)
"""Names of columns that may tell harmful rows from others, beside those that surely do."""
_TELLING = re.compile(
    r"harmful|harmless|safe|benign|toxic|malicious|adversarial|jailbreak|attack|refus|compl(y|ian)|"
    r"block|allow|accept"
)
"""What values hold that may tell harmful rows from others."""
_YES_AND_NO = ({"0", "1"}, {"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"}, {"pos", "neg"})
"""Values of columns that tell rows of one kind from all others."""
_MANY = 4
"""A column of more values than this that nobody knows may be one of something else."""


def meanings(values: Values | None) -> dict[str, str]:
    """What the values of a label column mean, by their spelling.

    Raises:
        PromptError: it is no such mapping, or one value means two labels.

    >>> meanings("1=harmful, 0=harmless")
    {'1': 'harmful', '0': 'harmless'}
    """
    pairs: list[tuple[Any, Any]] = []
    if isinstance(values, str):
        rest = values
        while rest.strip():
            found = _PAIR.match(rest)
            if found is None or _TWO.search(found[1]):
                raise _no_meaning(values)
            pairs.append((found[1], found[2]))
            rest = rest[found.end() :]
    elif isinstance(values, Mapping):
        pairs = list(values.items())
    elif values is not None:
        raise _no_meaning(values)
    if values is not None and (not pairs or any(label not in LABELS for _, label in pairs)):
        raise _no_meaning(values)
    meant: dict[str, str] = {}
    for value, label in pairs:
        if meant.setdefault(_key(value), label) != label:
            raise PromptError(f"label_values says two things of {value!r}: give it one label.")
    return meant


def labels_of(table: Table, column: str, asked: str | None, values: Values | None) -> Kept:
    """The labels that a column says, or of these the rows with the one that was asked for.

    Args:
        table: the rows.
        column: of labels.
        asked: the label whose rows are kept; None for all.
        values: what the column's values mean, beside `LABEL_SPELLINGS`.

    Raises:
        PromptError: rows whose value nobody knows, and which cannot be left out; or no row has the
            label.
    """
    own = [row.get(column) for row in table.rows]
    known = {**_SPELLINGS, **meanings(values)}
    labels = [known.get(_key(value)) for value in own]
    blank = [value for value, label in zip(own, labels, strict=True) if not label and _blank(value)]
    strange = [
        value for value, label in zip(own, labels, strict=True) if not label and not _blank(value)
    ]
    # Who says which values have a label says that the others have none that is asked for.
    if strange and not (asked and values is not None):
        raise PromptError(
            f"{_holds(column, own)}. Nobody knows {_values(strange)}. {_say(table, strange)}"
        )
    if blank and asked is None:
        raise PromptError(
            f"{len(blank)} of {len(own)} rows have no label in {column!r}. Fill it in, or keep the "
            f"rows of one label: {_lower(table.advice('label'))}"
        )
    other = (
        "Ask for a label that is there, or take all rows, whatever they are said to be: "
        f"{_lower(table.advice('label_column', repr('')))}"
    )
    return kept(labels, own, asked, f"{_holds(column, own)}. {other}")


def kept(
    labels: Sequence[str | None], own: Sequence[object], asked: str | None, otherwise: str
) -> Kept:
    """Of labels, those that were asked for, with a note that counts what is left out.

    Args:
        labels: one per row.
        own: what the rows say.
        asked: the label whose rows are kept; None for all.
        otherwise: what there is and what to do if there is none.

    Raises:
        PromptError: no row has the label.
    """
    if asked is None:
        return labels, []
    others = [value for value, label in zip(own, labels, strict=True) if label != asked]
    if len(others) == len(own):
        raise PromptError(f"no row is labelled {asked}: {otherwise}")
    if not others:
        return labels, []
    note = f"{len(others)} of {len(own)} rows left out: not labelled {asked} but {_counted(others)}"
    return [label if label == asked else None for label in labels], [note]


def one_label(table: Table, label: str, unlike: Sequence[str | None]) -> Kept:
    """The given label for every row of a table without a label column.

    Args:
        table: the rows.
        label: of all of them.
        unlike: columns that hold something else for certain.

    Raises:
        PromptError: another column seems to say which rows have it.
    """
    for column in suspects(table, unlike):
        own = [row.get(column) for row in table.rows]
        if {_SPELLINGS.get(_key(value)) for value in own if not _blank(value)} != {label}:
            raise PromptError(
                f"{_holds(column, own)}, which may say which rows are {label}. To read it, pass "
                f"label_column={column!r}; to take all rows as {label}, label_column=''."
            )
    return [label] * len(table.rows), []


def in_spite(table: Table, label: str, unlike: Sequence[str | None]) -> Kept:
    """The given label for every row, whatever columns say, with a note of what they say."""
    columns = dict.fromkeys([*table.known(LABEL_COLUMNS), *suspects(table, unlike)])
    notes = [
        f"all {len(table.rows)} rows taken as {label}, whatever {column!r} says: "
        f"{_counted([row.get(column) for row in table.rows])}"
        for column in columns
        if not is_empty(table, column)
    ]
    return [label] * len(table.rows), notes


def suspects(table: Table, unlike: Sequence[str | None] = ()) -> list[str]:
    """Columns that may say which rows are harmful: by their name, or by what they hold."""
    return [
        column
        for column in table.columns
        if not is_empty(table, column)
        and (
            (column not in unlike and _VERDICT.fullmatch(spelled(column)))
            or _is_spelled(table.rows, column)
            or (column not in unlike and _tells(table.rows, column))
        )
    ]


def is_empty(table: Table, column: str) -> bool:
    """Whether a column says nothing of any row."""
    return all(_blank(row.get(column)) for row in table.rows)


def _is_spelled(rows: Sequence[Row], column: str) -> bool:
    """Whether all that a column says is one of the labels."""
    return all(_blank(row.get(column)) or _key(row.get(column)) in _SPELLINGS for row in rows)


def _tells(rows: Sequence[Row], column: str) -> bool:
    """Whether a column holds a few values of which some seem to be verdicts, or yes and no."""
    if spelled(column) in CATEGORY_COLUMNS:
        return False
    own = [_key(row.get(column)) for row in rows if not _blank(row.get(column))]
    distinct = set(own)
    if distinct in _YES_AND_NO:
        return True
    few = 1 < len(distinct) <= min(_MANY, len(own) - 1)
    return few and any(_TELLING.search(value) for value in distinct)


def _holds(column: str, own: Sequence[object]) -> str:
    return f"the column {column!r} holds {_counted(own)}"


def _counted(own: Sequence[object], limit: int = 8) -> str:
    """What a column holds, the most frequent first."""
    counts = Counter("nothing" if _blank(value) else reprlib.repr(value) for value in own)
    shown = [
        f"{value} ({n} {'row' if n == 1 else 'rows'})" for value, n in counts.most_common(limit)
    ]
    more = len(counts) - limit
    return ", ".join(shown) + (f" and {more} other values" if more > 0 else "")


def _values(own: Sequence[object], limit: int = 8) -> str:
    distinct = [*dict.fromkeys(map(reprlib.repr, own))]
    return ", ".join(distinct[:limit]) + (" and others" if len(distinct) > limit else "")


def _say(table: Table, own: Sequence[object]) -> str:
    """How to say what values mean."""
    distinct = sorted({" ".join(str(value).split())[:30] for value in own if not _blank(value)})
    pairs = ", ".join(f"{value}=LABEL" for value in distinct[:_MANY])
    if len(distinct) > _MANY:
        pairs += ", …"
    said = table.advice("label_values", repr(pairs))
    less = " If it holds something else, label_column='' takes all rows as one label."
    return (
        f"Say what each means, LABEL being {', '.join(LABELS[:-1])} or {LABELS[-1]}: "
        f"{_lower(said)}{less if len(distinct) > _MANY else ''}"
    )


def _lower(advice: str) -> str:
    return advice[:1].lower() + advice[1:]


def _no_meaning(values: object) -> PromptError:
    return PromptError(
        f"label_values={reprlib.repr(values)} does not say what values mean. Pass "
        f"label_values='VALUE=LABEL, VALUE=LABEL', LABEL being {', '.join(LABELS[:-1])} or "
        f"{LABELS[-1]}."
    )


def _blank(value: object) -> bool:
    return is_missing(value) or is_blank(value)


def _key(value: object) -> str:
    """A value's spelling; whole numbers are one however they are stored."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return spelled("" if _blank(value) else value)


_SPELLINGS = {spelled(own): label for own, label in LABEL_SPELLINGS.items()}
