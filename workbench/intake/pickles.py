"""Pickles of torch: what they ask for is listed before anything is made, and measured after.

torch opens them with its restricted unpickler. Its list of harmless classes still makes room for
any number of bytes, and NumPy's types are objects that all arrays of the process share: what a
file says of one is kept in a stand-in here, and arrays are built anew from it.
"""

import io
import pickletools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import ArtifactError
from workbench.intake.limits import check_bytes, check_elements, read_bytes, shortened
from workbench.intake.zips import packed, repacked

_TENSORS = {
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.Size",
    "torch.storage.UntypedStorage",
    "collections.OrderedDict",
    *(
        f"torch.{kind}Storage"
        for kind in (
            *("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte"),
            *("Bool", "ComplexFloat", "ComplexDouble"),
        )
    ),
    *(
        f"torch.{kind}"
        for kind in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "device")
    ),
}
"""What plain tensors, and dicts of them, are made of."""

_OTHER_TENSORS = re.compile(
    r"torch\._utils\._rebuild_|torch\.float8|torch\.\w*qu?int|torch\.sparse"
)
_OPERATIONS_OF_A_TUPLE = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_BYTES = 256
"""What an operation of a pickle leaves in memory, at most: an object with its attributes."""
_MOST_TUPLES = 20_000
"""Of a thousand tensors; a tuple in a tuple, and so on, would overflow the stack when hashed."""

_ZIP = b"PK"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_N_LEGACY_PICKLES = 5


class _Kind:
    """Stands in for a NumPy type: what it is called, and its byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = str(name), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def made(self) -> Any:
        if not re.fullmatch(r"[fiub]\d{1,2}", self.name) or self.order not in ("<", ">", "|", "="):
            raise ValueError(f"numbers of the type {self.order}{self.name}")
        return np.dtype(f"{self.order}{self.name}")


class _Array:
    """Stands in for a NumPy array, until its type and its bytes are known to fit."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    @property
    def nbytes(self) -> int:
        *_, content = self.state or [b""]
        return len(content) if isinstance(content, bytes) else 0

    def made(self) -> np.ndarray:
        _, shape, kind, by_column, content = self.state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise ValueError("an array of no numbers")
        numbers = np.frombuffer(content, kind.made()).copy()
        return numbers.reshape(tuple(map(int, shape)), order="F" if by_column else "C")


def _new_array(*_: Any) -> _Array:
    return _Array()


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes that were written in {encoding!r}, not in latin1")
    return text.encode("latin1")


_STAND_INS: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": _new_array,  # as numpy 1 wrote it
    "numpy._core.multiarray._reconstruct": _new_array,
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    "_codecs.encode": _encoded,
}


def read_torch(path: Path, classes: Mapping[str, type]) -> Any:
    """What a file of ``torch.save`` holds: plain numbers, dense tensors and arrays, on the CPU.

    Half precision becomes float32, which holds it exactly; tensors come without their gradients.

    Args:
        path: the file.
        classes: stand-ins, by the full name of the class of which only attributes are filled.

    Raises:
        ArtifactError: it asks for anything else, which is named; or holds or claims too much.
        Exception: whatever torch raises on a damaged file.
    """
    content = read_bytes(path)
    if content.startswith(_ZIP):
        entries = repacked(content, path)
        pickles: Iterable[io.BytesIO] = [
            io.BytesIO(own) for name, own in entries.items() if name.endswith(".pkl")
        ]
        stream = packed(entries)  # so that what was looked at is what is read
    elif content.startswith(_LEGACY):
        stream = io.BytesIO(content)
        one = io.BytesIO(content)
        pickles = [one] * _N_LEGACY_PICKLES
    else:
        _check_asked(path, [io.BytesIO(content)], classes)  # a bare pickle names what it asks for
        raise ValueError("it begins as none")
    _check_asked(path, pickles, classes)
    allowed: list[Any] = [(own, name) for name, own in {**_STAND_INS, **classes}.items()]
    with torch.serialization.safe_globals(allowed):
        found = torch.load(stream, map_location="cpu", weights_only=True)
    return _Plain(path, tuple(classes.values())).of(found)


