"""GGUF files: every length in the header is compared with the file before a reader follows it."""

import mmap
import struct
from pathlib import Path

from workbench.errors import ArtifactError
from workbench.intake.limits import check_elements

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type; a text is 8, an array 9."""
_TEXT, _ARRAY = 8, 9
_LEAST = 13
"""Bytes of the shortest entry: an empty name, a type, a byte."""
_BYTES = 768
"""What the reader keeps of every number that it meets, and of the length and the characters of
every text: a view of the file, as an object."""
_DEEPEST = 4
_MOST_AXES = 8
_VERSIONS = (2, 3)


def check_gguf(path: Path) -> None:
    """Refuses a header that claims more than the file holds.

    Raises:
        ArtifactError: it does, or it is no GGUF file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            _Header(content, path).walk()
        except (struct.error, ValueError) as error:
            raise ArtifactError(f"{path} is broken or not a GGUF file: {error}.") from error


class _Header:
    """Walks over a header without making anything of it."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self._content, self._path = content, path
        self._at, self._values = 0, 0

    def walk(self) -> None:
        if self._content[:4] != b"GGUF":
            raise ValueError("it does not begin as one")
        self._skip(4)
        version = self._number("<I")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}, where {_VERSIONS} are known")
        n_tensors, n_fields = self._number("<Q"), self._number("<Q")
        if (n_tensors + n_fields) * _LEAST > len(self._content):
            raise ValueError(
                f"it claims {n_tensors + n_fields:,} entries in {len(self._content):,} bytes"
            )
        for _ in range(n_fields):
            self._text()
            self._count()
            self._value(self._number("<I"))
        for _ in range(n_tensors):
            self._text()
            self._count(4)
            n_axes = self._number("<I")
            if n_axes > _MOST_AXES:
                raise ValueError(f"a tensor of {n_axes:,} axes")
            self._skip(8 * n_axes + 4 + 8)

    def _count(self, more: int = 1) -> None:
        self._values += more
        check_elements(self._path, self._values, what="values in its header", each=_BYTES)

    def _value(self, kind: int, depth: int = 0) -> None:
        self._count()
        if kind == _TEXT:
            self._text()
        elif kind == _ARRAY:
            if depth == _DEEPEST:
                raise ValueError("arrays of arrays, too deep")
            inner, length = self._number("<I"), self._number("<Q")
            self._count(length)
            if inner in _SIZES:
                self._skip(length * _SIZES[inner])
                return
            if length > len(self._content):
                raise ValueError(f"it claims an array of {length:,} entries")
            for _ in range(length):
                self._value(inner, depth + 1)
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise ValueError(f"a value of type {kind}, which is none")

    def _text(self) -> None:
        self._count()
        self._skip(self._number("<Q"))

    def _number(self, form: str) -> int:
        start = self._at
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self._content, start)[0]

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._content):
            raise ValueError(f"it ends after {len(self._content):,} bytes, within its header")
