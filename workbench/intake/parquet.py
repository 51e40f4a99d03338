"""Parquet files: rows, values and sizes by the footer; texts are counted before they are made.

A text that stands once in a file may stand in every row: a hundred kilobytes unfold to gigabytes.
"""

from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.intake.limits import check_bytes, check_elements, check_rows

_TEXT = "BYTE_ARRAY"


def check_parquet(content: bytes, path: Path) -> None:
    """Refuses a table of more rows, cells, bytes or characters than are allowed.

    Raises:
        PromptError: it is one.
        Exception: whatever pyarrow raises on a damaged file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(pa.BufferReader(content)) as file:
        found, names = file.metadata, file.schema_arrow.names
        if len(set(names)) < len(names):
            raise PromptError(f"{path} has two columns of one name: {names}.")
        check_rows(path, found.num_rows, PromptError)
        groups = [found.row_group(i) for i in range(found.num_row_groups)]
        chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
        check_elements(path, sum(chunk.num_values for chunk in chunks), PromptError)
        columns = [found.schema.column(i) for i in range(found.num_columns)]
        wide = {column.path: column.length for column in columns if column.length > 0}
        size = sum(
            max(chunk.total_uncompressed_size, chunk.num_values * wide.get(chunk.path_in_schema, 0))
            for chunk in chunks
        )
        check_bytes(path, size, PromptError, what="bytes once unpacked")
        texts = [column.path for column in columns if column.physical_type == _TEXT]
    if texts:
        _check_texts(content, path, texts)


def _check_texts(content: bytes, path: Path, texts: list[str]) -> None:
    """Counts texts where each stands once, as many times as it is referred to."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    length, roots = 0, {name.split(".", 1)[0] for name in texts}
    with pq.ParquetFile(pa.BufferReader(content), read_dictionary=texts) as file:
        for batch in file.iter_batches(columns=sorted(roots), batch_size=1 << 16):
            length += sum(map(_length, batch.columns))
            check_bytes(path, length, PromptError, what="bytes of text")


def _length(array: Any) -> int:
    """Bytes of the texts in an array, at whatever depth, each as often as it stands there."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = array.type
    if pa.types.is_dictionary(kind):
        own = _lengths(array.dictionary)
        return pc.sum(pc.take(own, array.indices)).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(map(_length, array.flatten()))
    if pa.types.is_map(kind):
        return _length(array.keys) + _length(array.items)
    if pa.types.is_nested(kind):
        return _length(array.flatten())
    return array.nbytes


def _lengths(texts: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.cast(pc.binary_length(texts), pa.int64())
