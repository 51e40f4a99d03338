"""Whether a value is what an annotation says, and the value as that."""

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

_SEVERAL = (Sequence, Collection, Iterable, tuple, list, set, frozenset)

EMPTY_PATH = "the path is empty. Pass that of a file or folder; the current folder is '.'."
_LEAST = {
    "seed": 0,
    "columns": 1,
    "n_bootstrap": 1,
    "n_components": 1,
    "n_prompts": 1,
    "top_k": 1,
    "max_bytes": 1,
    "max_rows": 1,
    "kl_cap": 0,
}
"""Of counts that a function does not check by itself, the smallest."""
_MOST = {"seed": 2**32 - 1}
"""Of the same, the largest: scikit-learn takes no larger seed."""

_FINITE = ("coefficient", "value")
"""Arguments that are written into the stream, where infinity would become NaN."""


_NAMED = ("model", "name", "revision", "release", "sae_id", "device", "dtype")
"""Arguments that name something, where they are text."""


class Misfit(Exception):
    """A value that is not of the kind."""


class Unfit(Exception):
    """A value of the kind that makes no sense; says why, and what would."""


def fitted(value: Any, kind: Any) -> Any:
    """The value, as an annotation says it is.

    Raises:
        Misfit: it is not.
        Unfit: it is, and cannot be meant.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar | str):
        return value
    if kind in (int, float, bool):
        return _number(value, kind)
    if origin in (Union, UnionType):
        return _one_of(value, inner)
    if origin is Literal:
        if not isinstance(value, str) or value not in inner:
            raise Misfit
        return str(value)
    if origin in _SEVERAL:
        return _several(value, origin, inner)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise Misfit
        return value if inner[1] is Any else {k: fitted(v, inner[1]) for k, v in value.items()}
    if origin is Callable:
        return _held(value, callable(value))
    if hasattr(kind, "array_type"):
        return _array(value, kind)
    return _held(value, _is(value, origin or kind))


def is_blank(value: Any) -> bool:
    """Whether a value is text that says nothing."""
    return isinstance(value, str) and not value.strip()


def ranged(name: str, value: Any, of_record: bool = False) -> Any:
    """The value, where an argument of that name can have it.

    Args:
        name: of the argument.
        value: what was passed.
        of_record: whether it is a field of a record, which checks its own shares and counts.

    Raises:
        Unfit: NaN, a layer below 0, infinity where it would be written into the stream, a share or
            a count out of its range, or an empty name.
    """
    if name in _NAMED and is_blank(value):
        raise Unfit(f"{name} must be text that is not blank, found {value!r}.")
    for each in value if isinstance(value, tuple) else (value,):
        if type(each) not in (int, float):
            continue
        if math.isnan(each):  # compares with nothing, so that no threshold would hold
            raise Unfit(f"{name} must be a finite number, found {each}.")
        if name in ("layer", "layers") and each < 0:
            raise Unfit(f"no layer {each}: layers are numbered from 0 to model.n_layers - 1.")
        if name in _FINITE and math.isinf(each):
            raise Unfit(f"{name} must be a finite number, found {each}.")
        if name == "strength" and of_record and not 0 <= each <= 1:
            raise Unfit(
                "strength is the share of the component that is removed: expected 0 to 1, found "
                f"{each}."
            )
        if of_record:
            continue
        if name == "confidence" and not 0 < each < 1:
            raise Unfit(f"confidence {each} is not between 0 and 1.")
        least = _LEAST.get(name)
        if least is not None and each < least:
            raise Unfit(f"{name} must be at least {least}, found {each}.")
        if name in _MOST and each > _MOST[name]:
            raise Unfit(f"{name} must be at most {_MOST[name]}, found {each}.")
        if name == "skip_last" and not 0 <= each < 1:
            raise Unfit(f"skip_last must be in [0, 1), found {each}.")
        if name == "regularization" and each <= 0:
            raise Unfit(f"regularization must be above 0, found {each}.")
    return value


def _is(value: Any, kind: Any) -> bool:
    if kind in (None, NoneType):
        return value is None
    if getattr(kind, "__name__", "") == "Path":
        return isinstance(value, os.PathLike)
    if getattr(kind, "_is_protocol", False) and not getattr(kind, "_is_runtime_protocol", False):
        return True  # it says what something can do, and cannot be asked
    return not isinstance(kind, type) or isinstance(value, kind)


def _held(value: Any, fits: bool) -> Any:
    if not fits:
        raise Misfit
    return value


def _number(value: Any, kind: type) -> Any:
    """A number out of itself, a NumPy scalar, or an array or tensor without axes."""
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if kind is bool or isinstance(value, bool):
        return _held(value, kind is bool and isinstance(value, bool))
    if kind is int:
        return _held(value, isinstance(value, int))
    return _held(value, isinstance(value, int | float))


def _one_of(value: Any, kinds: tuple[Any, ...]) -> Any:
    if Path in kinds and is_blank(value):  # it would mean the folder that one is in
        raise Unfit(EMPTY_PATH)
    unfit: Unfit | None = None
    for kind in kinds:
        try:
            return fitted(value, kind)
        except Misfit:
            continue
        except Unfit as error:
            unfit = error
    raise unfit or Misfit


def _several(value: Any, origin: Any, inner: tuple[Any, ...]) -> Any:
    """Each of several, as a tuple; a tuple of fixed length has that length."""
    if inner and get_origin(inner[0]) is Literal:
        if isinstance(value, str):
            return value  # which words, and how often, is asked where they are used
        inner = (str, *inner[1:])
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise Misfit
    if getattr(value, "ndim", 1) != 1:
        raise Misfit  # an array with more axes, or none
    rows = tuple(value)
    if origin is tuple and inner[-1:] != (...,):
        if len(rows) != len(inner):
            raise Misfit
        return tuple(fitted(row, kind) for row, kind in zip(rows, inner, strict=True))
    made = tuple(fitted(row, inner[0]) if inner else row for row in rows)
    same = len(made) == len(rows) and all(a is b for a, b in zip(made, rows, strict=True))
    return value if same and isinstance(value, tuple | set | frozenset) else made


def _array(value: Any, kind: Any) -> Any:
    """An array or tensor with as many axes, and of such numbers, as a jaxtyping annotation says."""
    if not isinstance(value, kind.array_type):
        raise Misfit
    axes = [axis for axis in kind.dim_str.split() if axis]
    counted = not any(axis.startswith("*") or axis == "..." for axis in axes)
    if counted and value.ndim != len(axes):
        raise Unfit(f"expected the axes ({', '.join(axes)}), found shape {tuple(value.shape)}.")
    name = str(value.dtype).removeprefix("torch.")
    if kind.dtypes is not Any and not isinstance(kind.dtypes, str) and name not in kind.dtypes:
        raise Unfit(f"expected {_numbers(kind)} numbers, found {name}.")
    return value


def _numbers(kind: Any) -> str:
    """The numbers of a jaxtyping annotation, in words."""
    name = str(kind.__name__).split("[")[0]
    return {"Float": "floating", "Int": "whole", "Bool": "true or false"}.get(name, name.lower())
