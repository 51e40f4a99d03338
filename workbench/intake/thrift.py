"""Thrift's compact protocol, in which Parquet writes its footer and the headers of its pages.

pyarrow shows them too, but on some damaged footers what shows them ends the whole process.
"""

from pathlib import Path
from typing import Any

from workbench.errors import PromptError
from workbench.intake.limits import check_elements

_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = (
    0, 1, 2, 3, 7, 8, 9, 10, 11, 12,
)  # fmt: skip
_INTEGERS = (4, 5, 6)
_DEEPEST = 20
_LONG = 15
_BYTES = 128
"""What a value of a header takes in memory, at most; a struct is two."""

Struct = dict[int, Any]
"""Values by the number of their field: numbers, bytes, lists, and structs in structs."""


class Thrift:
    """Reads structs out of the bytes of a file, one after the other.

    Attributes:
        at: where the next one begins.
    """

    def __init__(self, content: bytes, path: Path, at: int = 0) -> None:
        self._content, self._path, self.at = content, path, at
        self._values = 0

    def struct(self, depth: int = 0) -> Struct:
        """The next struct.

        Raises:
            ValueError: there is none, or it is cut off.
            PromptError: it holds more values than are allowed.
        """
        self._count(0 if depth else -self._values)
        if depth > _DEEPEST:
            raise ValueError("structs in structs, too deep")
        fields: Struct = {}
        number = 0
        while (head := self._byte()) != _STOP:
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            # Here the kind is the value, while in a list it has a byte of its own.
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _count(self, more: int = 0) -> None:
        self._values += 1 + more
        check_elements(self._path, self._values, PromptError, "values in a header", _BYTES)

    def _value(self, kind: int, depth: int) -> Any:
        self._count()
        if kind in _INTEGERS:
            return self._integer()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind in (_BYTE, _TRUE, _FALSE):
            return self._byte()
        if kind == _DOUBLE:
            return self._take(8)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _MAP:
            length = self._length(self._varint())
            kinds = self._byte() if length else 0
            for _ in range(length):
                self._value(kinds >> 4, depth + 1)
                self._value(kinds & 15, depth + 1)
            return None
        raise ValueError(f"a field of type {kind}, which is none")

    def _list(self, depth: int) -> list[Any]:
        if depth > _DEEPEST:
            raise ValueError("lists in lists, too deep")
        head = self._byte()
        length = self._length(self._varint() if head >> 4 == _LONG else head >> 4)
        return [self._value(head & 15, depth + 1) for _ in range(length)]

    def _length(self, length: int) -> int:
        if length > len(self._content) - self.at:
            raise ValueError(f"it claims a list of {length:,} entries")
        return length

    def _take(self, length: int) -> bytes:
        start, self.at = self.at, self.at + length
        if self.at > len(self._content):
            raise ValueError("it ends within a header")
        return self._content[start : self.at]

    def _byte(self) -> int:
        return self._take(1)[0]

    def _varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._byte()
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number
            if shift > 63:
                raise ValueError("a number that is too long")

    def _integer(self) -> int:
        number = self._varint()
        return (number >> 1) ^ -(number & 1)
