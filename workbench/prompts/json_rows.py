"""JSON of many shapes as rows.

Rows may be a list of objects or of strings, or of conversations; one object may hold such a list,
columns, or splits. What a shape means is decided by the names in it, never by what its texts say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.prompts.chats import is_turn
from workbench.prompts.table import (
    CHAT_COLUMNS,
    PREFERENCE_COLUMN,
    TEXT_COLUMNS,
    Row,
    picked,
    without_splits,
)

_NAMES = {*TEXT_COLUMNS, *CHAT_COLUMNS, PREFERENCE_COLUMN}
_WRAPPERS = ("prompts", "rows", "items", "examples", "instances", "records")
SHAPES = (
    "a list of objects, a list of strings, an object of columns, an object of splits, or "
    '{"data": [...]}'
)


def json_rows(
    found: Any, path: Path, split: str | None = None, optional: bool = False
) -> tuple[list[Row], str | None]:
    """The rows of what a JSON file holds, and the split they are from, if there are splits.

    Args:
        found: what was parsed.
        path: for messages.
        split: which split to read.
        optional: whether a file without splits may ignore ``split``.

    Raises:
        PromptError: another shape, columns of different length, or splits and none was chosen.
    """
    if isinstance(found, dict):
        lists = _lists(found, path)
        if len(lists) > 1:
            try:
                name = picked(f"{path}", list(lists), split)
            except PromptError as error:
                if len({*map(len, lists.values())}) > 1:
                    raise
                raise PromptError(
                    f"{error} If they are columns, call the one of the prompts 'text'."
                ) from error
            return _rows(lists[name], path), name
        found = next(iter(lists.values()), None)
    without_splits(f"{path}", split, optional)
    return _rows(found, path), None


def _lists(found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The lists of rows that an object holds, by name."""
    lists = {name: value for name, value in found.items() if isinstance(value, list)}
    if {"columns", "data"} <= set(lists):  # pandas' orient="split"
        names, data = lists["columns"], lists["data"]
        if all(isinstance(row, list) and len(row) == len(names) for row in data):
            return {"data": [dict(zip(map(str, names), row, strict=True)) for row in data]}
    if "data" in lists:  # what stands beside it says something about the file
        return {"data": lists["data"]}
    if _has_columns(found):
        return {"rows": _from_columns(found, path)}
    if found and all(isinstance(value, dict) for value in found.values()):
        if all(map(_has_columns, found.values())) and not all(map(_is_row, found.values())):
            return {name: _from_columns(value, path) for name, value in found.items()}
        return {"rows": list(found.values())}  # pandas' orient="index"
    wrapped = [name for name in _WRAPPERS if name in lists]
    # Another list of that length may be a column that goes with it: that is not for us to drop.
    if (
        len(wrapped) == 1
        and [len(own) for own in lists.values()].count(len(lists[wrapped[0]])) == 1
    ):
        return {wrapped[0]: lists[wrapped[0]]}
    return lists


def _has_columns(found: Mapping[str, Any]) -> bool:
    return any(str(name).strip().lower() in _NAMES for name in found)


def _from_columns(found: Mapping[str, Any], path: Path) -> list[Row]:
    """Rows from an object of columns, as lists or in pandas' way by row; or the one row itself."""
    if _is_row(found):
        return [dict(found)]
    columns = {
        name: list(value.values()) if isinstance(value, dict) else value
        for name, value in found.items()
    }
    keys = {tuple(value) for value in found.values() if isinstance(value, dict)}
    lengths = {
        name: len(value) if isinstance(value, list) else None for name, value in columns.items()
    }
    if len(set(lengths.values())) > 1 or len(keys) > 1 or None in lengths.values():
        counts = ", ".join(f"{name} {'no list' if n is None else n}" for name, n in lengths.items())
        raise PromptError(
            f"{path} is an object of columns, and they are not of one length: {counts}. Give every "
            "column one value per prompt."
        )
    names = list(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _is_row(found: Mapping[str, Any]) -> bool:
    """Whether an object is one prompt: its text is text, or its conversation one conversation."""
    own = [value for name, value in found.items() if str(name).strip().lower() in _NAMES]
    return any(isinstance(value, str) for value in own) or any(
        isinstance(value, list) and value and all(map(is_turn, value)) for value in own
    )


def _rows(found: Any, path: Path) -> list[Row]:
    if isinstance(found, list):
        if found and all(map(is_turn, found)) and not any(map(_has_columns, found)):
            raise PromptError(
                f"{path} holds one conversation, {len(found)} turns. Put it into a list, one "
                "conversation for each prompt."
            )
        if all(isinstance(item, str) for item in found):
            return [{"text": item} for item in found]
        if all(isinstance(item, list) and item and all(map(is_turn, item)) for item in found):
            return [{"messages": item} for item in found]
        if all(isinstance(item, dict) for item in found):
            # The Hub's viewer wraps every row.
            wrapped = all(isinstance(item.get("row"), dict) and "row_idx" in item for item in found)
            return [item["row"] for item in found] if found and wrapped else found
    raise PromptError(f"{path} is JSON of another shape. Expected {SHAPES}.")
