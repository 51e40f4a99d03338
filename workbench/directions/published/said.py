"""What a dict says of the place of its vectors in words of its own: understood, or asked for."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.directions.direction import SITES
from workbench.directions.published.asked import Asked
from workbench.directions.published.files import LabelKnown, LabelNeeded, floating
from workbench.errors import ArtifactError

LAYER = re.compile(
    r"^(?:(?:\w+\.)*(?:layers?|l|blocks?|h|directions?)[._ -]?)?(\d+)(?:\.(?P<part>[\w.]+))?$", re.I
)
"""A key that is the number of a layer, or ends in it, with what follows it."""

_PLACES = {
    "site": re.compile("site|hook|module|layer_?type|where", re.I),
    "layer": re.compile("^(?!n_|num_).*(?:layer|block)|^l$", re.I),
    "position": re.compile(r"^pos(?:ition)?s?(?:_?(?:idx|index))?$|token_?pos", re.I),
}
"""By label, the words that a file speaks of it with."""

_NUMBERS = re.compile(r"^(?:(?:layer|block)s?(?:_?(?:idx|index|indices|ids?|numbers?|nums?))?|l)$",
                      re.I)  # fmt: skip
"""Of the keys that speak of layers, those whose numbers are layers."""

_MODEL = re.compile("^model(?:_?(?:name|id))?$", re.I)

_SIDES = {"resid_pre": "input", "resid_post": "output"}

BOTH_SIDES = "where it is the output of block l pass read_at='output'"


def whole_numbers(key: Any, found: Any) -> Any:
    """Whole numbers and text under a key that speaks of a place, as a list, a number or text."""
    typed = isinstance(getattr(found, "dtype", None), torch.dtype | np.dtype)
    if not typed or not isinstance(key, str) or floating(found) is not None:
        return found
    return found.tolist() if speaks_of_place(key) else found


def speaks_of_place(key: str) -> bool:
    """Whether a key is one that says where vectors belong, or of which model they are."""
    words = (*_PLACES.values(), _MODEL)
    return any(word.search(key) for word in words) and not LAYER.match(key)


def some(keys: set[Any]) -> str:
    """A few keys, for an error."""
    shown = ", ".join(sorted(map(repr, keys))[:4])
    return f"keys {shown}{', …' if len(keys) > 4 else ''}"


def check_layers(
    path: Path, numbers: tuple[int, ...], shifts: tuple[int, ...], asked: Asked
) -> None:
    """Holds the layers that were given against the numbers of blocks that a file says.

    Args:
        path: the file.
        numbers: what it says, as many as it has layers.
        shifts: what may be added to all of them, one for every side of a block that is open.
        asked: what was given.

    Raises:
        ArtifactError: another layer was given.
    """
    fitting = {shift: tuple(number + shift for number in numbers) for shift in shifts}
    if asked.layer is None or asked.layer in fitting.values():
        return
    says, gives = _listed(numbers), _listed(asked.layer)
    plural = "s" if len(numbers) > 1 else ""
    can = {0: "the input of block", 1: "its output"}
    of = {shift: f"layer={list(own) if plural else own[0]}" for shift, own in fitting.items()}
    if plural:
        sides = " or ".join(of.values())
    elif len(of) == 1:
        sides = next(iter(of.values()))
    else:
        sides = f"{can[0]} {says} (pass {of[0]}) or {can[1]} (pass {of[1]})"
    raise ArtifactError(
        f"{path} says layer{plural} {says}, which is {sides}, and layer= gives {gives}."
    )


def heard(
    path: Path, found: Mapping[Any, Any], asked: Asked, keys: tuple[int, ...] | None = None
) -> Asked:
    """What was given, and where that is silent what a file says of the place of its vectors.

    Args:
        path: the file.
        found: what it holds.
        asked: what was given.
        keys: the layers that the keys of its vectors name, if they do.

    Raises:
        LabelNeeded: it says what is not understood here.
        LabelKnown: it says itself on which side of a block it was read.
        ArtifactError: it says something else than was given, or two things.
    """
    said: dict[str, tuple[str, Any]] = {}
    for key, each in found.items():
        if not isinstance(key, str) or LAYER.match(key) or isinstance(each, bool):
            continue
        if not isinstance(each, str | int | float | list | tuple):
            continue
        if _MODEL.match(key) and isinstance(each, str):
            asked = replace(asked, said={**asked.said, "model": each})
            continue
        label = next((label for label, word in _PLACES.items() if word.search(key)), None)
        if label is None:
            continue
        meant = _understood(label, key, each)
        if meant is not None and label == "layer" and keys is not None:
            meant = meant if meant == keys else None
        if meant is None:
            if getattr(asked, label) is None or label in asked.said:
                raise _not_known(path, found, label, key, each)
            continue
        if label in said and said[label][1] != meant:
            one, other = said[label][0], key
            raise ArtifactError(
                f"{path} says two things of the {label} of its vectors, {one!r}: {found[one]!r} "
                f"and {other!r}: {each!r}. It was saved wrong; save it again with one of them."
            )
        said[label] = (key, meant)
    asked = _with_site(path, asked, said.get("site"))
    if "position" in said:
        asked = _with(path, asked, "position", said["position"][1])
    return (
        _with_layers(path, asked, said["layer"][1]) if "layer" in said and keys is None else asked
    )


def _understood(label: str, key: str, said: Any) -> Any:
    """The site or the numbers that a file says, or None where that is not known here."""
    if label == "site":
        site = said.removeprefix("hook_") if isinstance(said, str) else None
        return site if site in (*SITES, *_SIDES) else None
    if label == "layer" and not _NUMBERS.match(key):
        return None
    if isinstance(said, str):
        try:
            said = json.loads(said if "[" in said or "," not in said else f"[{said}]")
        except ValueError:
            return None
    numbers = said if isinstance(said, list | tuple) else [said]
    if not numbers or any(type(each) not in (int, float) or each % 1 for each in numbers):
        return None
    numbers = tuple(int(each) for each in numbers)
    return numbers if all((each < 0) == (label == "position") for each in numbers) else None


def _with(path: Path, asked: Asked, label: str, meant: Any) -> Asked:
    """What was given, with a label that the file says."""
    given = getattr(asked, label)
    if given not in (None, meant):
        raise ArtifactError(
            f"{path} says {label} {_listed(meant)}, and {label}= gives {_listed(given)}."
        )
    if given is not None and label not in asked.said:
        return asked
    return replace(asked, **{label: meant}, said={**asked.said, label: "as the file says"})


def _with_site(path: Path, asked: Asked, said: tuple[str, Any] | None) -> Asked:
    """The same of a site; one of the two ends of a block also says the side."""
    if said is None:
        return asked
    key, site = said
    if asked.read_at is not None and _SIDES.get(site) != asked.read_at:
        raise LabelKnown(
            path, "read_at", f"says by itself where its vectors were read, {key!r}: {site!r}",
            "Leave read_at= away",
        )  # fmt: skip
    asked = _with(path, asked, "site", "resid_pre" if site in _SIDES else site)
    if site not in _SIDES:
        return asked
    words = {**asked.said, "read_at": f"as the file says: {site} of block l"}
    side = _SIDES[site] if asked.layer is None else None
    return replace(asked, read_at=side, said=words)


def _with_layers(path: Path, asked: Asked, numbers: tuple[int, ...]) -> Asked:
    """The same of layers, where the file may leave the side of the block open."""
    side, words = asked.read_at, "as the file says"
    if asked.site not in (None, "resid_pre"):
        shifts, words = (0,), f"{words}: {asked.site} of layer l"
    elif "read_at" in asked.said:
        own = asked.said["read_at"]
        shifts, words = ((1,) if "resid_post" in own else (0,)), own
    elif side is not None:
        shifts = (1,) if side == "output" else (0,)
        words = f"{words}; given by the reader: the {side} of block l"
    else:
        shifts = (0, 1)
        words = (
            f"{words}: its number l is taken to be the layer, the input of block l; {BOTH_SIDES}"
        )
    check_layers(path, numbers, shifts, asked)
    if asked.layer is not None:
        return asked
    layers = tuple(number + shifts[0] for number in numbers)
    return replace(asked, layer=layers, read_at=None, said={**asked.said, "layer": words})


def _not_known(
    path: Path, found: Mapping[Any, Any], label: str, key: str, said: Any
) -> LabelNeeded:
    """The error of what a file says in words of its own."""
    return LabelNeeded(
        f"{path} holds a dict with {some(set(found))}, and what it says of its vectors, {key!r}: "
        f"{said!r}, is not known here. Pass {label}=.",
        label,
    )


def _listed(labels: Any) -> str:
    return labels if isinstance(labels, str) else ", ".join(map(str, labels))
