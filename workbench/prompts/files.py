"""Files of prompts as rows: CSV, JSON, JSONL, Parquet, plain text with one prompt a line; folders.

Nothing is converted on the way: the text ``NA`` stays text, and a number where text should stand
stays a number, to be refused by whoever needs text.
"""

import codecs
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.intake.limits import (
    check_bytes,
    check_rows,
    lies_there,
    most_bytes,
    read_bytes,
    shortened,
)
from workbench.intake.parquet import check_parquet
from workbench.intake.parsing import parsing
from workbench.intake.records import check_json
from workbench.prompts.chats import is_turn
from workbench.prompts.delimited import check_no_table, read_csv, records
from workbench.prompts.folders import data_files, is_saved_data_set, kind_of, read_saved
from workbench.prompts.json_rows import json_rows
from workbench.prompts.table import Row, Table, without_splits

SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".txt", ".tsv")
"""Kinds of files; each but Parquet may be compressed once more, with ``.gz`` at the end."""
_KINDS = {*SUFFIXES, ".tab", ".ndjson"}
_SHEETS = {".xlsx", ".xls", ".xlsm", ".ods", ".numbers"}
_PACKED = {".zip", ".xz", ".bz2", ".zst", ".7z", ".tar", ".tgz"}
# The longer marks first: the one of UTF-32 begins like that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_table(path: str | Path, split: str | None = None, *, optional: bool = False) -> Table:
    """Reads a file of prompts, or one split of a folder of them, whole.

    Args:
        path: a file, a folder that `datasets` saved, or a folder of files, such as a clone of a
            data set of the Hub.
        split: which split to read; not needed where there is one.
        optional: whether a source without splits may ignore ``split``.

    Raises:
        PromptError: no such file, a kind of file that is not known, an empty or broken file, text
            that is not UTF-8 and has no byte order mark, several splits and none was chosen, no
            regular file, or more bytes or rows than are read (see `workbench.intake.limits`).
            The message is one line and names the file.
    """
    path = Path(path).expanduser()
    with parsing(path, "a file of prompts", PromptError):
        return _table(path, split, optional)


def _table(path: Path, split: str | None, optional: bool) -> Table:
    kind = kind_of(path)
    if lies_there(path):
        if path.is_dir():
            return _folder(path, split, optional)
        if kind not in _KINDS:
            raise PromptError(_unknown(path, kind))
    content = read_bytes(path, PromptError)
    if path.suffix.lower() == ".gz":
        content = _unpacked(content, path)
    if not content.strip():
        raise PromptError(f"{path} is empty.")
    if content.startswith(b"version https://git-lfs"):
        raise PromptError(f"{path} only says where Git LFS keeps the file. Run: git lfs pull.")
    if kind == ".parquet":
        without_splits(f"{path}", split, optional)
        return Table.of(str(path), _parquet(content, path))
    return parse_text(_decoded(content, path), path, split, optional=optional)


def parse_text(text: str, path: Path, split: str | None = None, *, optional: bool = False) -> Table:
    """Reads the text of a file of any kind but Parquet.

    Raises:
        PromptError: the text is broken or holds no prompts.
    """
    kind, hint = kind_of(path), ""
    if kind == ".json":
        check_json(text, path, PromptError)
        rows, split = json_rows(_json(text, path), path, split, optional)
        check_rows(path, len(rows), PromptError)
        return Table.of(str(path), rows, split=split)
    without_splits(f"{path}", split, optional)
    if kind in (".csv", ".tsv", ".tab"):
        rows, hint = read_csv(text, path)
    elif kind in (".jsonl", ".ndjson"):
        check_json(text, path, PromptError)
        found = [_json(line, path, f" line {n}", text) for n, line in _lines(text, path)]
        if len(found) == 1 and isinstance(found[0], list) and not all(map(is_turn, found[0])):
            raise PromptError(f"{path} is one list and not one object a line. Name the file .json.")
        rows, _ = json_rows(found, path)
    else:
        check_no_table(text, path)
        rows = [{"text": line} for _, line in _lines(text, path)]
    return Table.of(str(path), rows, hint=hint)


def _lines(text: str, path: Path) -> Iterator[tuple[int, str]]:
    """Lines that say something, from their first mark on, with their numbers.

    Not splitlines(): it also cuts at line separators that may stand inside a prompt. Not split():
    there may be as many lines as characters. Lines end as those of any system: with a line feed, a
    carriage return or both.
    """
    number, end = 1, 0
    for said, line in enumerate(re.finditer(r"\S[^\r\n]*", text), start=1):
        check_rows(path, said, PromptError)
        between = text[end : line.start()]
        number += between.count("\n") + between.count("\r") - between.count("\r\n")
        end = line.start()
        yield number, line[0]


def _folder(path: Path, split: str | None, optional: bool) -> Table:
    if is_saved_data_set(path):
        return read_saved(path, split, optional)
    name, files = data_files(path, split, optional)
    tables = [read_table(file) for file in files]
    rows = [row for table in tables for row in table.rows]
    check_rows(path, len(rows), PromptError)
    return Table.of(str(path), rows, split=name, hint=tables[0].hint)


def _unknown(path: Path, kind: str) -> str:
    known = ", ".join(SUFFIXES)
    if kind in _SHEETS:
        return (
            f"{path} is a spreadsheet and not a known kind of file: {known}. Save the sheet as "
            "'CSV UTF-8'."
        )
    if kind in _PACKED:
        return f"{path} is packed and not a known kind of file: {known}. Unpack it first."
    return f"{path} is not a known kind of file: {known}."


def _unpacked(content: bytes, path: Path) -> bytes:
    try:
        with gzip.open(io.BytesIO(content)) as file:
            found = file.read(most_bytes() + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise PromptError(f"{path} cannot be unpacked: {shortened(error)} Get it again.") from error
    check_bytes(path, len(found), PromptError, what="bytes or more once unpacked")
    return found


def _decoded(content: bytes, path: Path) -> str:
    """The text of a file: by its byte order mark, else UTF-8."""
    encoding = next((own for mark, own in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        likely = " If it came from Excel or Windows, it is Latin-1." if error.start else ""
        raise PromptError(
            f"{path} is not UTF-8 text (byte {error.object[error.start]:#04x} at offset "
            f"{error.start}). Save it as UTF-8.{likely}"
        ) from error
    if {"\0"} in (set(text[1:40:2]), set(text[:40:2])):
        raise PromptError(f"{path} looks like UTF-16 without its mark. Save it as UTF-8.")
    return text


def _parquet(content: bytes, path: Path) -> list[Row]:
    import pandas as pd

    try:
        with parsing(path, "a Parquet file", PromptError, "Download it again."):
            check_parquet(content, path)
            return records(pd.read_parquet(io.BytesIO(content)))
    except ImportError as error:
        raise PromptError(
            f"reading {path} needs the package 'pyarrow'. "
            "Run: pip install 'refusal-workbench[data]'."
        ) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, of which the last of two values under one key would be taken without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"one object has two values under the key {shortened(repr(twice))}")
    return found


def _json(text: str, path: Path, place: str = "", whole: str = "") -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise PromptError(
            f"{path}{place} nests its values too deep to be read. Check that it holds prompts."
        ) from error
    except ValueError as error:
        hint = ""
        if "Extra data" in str(error):
            hint = " For one object a line, name the file .jsonl."
        elif whole.lstrip().startswith("[") or whole.lstrip()[:2] in ("{\n", "{\r"):
            hint = " For one document over several lines, name the file .json."
        raise PromptError(f"{path}{place} is not proper JSON: {shortened(error)}{hint}") from error
