"""Which category each row has: its own, or where the source says none, the one that is given."""

from collections.abc import Sequence
from typing import Any

from workbench.errors import PromptError
from workbench.prompts.prompt import UNSPECIFIED, listed
from workbench.prompts.taxonomy import spelled


def kept_categories(own: Sequence[Any], asked: str | None) -> tuple[Sequence[Any], list[str]]:
    """The categories of rows, None for rows of others than the one that was asked for.

    Args:
        own: what each row says; `UNSPECIFIED` for nothing.
        asked: the category whose rows are kept, or that of all rows where none says any; None
            for all as they are.

    Returns:
        One per row, and a note that counts what is left out.

    Raises:
        PromptError: no row has the category.

    >>> kept_categories(["fraud", "drugs"], "fraud")
    (['fraud', None], ['1 of 2 rows left out: not of the category fraud but drugs'])
    """
    if asked is None:
        return own, []
    if all(value == UNSPECIFIED for value in own):
        return [asked] * len(own), []
    found = [asked if spelled(value) == spelled(asked) else None for value in own]
    others = [value for value, kept in zip(own, found, strict=True) if kept is None]
    there = listed(sorted({*map(str, others)}), limit=8)
    if len(others) == len(own):
        raise PromptError(
            f"no row is of the category {asked!r}: there are {there}. Pass one of these, or "
            "category_column='' too, to give all rows this one."
        )
    note = f"{len(others)} of {len(own)} rows left out: not of the category {asked} but {there}"
    return found, [note] if others else []
