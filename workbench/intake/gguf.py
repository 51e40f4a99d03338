"""GGUF files: every length in the header is compared with the file before a reader follows it."""

import mmap
import struct
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

from workbench.errors import ArtifactError, ModelError
from workbench.intake.limits import check_bytes, check_elements, shortened

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type; a text is 8, an array 9."""
_WHOLE = {2: "<H", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
"""Whole numbers that a header counts with, by the number of their type."""
_TEXT, _ARRAY = 8, 9
_LEAST = 13
"""Bytes of the shortest entry: an empty name, a type, a byte."""
_BYTES = 768
"""What the reader keeps of every number that it meets, and of the length and the characters of
every text: a view of the file, as an object."""
_MOST_IN_ARRAYS = 10_000
_MOST_OF_A_MODEL = 3 * 2**30
"""Bytes of memory for a language model's header: twice what the largest vocabularies take."""
_ARCHITECTURE = b"general.architecture"
_ALIGNMENT, _SPLIT, _BLOCKS = b"general.alignment", b"split.count", b".block_count"
_ALIGNED = 32
"""Where tensors begin by default: at multiples of so many bytes."""
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


@dataclass(frozen=True)
class ModelHeader:
    """What the header of a language model says, once it fits the file.

    Attributes:
        architecture: its name, as llama.cpp calls it.
        types: how many tensors are stored in each type, by its name, such as ``Q4_1``.
        numbers: how many numbers all tensors hold.
        quantized: the types that hold blocks and no numbers, sorted.
    """

    architecture: str
    types: dict[str, int]
    numbers: int
    quantized: tuple[str, ...]


_PLAIN_TYPES = ("BF16", "F16", "F32", "F64", "I16", "I32", "I64", "I8")


def check_gguf_model(path: Path) -> ModelHeader:
    """Refuses a language model whose header claims more than the file holds.

    Its vocabulary is long arrays, so what a reader makes of the header is bounded as a whole. Each
    tensor has to lie within the file, and all together may take no more than it has.

    Raises:
        ModelError: it does not; is one part of several; is no language model or no GGUF file; or
            its header takes more memory than is allowed.
        ImportError: the package ``gguf``, which knows the types, is not installed.
    """
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
    with path.open("rb") as file:
        try:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file
            raise ModelError(f"{path} is broken or not a GGUF file: {shortened(error)}") from error
        with content:
            try:
                header = _Header(content, path, _MOST_OF_A_MODEL)
                header.walk()
                header.check_tensors(sizes)
            except (struct.error, ValueError, OverflowError) as error:
                raise ModelError(
                    f"{path} is broken or not a GGUF file: {shortened(error)}"
                ) from error
    if header.parts > 1:
        raise ModelError(
            f"{path} is one of {header.parts:,} parts of a model. Join them first: "
            "`llama-gguf-split --merge FIRST-PART OUT.gguf`."
        )
    if header.architecture is None:
        raise ModelError(f"{path} names no architecture, so it is no language model.")
    types = Counter(GGMLQuantizationType(own.kind).name for own in header.tensors)
    return ModelHeader(
        header.architecture,
        dict(sorted(types.items())),
        sum(own.numbers for own in header.tensors),
        tuple(sorted(set(types) - set(_PLAIN_TYPES))),
    )


@dataclass(frozen=True)
class _Tensor:
    """One entry of the table of tensors."""

    name: bytes
    numbers: int
    kind: int
    offset: int


class _Header:
    """Walks over a header without making anything of it but a few names and numbers.

    Attributes:
        architecture: its name; None where there is none.
        values: numbers and parts of texts that a reader makes objects of.
        in_arrays: those of them that stand in arrays.
        parts: how many files the model is split into.
        tensors: the table of tensors.
    """

    def __init__(self, content: mmap.mmap, path: Path, most: int | None = None) -> None:
        self._content, self._path, self._most = content, path, most
        self._at, self.values, self.in_arrays = 0, 0, 0
        self.architecture: str | None = None
        self.parts, self._alignment, self._blocks = 1, _ALIGNED, 0
        self.tensors: list[_Tensor] = []

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
            elif kind in _WHOLE:
                self._take(name, struct.unpack_from(_WHOLE[kind], self._content, start)[0])
        for _ in range(n_tensors):
            name = self._text()
            self._count(4)
            n_axes = self._number("<I")
            if n_axes > _MOST_AXES:
                raise ValueError(f"a tensor of {n_axes:,} axes")
            numbers = prod(self._number("<Q") for _ in range(n_axes))
            self.tensors.append(_Tensor(name, numbers, self._number("<I"), self._number("<Q")))

    def _take(self, name: bytes, value: int) -> None:
        """Remembers a whole number that says how the file is to be read."""
        if name == _SPLIT:
            self.parts = value
        elif name == _ALIGNMENT:
            self._alignment = value
        elif name.endswith(_BLOCKS):
            self._blocks = max(self._blocks, value)

    def check_tensors(self, sizes: dict[int, tuple[int, int]]) -> None:
        """Refuses tensors that are not within the file, or blocks without tensors.

        Args:
            sizes: numbers and bytes of a block, by the number of the type.

        Raises:
            ValueError: they are not.
        """
        if self._alignment < 1:
            raise ValueError(f"tensors aligned at {self._alignment} bytes")
        start = -(-self._at // self._alignment) * self._alignment
        held, whole = len(self._content) - start, 0
        for own in self.tensors:
            shown = own.name.decode(errors="replace")
            if own.kind not in sizes:
                raise ValueError(f"tensor {shown} is of type {own.kind}, which is none")
            numbers, size = sizes[own.kind]
            if own.numbers % numbers:
                raise ValueError(
                    f"tensor {shown} of {own.numbers:,} numbers, in blocks of {numbers}"
                )
            length = own.numbers // numbers * size
            whole += length
            if own.offset + length > held:
                raise ValueError(
                    f"tensor {shown} ends at byte {start + own.offset + length:,}, and the file "
                    f"has {len(self._content):,}"
                )
        if whole > held:
            raise ValueError(f"tensors of {whole:,} bytes share {held:,}")
        if self._blocks > len(self.tensors):
            raise ValueError(f"it claims {self._blocks:,} blocks of {len(self.tensors):,} tensors")

    def _count(self, more: int = 1) -> None:
        self.values += more
        if self._most is None:
            check_elements(self._path, self.values, what="values")
        else:
            what = "bytes once its header is read"
            check_bytes(self._path, self.values * _BYTES, ModelError, self._most, what)

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