def _check_asked(path: Path, pickles: Iterable[io.BytesIO], classes: Mapping[str, type]) -> None:
    """Refuses whatever is named in a pickle and not needed for tensors and arrays."""
    known, tuples, number = _TENSORS | set(_STAND_INS) | set(classes), 0, 0
    for each in pickles:
        for operation, argument in _operations(each):
            number += 1
            check_elements(path, number, what="operations of a pickle", each=_BYTES)
            tuples += operation.name in _OPERATIONS_OF_A_TUPLE
            if operation.name != "GLOBAL":
                continue
            name = ".".join(str(argument).split(" ", 1))
            if name in known:
                continue
            if _OTHER_TENSORS.match(name):
                raise ArtifactError(
                    f"{path} holds a tensor that is not a plain one ({name}): sparse, quantised, "
                    "in float8 or without its numbers. Save it dense, on the CPU and in float32."
                )
            raise ArtifactError(
                f"{path} asks for {name}, which is neither array nor tensor; it was not run."
            )
    if tuples > _MOST_TUPLES:
        raise ArtifactError(f"{path} is broken: a pickle of {tuples:,} tuples.")


def _operations(pickle: io.BytesIO) -> Iterator[tuple[Any, Any]]:
    """What a pickle does, each with its argument."""
    try:
        for operation, argument, _ in pickletools.genops(pickle):
            yield operation, argument
    except ValueError as error:
        raise ValueError(f"it is cut off or damaged ({shortened(error).rstrip('.')})") from error


class _Plain:
    """Makes plain tensors and arrays of what was unpickled, and counts them.

    Each is counted before it takes memory of its own. What stands twice is made once, and counted
    as often as it stands there.
    """

    def __init__(self, path: Path, classes: tuple[type, ...]) -> None:
        self._path, self._classes = path, classes
        self._made: dict[int, tuple[Any, int, int]] = {}
        self._kept: list[Any] = []
        self._bytes = 0

    def of(self, found: Any) -> Any:
        return self._sized(found)[0]

    def _sized(self, found: Any) -> tuple[Any, int, int]:
        """A value, how many values it holds, and the bytes of its numbers."""
        if isinstance(found, str | bytes | int | float | None):
            return found, 1, 0
        if id(found) in self._made:
            made = self._made[id(found)]
            if made[1] < 0:
                raise ValueError("something that holds itself")
            return made
        self._kept.append(found)  # so that no other takes its id
        self._made[id(found)] = (None, -1, 0)
        self._made[id(found)] = made = self._counted(found)
        check_elements(self._path, made[1], what="values")
        check_bytes(self._path, made[2], what="bytes of numbers")
        return made

    def _counted(self, found: Any) -> tuple[Any, int, int]:
        if isinstance(found, _Array):
            self._take(found.nbytes)
            array = found.made()
            return array, 1, array.nbytes
        if isinstance(found, Tensor):
            self._take(found.numel() * max(found.element_size(), found.is_floating_point() * 4))
            tensor = self._dense(found)
            return tensor, 1, tensor.numel() * tensor.element_size()
        if isinstance(found, _Kind):
            raise ValueError("a type and no array of it")
        if isinstance(found, self._classes):
            own, count, size = self._sized(dict(vars(found)))
            made = object.__new__(type(found))
            made.__dict__.update(own)
            return made, count, size
        if isinstance(found, Mapping):
            values = [self._sized(each) for each in found.values()]
            made = dict(zip(found, (each[0] for each in values), strict=True))
            return made, *_total(values)
        if isinstance(found, list | tuple) and not isinstance(found, torch.Size):
            values = [self._sized(each) for each in found]
            made = [each[0] for each in values]
            return made if isinstance(found, list) else tuple(made), *_total(values)
        return found, 1, 0

    def _take(self, size: int) -> None:
        self._bytes += size
        check_bytes(self._path, self._bytes, what="bytes of numbers")

    def _dense(self, tensor: Tensor) -> Tensor:
        """The tensor without gradients, dense, in a precision that can be reckoned with."""
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise ArtifactError(
                f"{self._path} holds a tensor that is not a plain one ({tensor.layout}, "
                f"{tensor.dtype}, on {tensor.device}). Save it dense, on the CPU and in float32."
            )
        return dense(self._path, tensor)


def dense(path: Path, tensor: Tensor) -> Tensor:
    """A strided tensor in its own memory, without gradients; half precision as float32.

    Raises:
        ArtifactError: it is in float8, or claims more numbers than are allowed.
    """
    check_bytes(path, prod(tensor.shape) * tensor.element_size(), what="bytes of numbers")
    if tensor.is_floating_point() and tensor.element_size() == 1:
        raise ArtifactError(
            f"{path} holds numbers in {tensor.dtype}, which mean nothing without their scale. "
            "Save them in float32."
        )
    plain = tensor.detach().resolve_conj().resolve_neg()
    half = plain.dtype in (torch.float16, torch.bfloat16)
    return (plain.float() if half else plain).contiguous()


def _total(values: Sequence[tuple[Any, int, int]]) -> tuple[int, int]:
    return 1 + sum(each[1] for each in values), sum(each[2] for each in values)
