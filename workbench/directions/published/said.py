"""What a dict says of the place of its vectors in words of its own: understood, or asked for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from workbench.directions.published.asked import Asked
from workbench.directions.published.files import LabelNeeded, floating
from workbench.errors import ArtifactError

LAYER = re.compile(
    r"^(?:(?:\w+\.)*(?:layers?|l|blocks?|h|directions?)[._ -]?)?(\d+)(?:\.(?P<part>[\w.]+))?$", re.I
)
"""A key that is the number of a layer, or ends in it, with what follows it."""

_PLACES = {
    "site": re.compile("site|hook|module|layer_?type|where", re.I),
    "layer": re.compile("^(?!n_|num_).*(?:layer|block)|^l$", re.I),
    "position": re.compile("^pos(?:itions?)?$|token_?pos", re.I),
}
"""By label, the words that a file speaks of it with."""


def whole_numbers(key: Any, found: Any) -> Any:
    """Whole numbers under a key that speaks of a place, as a list or a number."""
    whole = isinstance(getattr(found, "dtype", None), torch.dtype | np.dtype)
    if not whole or not isinstance(key, str) or floating(found) is not None:
        return found
    return found.tolist() if any(word.search(key) for word in _PLACES.values()) else found


def some(keys: set[Any]) -> str:
    """A few keys, for an error."""
    shown = ", ".join(sorted(map(repr, keys))[:4])
    return f"keys {shown}{', …' if len(keys) > 4 else ''}"


def check_number(path: Path, number: Any, asked: Asked) -> None:
    """Holds the layer of a single vector, as its file says it, against what was given."""
    if type(number) is not int or asked.layer in ((number,), (number + 1,)):
        return
    sides = (
        f"the input of block {number} (pass layer={number}) or its output (pass layer={number + 1})"
    )
    if asked.layer is None:
        raise LabelNeeded(
            f"{path} holds one vector and says layer {number}, but not whether that is {sides}.",
            layer=True,
        )
    given = ", ".join(map(str, asked.layer))
    raise ArtifactError(f"{path} says layer {number}, which is {sides}, and layer= gives {given}.")


def check_said(path: Path, found: Mapping[Any, Any], asked: Asked) -> None:
    """Refuses to overlook what a file says of the place of its vectors in words of its own."""
    for key, each in found.items():
        if not isinstance(key, str) or LAYER.match(key) or isinstance(each, bool):
            continue
        if not isinstance(each, str | int | list | tuple):
            continue
        label = next((label for label, word in _PLACES.items() if word.search(key)), None)
        if label is None or getattr(asked, label) is not None:
            continue
        raise LabelNeeded(
            f"{path} holds a dict with {some(set(found))}, and what {key}={each!r} says of its "
            f"vectors is not known here. Pass {_passing(label, each)}.",
            layer=label == "layer" and asked.layer is None,
        )


def _passing(label: str, said: Any) -> str:
    """What to pass for a label that a file says in words of its own."""
    numbers = [said] if type(said) is int else said
    if label != "layer" or isinstance(said, str) or any(type(each) is not int for each in numbers):
        return f"{label}="
    after = [each + 1 for each in numbers]
    return f"layer={numbers} for the inputs of these blocks, layer={after} for their outputs"
