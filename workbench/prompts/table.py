"""Rows with named columns, and which column holds what."""

import difflib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from workbench.errors import PromptError

TEXT_COLUMNS = (
    "text", "prompt", "goal", "instruction", "forbidden_prompt", "behavior", "question", "query",
    "request",
)  # fmt: skip
CHAT_COLUMNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
"""Columns of whole conversations, of which a prompt is the user's part."""
PREFERENCE_COLUMN = "chosen"
"""Preference data keeps its conversations here, where it has no column of prompts."""
CATEGORY_COLUMNS = ("category", "semanticcategory", "semantic_category", "harm_category", "topic")
LABEL_COLUMNS = ("label", "safety_label", "harm_label")
ID_COLUMNS = ("id", "prompt_id", "behaviorid", "behavior_id")
CONTEXT_COLUMNS = ("input", "context", "contextstring", "context_string")
"""Columns that hold the rest of a request: without it a "summarise the text" has no text."""
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")

Row = dict[str, Any]


class Table(NamedTuple):
    """Rows with named columns, and where they come from, for messages.

    ``split`` is the part of the source that the rows are from, None where it has no parts. ``hint``
    is what else may be the matter where a column is not there. ``remedy`` tells how a column is
    named where the table is read, ``{}`` being the option.
    """

    origin: str
    columns: tuple[str, ...]
    rows: list[Row]
    split: str | None = None
    hint: str = ""
    remedy: str = "Pass {}=."

    @classmethod
    def of(cls, origin: str, rows: list[Row], **more: Any) -> "Table":
        """A table with the columns of its rows, in order of first appearance.

        Raises:
            PromptError: there are no rows.
        """
        if not rows:
            raise PromptError(f"{origin} holds no prompts.")
        return cls(origin, tuple(dict.fromkeys(key for row in rows for key in row)), rows, **more)

    def known(self, names: Sequence[str]) -> list[str]:
        """The columns that have one of these names, in the order of the names.

        Capitals and white space around them make no difference.
        """
        return [
            own for name in names for own in self.columns if own.strip().lower() == name.lower()
        ]

    def find(
        self, what: str, given: str | None, known: Sequence[str], *, prefer_first: bool = False
    ) -> str | None:
        """The column that holds ``what``: the given one, or the one with a known name.

        Capitals make no difference. Returns None where no name is given and none is known.

        Raises:
            PromptError: the given column is not there, or several have a known name (unless
                ``prefer_first`` takes the first in the order of ``known``).

        >>> table = Table.of("a file", [{"Goal": "Bake bread", "n": 1}])
        >>> table.find("text", None, ["text", "goal"])
        'Goal'
        """
        if given is not None and given in self.columns:
            return given
        found = self.known(known if given is None else (given,))
        if given is not None and len(found) != 1:
            close = difflib.get_close_matches(given, self.columns, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PromptError(
                f"{self.origin} has no column {given!r}: {self._listed()}.{hint}{self.hint}"
            )
        if len(found) > 1 and not prefer_first:
            raise self.ambiguous(what, found)
        return found[0] if found else None

    def require(
        self, what: str, given: str | None, known: Sequence[str], *, prefer_first: bool = False
    ) -> str:
        """As `find`, for a column that must be there.

        Raises:
            PromptError: it is not.
        """
        found = self.find(what, given, known, prefer_first=prefer_first)
        if found is None:
            raise PromptError(
                f"{self.origin} has no column for the {what} (looked for {', '.join(known)}). "
                f"{self.advice(f'{what}_column')} Columns: {self._listed()}.{self.hint}"
            )
        return found

    def ambiguous(self, what: str, found: Sequence[str]) -> PromptError:
        """The error of several columns that may hold the same."""
        return PromptError(
            f"{self.origin} has several columns that may hold the {what}: {', '.join(found)}. "
            f"{self.advice(f'{what}_column')} Columns: {self._listed()}."
        )

    def advice(self, option: str, value: str = "") -> str:
        """How the option is passed where this table is read, with a value if one is known."""
        said = self.remedy.format(option)
        return re.sub("=…?", lambda _: f"={value}", said, count=1) if value else said

    def _listed(self) -> str:
        return ", ".join(map(repr, self.columns))


def picked(origin: str, names: Sequence[str], split: str | None, optional: bool = False) -> str:
    """The split to read: the one asked for, or the only one.

    Raises:
        PromptError: it is not there, or there are several and none was asked for.

    >>> picked("a folder", ["train"], None)
    'train'
    """
    listed = ", ".join(names)
    if split is None or (optional and split not in names and len(names) == 1):
        if len(names) == 1:
            return names[0]
        raise PromptError(
            f"{origin} holds several splits: {listed}. Choose one with split={names[0]!r}."
        )
    if split not in names:
        raise PromptError(f"{origin} has no split {split!r}: {listed}.")
    return split


def without_splits(origin: str, split: str | None, optional: bool) -> None:
    """Refuses to pick a split where there are none, unless it was said of other sources too."""
    if split is not None and not optional:
        raise PromptError(f"{origin} has no splits. Leave split={split!r} out.")
