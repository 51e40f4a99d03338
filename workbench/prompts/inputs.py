"""What may stand wherever prompts are taken: sets, texts, and tables in memory."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.prompts.delimited import records
from workbench.prompts.folders import of_data_set
from workbench.prompts.prompt import BUILT_IN, Prompt, is_missing, proper_text
from workbench.prompts.promptset import PromptSet
from workbench.prompts.reading import NOTES, Reading, has_labels, read_prompts
from workbench.prompts.table import Table
from workbench.prompts.texts import Texts

TAKEN = "a PromptSet, texts (one, or a list), a pandas.DataFrame or a datasets.Dataset"


def as_prompts(prompts: Any, name: str = "prompts") -> PromptSet | Texts:
    """Prompts from whatever can be taken for prompts, unambiguously.

    A string is a text. One that is the name of a built-in set, or of a file of prompts that is
    there, could be meant either way and is refused; in a list it is a text. A ``pandas.DataFrame``
    and a ``datasets.Dataset`` are read by the rules of files, so labels, categories and ids come
    along where their columns are there; one column of them is a list of texts.

    Args:
        prompts: a prompt set; a text; a list, tuple, array or column of texts, or of `Prompt`; a
            data frame or data set.
        name: what a table is called, in ids that it does not give itself.

    Returns:
        The set; or, where nobody says which are harmful, texts with ids and categories.

    Raises:
        PromptError: anything else, something that is no text among the texts, nothing at all, or
            the name of a set or file.

    >>> as_prompts("How do I bake bread?").texts
    ('How do I bake bread?',)
    """
    if isinstance(prompts, PromptSet | Texts):
        if not len(prompts):
            raise PromptError("no prompts: the list is empty.")
        return prompts
    if isinstance(prompts, str):
        _check_no_source(prompts)
        return Texts.plain(_texts([prompts]))
    if _is_table(prompts):
        return _from_table(prompts, name)
    listed = _listed(prompts)
    if listed and all(isinstance(each, Prompt) for each in listed):
        return PromptSet(tuple(listed), name)
    return Texts.plain(_texts(listed))


def as_prompt_set(prompts: Any, label: str, name: str = "prompts") -> PromptSet:
    """As `as_prompts`, for a place that says itself what prompts without a label are.

    Raises:
        PromptError: as `as_prompts`.
    """
    found = as_prompts(prompts, name)
    if isinstance(found, PromptSet):
        return found
    own = found.labelled(label)
    if found.ids == tuple(map(str, range(len(found)))):
        return PromptSet.from_texts(found.texts, label, name=name)
    return PromptSet(own, name)


def table_of(source: Any, split: str | None = None) -> Table:
    """The rows of a data frame, a data set or a list of texts.

    Raises:
        PromptError: anything else, or one with several splits of which none was chosen.
    """
    kind = _kind(source)
    if kind == "datasets":
        return of_data_set(source, f"the {type(source).__name__}", split)
    if split is not None:
        raise PromptError(f"a {type(source).__name__} has no splits. Leave split={split!r} out.")
    if kind == "pandas" and type(source).__name__ == "DataFrame":
        if not source.columns.is_unique:
            raise PromptError(f"the DataFrame has two columns of one name: {list(source.columns)}.")
        return Table.of("the DataFrame", records(source))
    texts = as_prompts(source)
    return Table.of(
        f"the {type(source).__name__}",
        [{"text": text} for text in texts.texts]
        if isinstance(texts, Texts)
        else [
            {"id": p.id, "text": p.text, "label": p.label, "category": p.category} for p in texts
        ],
    )


def _from_table(source: Any, name: str) -> PromptSet | Texts:
    """A table as a set if it says which prompts are harmful, else as texts."""
    if isinstance(source, dict) and len(source) > 1:
        raise PromptError(
            f"a {type(source).__name__} holds several splits: {', '.join(source)}. Pass one of "
            f"them, such as data[{next(iter(source))!r}]."
        )
    table = table_of(source)._replace(
        remedy="Read it first with load_prompts(…, {}=…).",
    )
    if has_labels(table, Reading()):
        return _complete(read_prompts(table, Reading(), name, {"kind": "table"}), table)
    # The label is needed to check the rows as those of a file, and forgotten after that.
    unlabelled = Reading(label="harmless", label_column="")
    checked = read_prompts(table, unlabelled, name, {"kind": "table"})
    _complete(checked, table)
    return Texts(checked.texts, checked.ids, checked.categories)


def _complete(found: PromptSet, table: Table) -> PromptSet:
    """Refuses to leave rows out where the result goes back beside them."""
    if len(found) < len(table.rows):
        told = " ".join(found.provenance.get(NOTES, ()))
        raise PromptError(
            f"{len(table.rows) - len(found)} of {len(table.rows)} rows would be left out, so what "
            f"comes out would not stand beside them. {told} Read them first with load_prompts(…), "
            "which leaves them out and says so."
        )
    return found


def _is_table(source: Any) -> bool:
    kind, name = _kind(source), type(source).__name__
    return (kind, name) == ("pandas", "DataFrame") or (kind == "datasets" and name != "Column")


def _kind(source: Any) -> str:
    """The library that a value comes from; none is imported to find out."""
    return type(source).__module__.partition(".")[0]


def _listed(source: Any) -> list[Any]:
    """The items of a list or of one column."""
    kind, name = _kind(source), type(source).__name__
    if kind == "pandas" and name in ("Series", "Index"):
        return source.tolist()
    if kind == "numpy" and name == "ndarray":
        if source.ndim != 1:
            raise PromptError(
                f"an array of shape {source.shape} is no list of prompts. Pass {TAKEN}."
            )
        return source.tolist()
    if isinstance(source, Sequence) and not isinstance(source, bytes | bytearray | memoryview):
        return list(source)
    raise PromptError(
        f"expected prompts, found something of type {_said(source)}. Pass {TAKEN}.{_advice(source)}"
    )


def _check_no_source(text: str) -> None:
    """Refuses one text that is more likely the name of a set or of a file of prompts.

    Raises:
        PromptError: it is one.
    """
    what = "a built-in set" if text in BUILT_IN else ""
    named = re.fullmatch(r"[^\0\r\n]{1,250}\.(csv|tsv|jsonl?|parquet|txt)(\.gz)?", text, re.I)
    if named and os.path.isfile(text):  # noqa: PTH113  (of a name that is too long, False)
        what = "a file"
    if what:
        raise PromptError(
            f"{text!r} is the name of {what}, and here a text is one prompt. Pass "
            f"load_prompts({text!r}), or [{text!r}] for the text."
        )


def _advice(source: Any) -> str:
    """How to make prompts of what was passed instead, where one can tell."""
    if isinstance(source, Path):
        return f" To read a file, pass load_prompts({str(source)!r})."
    if isinstance(source, Mapping):
        return " To pass columns, make a pandas.DataFrame of them."
    if isinstance(source, bytes | bytearray):
        return " Decode it first."
    if isinstance(source, set | frozenset) or hasattr(source, "__next__"):
        return " Pass list(…) of it, which has an order and a length."
    if hasattr(source, "to_pandas"):
        return " Pass its .to_pandas()."
    return ""


def _said(source: Any) -> str:
    kind, name = _kind(source), type(source).__name__
    return name if kind in ("builtins", "pathlib", "collections") else f"{kind}.{name}"


def _texts(found: Sequence[Any]) -> tuple[str, ...]:
    if not found:
        raise PromptError("no prompts: the list is empty.")
    for index, text in enumerate(found):
        if is_missing(text):
            raise PromptError(f"prompt {index} is missing. Leave it out.")
        if not isinstance(text, str):
            raise PromptError(
                f"prompt {index} is a {_said(text)}, not text. Pass {TAKEN}.{_turns(text)}"
            )
        proper_text(f"prompt {index}", text)
    return tuple(map(str, found))


def _turns(item: Any) -> str:
    if isinstance(item, Mapping):
        return " Of a row or a turn, pass the text alone."
    if isinstance(item, Prompt):
        return " A list holds texts or Prompts, not both."
    return ""
