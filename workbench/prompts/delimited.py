"""CSV and its dialects: commas, semicolons, tabs, Excel's first line.

The delimiter is read off the line of column names, where there is no prose. A sniffer that weighs
characters over the whole text takes a comma that every prompt happens to hold for a delimiter, and
half of each prompt is gone without a word.
"""

import csv
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.intake.limits import check_elements, check_rows, most_elements, most_rows, shortened
from workbench.prompts.table import (
    CATEGORY_COLUMNS,
    CHAT_COLUMNS,
    CONTEXT_COLUMNS,
    ID_COLUMNS,
    LABEL_COLUMNS,
    SYSTEM_COLUMNS,
    TEXT_COLUMNS,
    Row,
)

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_KNOWN = {
    *TEXT_COLUMNS, *CHAT_COLUMNS, *CATEGORY_COLUMNS, *LABEL_COLUMNS, *ID_COLUMNS,
    *CONTEXT_COLUMNS, *SYSTEM_COLUMNS,
}  # fmt: skip
_TOLD = {*LABEL_COLUMNS, *CATEGORY_COLUMNS}
"""Names under which numbers say something of a prompt, and do not only count."""
_LONGEST_HEADER = 100_000
_LINE_END = re.compile(r"\r\n|\r|\n")
_EXCEL = re.compile(r'"?sep=(.)"?[;,\t]*\r?\n', re.IGNORECASE)


