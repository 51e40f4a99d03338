"""One labelled prompt.

A prompt is **harmful**, **harmless** or **borderline** (it looks harmful and is not). Its category
says what it is about.
"""

import operator
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workbench.errors import PromptError

LABELS = ("harmful", "harmless", "borderline")
UNSPECIFIED = "unspecified"
"""The category of a prompt whose source gives none."""


@dataclass(frozen=True)
class Prompt:
    """One request to a model, stripped of surrounding white space.

    Raises:
        PromptError: a field is not a string, is empty or is not valid Unicode, or the label is not
            one of `LABELS`.
    """

    id: str
    text: str
    label: str
    category: str = UNSPECIFIED

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", proper_text("a prompt's id", self.id))
        for name in ("text", "category"):
            value = proper_text(f"the {name} of prompt {self.id!r}", getattr(self, name))
            object.__setattr__(self, name, value)
        if self.label not in LABELS:
            raise PromptError(
                f"prompt {self.id!r} has the label {reprlib.repr(self.label)}. "
                f"Expected {listed(LABELS)}."
            )


def proper_text(what: str, value: object) -> str:
    """The value, stripped, if it is text.

    Raises:
        PromptError: it is missing, not a string, empty, or not valid Unicode.

    >>> proper_text("the title", "  Bread ")
    'Bread'
    """
    if value is None:
        raise PromptError(f"{what} is missing.")
    if not isinstance(value, str):
        raise PromptError(f"{what} is {reprlib.repr(value)} ({type(value).__name__}), not text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{what} is not valid Unicode: a lone surrogate at character {error.start + 1}."
        ) from error
    if not value.strip():
        raise PromptError(f"{what} is empty.")
    return value.strip()


def is_missing(value: Any) -> bool:
    """Whether a cell of a table is empty: None, NaN, or the like of pandas."""
    named = type(value).__name__ in ("NAType", "NaTType", "NoneType")
    return named or (isinstance(value, float) and value != value)


BUILT_IN = ("harmful", "harmless", "borderline")
"""Sets of prompts that are shipped."""


def row_id(name: str, row: int) -> str:
    """The id of a prompt whose source gives none; rows count from 1."""
    return f"{name}-{row:04d}"


def spoken(text: str) -> str:
    r"""A text without what changes nothing: capitals and the amount of white space.

    >>> spoken("How do I  bake\nbread?") == spoken("how do I bake bread?")
    True
    """
    return " ".join(text.casefold().split())


def listed(values: Iterable[str], limit: int = 50) -> str:
    """Values for a message: sorted if they have no order of their own, and not too many."""
    values = list(values) if isinstance(values, (list, tuple)) else sorted(values)
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return ", ".join(values[:limit]) + more


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """The value as an int.

    Raises:
        PromptError: it is not a whole number, or is smaller than ``least``.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise PromptError(f"{name} must be a whole number from {least} on, not {value!r}.")
    return number
