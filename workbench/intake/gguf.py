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
_MOST_IN_ARRAYS = 10_000
_ARCHITECTURE = b"general.architecture"
_LONGEST_NAME = 64
_DEEPEST = 4
_MOST_AXES = 8
_VERSIONS = (2, 3)


def check_gguf(path: Path, architecture: str, advice: str) -> None:
    """Refuses a header that claims more than the file holds, or belongs to something else.

    A reader makes objects of all that a header holds, so this comes first.

    Args:
        path: the file.
        architecture: that it has to be of.
        advice: how the error of another one ends.

    Raises:
        ArtifactError: it does, is of another architecture or no GGUF file, or holds long arrays.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            header = _Header(content, path)
            header.walk()
        except (struct.error, ValueError) as error:
            raise ArtifactError(f"{path} is broken or not a GGUF file: {error}.") from error
    if header.architecture != architecture:
        found = "none" if header.architecture is None else repr(header.architecture)
        raise ArtifactError(
            f"{path} is a GGUF of architecture {found}: expected {architecture!r}, {advice}"
        )
    if header.in_arrays > _MOST_IN_ARRAYS:
        raise ArtifactError(
            f"{path} holds arrays of {header.in_arrays:,} values in its header, and at most "
            f"{_MOST_IN_ARRAYS:,} are read: a {architecture} has none. Export it again."
        )
    check_elements(path, header.values, what="values in its header", each=_BYTES)


class _Header:
    """Walks over a header without making anything of it but the name of the architecture.

    Attributes:
        architecture: its name; None where there is none.
        values: numbers and parts of texts that a reader makes objects of.
        in_arrays: those of them that stand in arrays.
    """

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self._content, self._path = content, path
        self._at, self.values, self.in_arrays = 0, 0, 0
        self.architecture: str | None = None

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
            name, kind = self._text(), self._number("<I")
            self._count()
            start = self._at
            self._value(kind)
            if name == _ARCHITECTURE and kind == _TEXT:
                if self.architecture is not None:
                    raise ValueError("it names its architecture twice")
                self.architecture = self._content[start + 8 : self._at][:_LONGEST_NAME].decode()
        for _ in range(n_tensors):
            self._text()
            self._count(4)
            n_axes = self._number("<I")
            if n_axes > _MOST_AXES:
                raise ValueError(f"a tensor of {n_axes:,} axes")
            self._skip(8 * n_axes + 4 + 8)

    def _count(self, more: int = 1) -> None:
        self.values += more
        check_elements(self._path, self.values, what="values")

    def _value(self, kind: int, depth: int = 0) -> None:
        self._count()
        if kind == _TEXT:
            self._text()
        elif kind == _ARRAY:
            if depth == _DEEPEST:
                raise ValueError("arrays of arrays, too deep")
            inner, length = self._number("<I"), self._number("<Q")
            self._count(length)
            self.in_arrays += length
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

    def _text(self) -> bytes:
        """The next text; of a long one the beginning."""
        self._count()
        length = self._number("<Q")
        start = self._at
        self._skip(length)
        return self._content[start : min(self._at, start + _LONGEST_NAME)]

    def _number(self, form: str) -> int:
        start = self._at
        self._skip(struct.calcsize(form))
        return struct.unpack_from(form, self._content, start)[0]

    def _skip(self, length: int) -> None:
        self._at += length
        if self._at > len(self._content):
            raise ValueError(f"it ends after {len(self._content):,} bytes, within its header")