def read_csv(text: str, path: Path) -> tuple[list[Row], str]:
    """The rows of a table in text, and what may be the matter if its columns are not known.

    Raises:
        PromptError: rows of different length, a quote that is never closed, or a delimiter that
            cannot be told.
    """
    whole, (text, delimiter) = text, _delimited(text, path)
    before = whole[: len(whole) - len(text)].count("\n")
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # With more fields than columns pandas would warn and drop the rest.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            n_columns = len(_frame(text, delimiter, 0).columns)
            # Rows are filled up to the width of the first line, however short they are.
            most = min(most_rows(), most_elements() // max(n_columns, 1))
            frame = _frame(text, delimiter, most + 1)
    except (ValueError, pd.errors.ParserWarning) as error:
        raise _improper(path, delimiter, _fault(text, delimiter, before, error)) from error
    check_rows(path, len(frame), PromptError)
    check_elements(path, len(frame) * n_columns, PromptError)
    fault = _fault(text, delimiter, before)
    if fault:
        raise _improper(path, delimiter, fault)
    names = [str(name) for name in frame.columns]
    twice = [name for name in names if f"{name}.1" in names and _n_known([name])]
    if twice:
        raise PromptError(f"{path} has two columns of one name: {twice[0]!r}. Rename one of them.")
    hint = "" if _n_known(names) else (
        f" Its first line was taken for the names of its columns: if it is a prompt, the file has "
        f"no header; put one before it (such as text{delimiter if len(names) > 1 else ''}"
        f"{'category' if len(names) > 1 else ''})."
    )  # fmt: skip
    return records(frame), hint


def _frame(text: str, delimiter: str, n_rows: int) -> Any:
    import pandas as pd

    return pd.read_csv(
        io.StringIO(text, newline=""),
        sep=delimiter,
        dtype=str,
        keep_default_na=False,
        index_col=False,
        nrows=n_rows,
    )


def check_no_table(text: str, path: Path) -> None:
    """Refuses plain text whose first line is nothing but names of columns.

    Raises:
        PromptError: it is, so the file is a table and its first line no prompt.
    """
    header = _LINE_END.split(text.lstrip(), maxsplit=1)[0]
    for delimiter in _DELIMITERS:
        fields = _fields(header, delimiter)
        if fields and _n_known(fields) == len(fields):
            raise PromptError(
                f"{path} is to be read one prompt a line, and its first line names columns: "
                f"{header.strip()!r}. Name the file .csv or .tsv, or take the line out."
            )


def records(frame: Any) -> list[Row]:
    """A data frame as rows, with None for what is missing.

    A named level of the index is a column, if it says something: numbers count rows, and a column
    may be there under the same name as well.

    Raises:
        PromptError: an index and a column of one name differ.
    """
    named = []
    for level, name in enumerate(frame.index.names):
        values = frame.index.get_level_values(level)
        if name is None or (values.dtype.kind in "iuf" and str(name).lower() not in _TOLD):
            continue
        if name not in frame.columns:
            named.append(name)
        elif values.tolist() != frame[name].tolist():
            raise PromptError(
                f"the index and a column of the table are both named {name!r} and differ. Rename "
                "one of them, or leave the index out with .reset_index(drop=True)."
            )
    if len({*named}) < len(named):
        raise PromptError(f"two levels of the index of the table are named alike: {named}.")
    for name in named:
        frame = frame.assign(**{str(name): frame.index.get_level_values(name)})
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    missing = {str(name): frame[name].isna().tolist() for name in frame.columns}
    return [
        {name: None if missing[name][row] else values[row] for name, values in columns.items()}
        for row in range(len(frame))
    ]


def _delimited(text: str, path: Path) -> tuple[str, str]:
    """The table without Excel's first line, and what stands between its fields."""
    excel = _EXCEL.match(text)
    if excel:
        return text[excel.end() :], excel[1]
    header = _LINE_END.split(text.lstrip("\r\n"), maxsplit=1)[0]
    if len(header) > _LONGEST_HEADER:
        raise PromptError(
            f"{path}: its first line, which names the columns, has {len(header):,} characters; "
            f"expected at most {_LONGEST_HEADER:,}. Check that it is a table, with one row a line."
        )
    usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    if header.lower().startswith("sep="):
        raise PromptError(
            f"{path} begins with Excel's line {header[:20]!r}, which names no delimiter that is "
            "one character. Take the line out."
        )
    fields = {own: _fields(header, own) for own in (usual, *_DELIMITERS)}
    splitting = [own for own, names in fields.items() if len(names) > 1]
    if not splitting:
        return text, usual
    most = max(_n_known(fields[own]) for own in splitting)
    best = [own for own in splitting if _n_known(fields[own]) == most]
    if usual in best:
        return text, usual
    if not most and not _even(text, best[0], len(fields[best[0]])):
        return text, usual  # a mark within the name of a single column
    if len(best) == 1:
        return text, best[0]
    raise PromptError(
        f"{path}: cannot tell what separates the columns in its first line, {header[:80]!r}: "
        f"{' or '.join(_DELIMITERS[own] for own in best)}. Name the columns plainly (such as "
        "text, category), or save it with commas."
    )


def _improper(path: Path, delimiter: str, fault: str) -> PromptError:
    return PromptError(
        f"{path} is not a proper CSV file: {fault} Fields are taken to be separated by "
        f"{_DELIMITERS.get(delimiter, repr(delimiter))}; a text that holds one, or a line break, "
        "must stand in double quotes."
    )


def _fault(text: str, delimiter: str, before: int, error: Exception | None = None) -> str:
    """What is wrong with the first row that has not as many fields as the column names; or "".

    Args:
        text: the table.
        delimiter: between its fields.
        before: lines of the file that stand above the table.
        error: what its reader said, for faults that are none of this kind.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    n_fields, line = 0, before + 1
    try:
        with _fields_as_long_as(text):
            for row in reader:
                n_fields = n_fields or len(row)
                last, here = reader.line_num + before, line
                line = last + 1
                if not row or len(row) == n_fields:
                    continue
                if "EOF inside string" in str(error) and next(reader, None) is None:
                    return f"a double quote in line {here} is never closed."
                found = f"{len(row)} {'field' if len(row) == 1 else 'fields'}"
                return f"expected {n_fields} fields in line {here}, as column names, found {found}."
    except csv.Error as fault:
        return shortened(fault)
    return "" if error is None else shortened(error)


def _fields(header: str, delimiter: str) -> list[str]:
    return next(csv.reader([header], delimiter=delimiter), [])


def _even(text: str, delimiter: str, n_fields: int) -> bool:
    """Whether every line that is not empty has as many fields."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        with _fields_as_long_as(text):
            return all(len(row) == n_fields for row in rows if row)
    except csv.Error:  # which whoever reads the table will meet, too
        return False


@contextmanager
def _fields_as_long_as(text: str) -> Iterator[None]:
    """Lets `csv` read fields of any length: it stops at a limit of its own, within a table."""
    before = csv.field_size_limit(max(len(text), csv.field_size_limit()))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _n_known(names: list[str]) -> int:
    return sum(name.strip().lower() in _KNOWN for name in names)
