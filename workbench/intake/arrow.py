"""Arrow streams, as `datasets` saves tables: refused where packed, and counted before rows are.

What is not packed lies in the file as it is. Still a text that stands there once may stand in every
row, so texts are counted as often as they are referred to.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.intake.limits import check_bytes, check_elements, regular_file
from workbench.intake.parquet import bytes_of

# Numbers of fields in Arrow's format, and of what its messages can be.
_KIND, _HEADER = 1, 2
_BATCH_OF_DICTIONARY, _PACKED = 1, 3
_DICTIONARY, _BATCH = 2, 3


def check_arrow(origin: Path, files: Iterable[Path]) -> None:
    """Refuses a table, the files of which are read together, that holds more than is allowed.

    Raises:
        PromptError: it does, or is packed.
        Exception: whatever is raised on a damaged file.
    """
    import pyarrow as pa

    values = size = 0
    for path in files:
        regular_file(path, PromptError)
        with pa.memory_map(str(path)) as file:
            for message in pa.ipc.MessageReader.open_stream(file):
                _check_plain(path, memoryview(message.metadata))
            file.seek(0)
            for batch in pa.ipc.open_stream(file):
                batch.validate(full=True)
                values += sum(map(_values, batch.columns))
                check_elements(origin, values, PromptError)
                size += sum(map(bytes_of, batch.columns))
                check_bytes(origin, size, PromptError, what="bytes of text and numbers")


def _values(array: Any) -> int:
    """How many values an array holds, those in lists and structs included."""
    import pyarrow as pa
    from pyarrow import types

    kind = array.type
    if types.is_struct(kind):
        return len(array) + sum(map(_values, array.flatten()))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return len(array) + _values(array.flatten())
    if types.is_map(kind):
        return len(array) + _values(array.keys) + _values(array.items)
    if isinstance(kind, pa.BaseExtensionType):
        return _values(array.storage)
    texts = types.is_string(kind) or types.is_large_string(kind)
    content = types.is_binary(kind) or types.is_large_binary(kind)
    numbers = types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind)
    if texts or content or numbers or types.is_dictionary(kind):
        return len(array)
    raise ValueError(f"a column of type {kind}, which cannot be counted here")


def _check_plain(path: Path, message: memoryview) -> None:
    """Refuses a message whose numbers are packed: how much they unpack to is not told before."""
    root = struct.unpack_from("<I", message)[0]
    kind, header = _field(message, root, _KIND), _field(message, root, _HEADER)
    if kind is None or header is None or message[kind] not in (_DICTIONARY, _BATCH):
        return
    batch: int | None = _follow(message, header)
    if message[kind] == _DICTIONARY:
        own = _field(message, batch, _BATCH_OF_DICTIONARY)
        batch = None if own is None else _follow(message, own)
    if batch is not None and _field(message, batch, _PACKED) is not None:
        raise PromptError(
            f"{path} is a packed Arrow file, of which nothing says how much it unpacks to. Save "
            "the data set again with save_to_disk of 'datasets', which does not pack it, or as "
            ".parquet."
        )


def _field(content: memoryview, table: int, number: int) -> int | None:
    """Where a field of a table of FlatBuffers lies; None where the table has none."""
    entries = table - struct.unpack_from("<i", content, table)[0]
    place = 4 + 2 * number
    if place >= struct.unpack_from("<H", content, entries)[0]:
        return None
    shift = struct.unpack_from("<H", content, entries + place)[0]
    return table + shift if shift else None


def _follow(content: memoryview, place: int) -> int:
    return place + struct.unpack_from("<I", content, place)[0]
