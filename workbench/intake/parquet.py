"""Parquet files: rows, values and sizes by their headers; texts are counted before they are made.

A text that stands once in a file may stand in every row: a hundred kilobytes unfold to gigabytes.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workbench.errors import PromptError
from workbench.intake.limits import check_bytes, check_elements, check_rows
from workbench.intake.thrift import Struct, Thrift

# Numbers of fields in Parquet's format.
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4
_TYPE, _WIDTH, _NAME, _CHILDREN = 1, 2, 4, 5
_COLUMNS, _CHUNK, _GROUP_ROWS = 1, 3, 3
_PATH, _VALUES, _UNPACKED, _PACKED, _PAGES, _DICTIONARY = 3, 5, 6, 7, 9, 11
_PAGE_UNPACKED, _PAGE_PACKED, _PAGE_KINDS, _PAGE_VALUES = 2, 3, (5, 7, 8), 1

_BYTE_ARRAY, _FIXED_BYTES = 6, 7
Names = tuple[str, ...]
"""Of a column, and of the columns in it down to the one that holds values."""
_DEEPEST = 32
_FOOTER = 8
"""Bytes after the footer: its length, and the mark that the file begins with."""


def check_parquet(content: bytes, path: Path) -> None:
    """Refuses a table of more rows, cells, bytes or characters than are allowed.

    Raises:
        PromptError: it is one.
        Exception: whatever is raised on a damaged file.
    """
    footer = _read_footer(content, path)
    _check_counts(footer, _ROWS)
    check_rows(path, footer[_ROWS], PromptError)
    leaves = list(_leaves(iter(footer[_SCHEMA])))
    widths = [own.get(_WIDTH, 0) if own[_TYPE] == _FIXED_BYTES else 0 for _, own in leaves]
    values = size = 0
    for group in footer[_GROUPS]:
        _check_counts(group, _GROUP_ROWS)
    grouped = sum(group[_GROUP_ROWS] for group in footer[_GROUPS])
    if grouped != footer[_ROWS]:  # room is made for the rows of groups
        raise ValueError(f"its groups count {grouped:,} rows, its footer {footer[_ROWS]:,}")
    for group in footer[_GROUPS]:
        for column, width in zip(group[_COLUMNS], widths, strict=True):
            own_values, own_size = _measured(content, path, column[_CHUNK])
            values += own_values
            size += max(own_size, own_values * width)
    check_elements(path, values, PromptError)
    check_bytes(path, size, PromptError, what="bytes once unpacked")
    _check_texts(content, path, [name for name, own in leaves if own[_TYPE] == _BYTE_ARRAY])


def _check_counts(found: Struct, *fields: int) -> None:
    """Refuses numbers that count something and are below 0: they would lower a sum."""
    for field in fields:
        if found.get(field, 0) < 0:
            raise ValueError(f"it counts {found[field]:,} of something")


def _read_footer(content: bytes, path: Path) -> Struct:
    if not content.startswith(b"PAR1") or not content.endswith(b"PAR1"):
        raise ValueError("it does not begin and end as one")
    (length,) = struct.unpack("<I", content[-_FOOTER:-4])
    start = len(content) - _FOOTER - length
    if start < len(b"PAR1"):
        raise ValueError(f"it claims a footer of {length:,} bytes")
    return Thrift(content[:-_FOOTER], path, start).struct()


def _leaves(schema: Iterator[Struct], inside: Names = ()) -> Iterator[tuple[Names, Struct]]:
    """Columns of values, with their paths, in the order in which groups of rows hold them."""
    if len(inside) > _DEEPEST:
        raise ValueError("columns in columns, too deep")
    element = next(schema)
    _check_counts(element, _CHILDREN, _WIDTH)
    name = (*inside, element[_NAME].decode())
    if _CHILDREN not in element:
        yield name[1:], element
    for _ in range(element.get(_CHILDREN, 0)):
        yield from _leaves(schema, name)


def _measured(content: bytes, path: Path, chunk: Struct) -> tuple[int, int]:
    """Values and unpacked bytes of a part of a column, by its footer or by its pages.

    Raises:
        ValueError: its pages do not lie in the file, or it counts less than nothing.
    """
    _check_counts(chunk, _VALUES, _UNPACKED, _PACKED)
    places = [chunk[place] for place in (_PAGES, _DICTIONARY) if chunk.get(place)]
    if not chunk[_PACKED] or not places:
        return chunk[_VALUES], chunk[_UNPACKED]
    start = min(places)
    end = start + chunk[_PACKED]
    if not 0 < start <= end <= len(content):
        raise ValueError("a column that does not lie in the file")
    pages, values, size = Thrift(content, path, start), 0, 0
    while pages.at < end:
        page = pages.struct()
        heads = [page[kind] for kind in _PAGE_KINDS if kind in page]
        _check_counts(page, _PAGE_PACKED, _PAGE_UNPACKED)
        for head in heads:
            _check_counts(head, _PAGE_VALUES)
        values += sum(head[_PAGE_VALUES] for head in heads)
        size += page[_PAGE_UNPACKED]
        pages.at += page[_PAGE_PACKED]
    return max(values, chunk[_VALUES]), max(size, chunk[_UNPACKED])


def _check_texts(content: bytes, path: Path, texts: list[Names]) -> None:
    """Counts texts, each as many times as it is referred to."""
    import pyarrow as pa

    flat = [name[0] for name in texts if len(name) == 1]
    length = _count(content, path, flat, flat, 0)
    for column in dict.fromkeys(name[0] for name in texts if len(name) > 1):
        inner = [".".join(name) for name in texts if name[0] == column]
        try:
            length = _count(content, path, inner, [column], length)
        except pa.ArrowNotImplementedError:  # of some lists pyarrow cannot keep each text once
            length = _count(content, path, [], [column], length)


def _count(content: bytes, path: Path, once: list[str], columns: list[str], length: int) -> int:
    """Adds the bytes of texts in some columns, where those of ``once`` are kept once each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not columns:
        return length
    with pq.ParquetFile(pa.BufferReader(content), read_dictionary=once) as file:
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise PromptError(f"{path} has two columns of one name: {names}.")
        for batch in file.iter_batches(columns=columns, batch_size=1 << 16 if once else 1 << 6):
            length += sum(map(bytes_of, batch.columns))
            check_bytes(path, length, PromptError, what="bytes of text")
    return length


def bytes_of(array: Any) -> int:
    """Bytes of the texts in an array, at whatever depth, each as often as it stands there."""
    import pyarrow as pa

    kind = array.type
    if pa.types.is_dictionary(kind):
        lengths = np.array([len(own) for own in array.dictionary.cast(pa.binary()).to_pylist()])
        used = array.indices.drop_null().to_numpy()
        return int(lengths[used].sum()) if len(used) else 0
    if pa.types.is_struct(kind):
        return sum(map(bytes_of, array.flatten()))
    if pa.types.is_map(kind):
        return bytes_of(array.keys) + bytes_of(array.items)
    if pa.types.is_nested(kind):
        return bytes_of(array.flatten())
    return array.nbytes
