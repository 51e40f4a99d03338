"""Dicts of vectors that name no project: read by key, or by what is asked for."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.directions.published.arrays import as_array, from_array, notes_of
from workbench.directions.published.asked import Asked
from workbench.directions.published.files import (
    LabelNeeded,
    Published,
)
from workbench.directions.published.said import (
    LAYER,
    check_layers,
    heard,
    some,
    whole_numbers,
)
from workbench.errors import ArtifactError

_MODULE, _EITHER = "module", "either"
"""What a key with a dot and nothing after its number is: the path of a block, or perhaps not."""

_ROOTS = "model|transformer|gpt_neox|language_model|text_model|base_model|decoder|backbone|module"

_PATH = re.compile(rf"^(?:(?:{_ROOTS})\.)+(?:layers?|blocks?|h)\.\d+$", re.I)

_NUMBERED = re.compile(r"^(?:(?:\w+\.)*(?:layers?|blocks?)[._ -]?)?\d+(?:\.[\w.]+)?$", re.I)
"""Of the keys that can be layers, those that are hardly names."""

_CHOOSE = ("Choose one with wb.load_published(path, name='…').directions, which .save(…) keeps as "
           "a file of its own")  # fmt: skip

_INPUT = ("not in the file: the number l of a key is taken to be the layer, so that its vector is "
          "resid_pre of layer l, the input of block l; where it is the output of block l, as in "
          "bare dicts of repeng and steering-vectors, pass read_at='output'")  # fmt: skip

_PARTS = {
    None: ("resid_pre", 0, _INPUT),
    _MODULE: ("resid_pre", 1, "not in the file: its keys name blocks, and the vector of block l is "
              "taken to be its output, which is resid_pre of layer l + 1; where it is the input "
              "pass read_at='input'"),
    _EITHER: ("resid_pre", 0, "given by the reader"),
    "resid_pre": ("resid_pre", 0, "resid_pre of their layer l, as its name says"),
    "resid_post": ("resid_pre", 1, "resid_post of their layer l, which is resid_pre of layer "
                   "l + 1"),
    "attn_out": ("attn_out", 0, "the output of the attention of their layer l"),
    "self_attn": ("attn_out", 0, "the output of the attention of their layer l"),
    "mlp_out": ("mlp_out", 0, "the output of the MLP of their layer l"),
    "mlp": ("mlp_out", 0, "the output of the MLP of their layer l"),
}  # fmt: skip
"""Of what follows the number of a layer in a key: the site, what to add to the layer, in words."""

_OPEN = (None, _MODULE, _EITHER)
"""The parts that do not say a side."""

_READ_AT = {
    "input": ("resid_pre", 0, "given by the reader: the input of block l, which is resid_pre of "
              "layer l"),
    "output": ("resid_pre", 1, "given by the reader: the output of block l, which is resid_pre of "
               "layer l + 1"),
}  # fmt: skip
"""The same of the side of a block, where the reader says it."""


def from_mapping(path: Path, found: Mapping[Any, Any], asked: Asked) -> Published:
    """Directions from a dict: by layer where its keys are layers, by name where they are not.

    Raises:
        LabelNeeded: it says of the place of its vectors what is not understood here.
        LabelKnown: it says itself what was given.
        ArtifactError: it holds no vectors, or they are not of one shape, or see `from_array`.
    """
    found = {key: whole_numbers(key, each) for key, each in found.items()}
    inner = [key for key, each in found.items() if isinstance(each, Mapping) and each]
    vectors = {
        key: array
        for key, each in found.items()
        if not isinstance(each, str | int | float | Mapping)
        and (array := as_array(path, each)) is not None
    }
    if not vectors and len(inner) == 1:
        return from_mapping(path, found[inner[0]], heard(path, found, asked))
    if not vectors and asked.name is not None and set(asked.name) <= set(inner):
        name, *others = asked.name
        if not others:
            return from_mapping(path, found[name], asked)
    if not vectors and len(inner) > 1:
        raise ArtifactError(f"{path} holds a dict of dicts with {some(set(inner))}. "
                            f"{_CHOOSE}.")  # fmt: skip
    if not vectors:
        raise ArtifactError(f"{path} holds no vectors but a dict with {some(set(found))}.")
    arrays = {str(key): array for key, array in vectors.items()}
    picked = asked.name is not None and set(asked.name) <= set(arrays)
    if picked and all(_NUMBERED.match(name) for name in asked.name or ()):
        vectors = {key: each for key, each in vectors.items() if str(key) in (asked.name or ())}
        found = {key: each for key, each in found.items()
                 if key in vectors or not LAYER.match(str(key))}  # fmt: skip
        picked, asked = False, replace(asked, name=None)  # a choice of layers
    if not picked and (by_layer := layers_of(path, vectors)):
        _check_all_layers(path, found, vectors)
        return _by_layer(path, by_layer, heard(path, found, asked, tuple(by_layer)))
    if asked.name is not None and len(asked.name) == 1 == len(arrays):
        arrays = {asked.name[0]: next(iter(arrays.values()))}  # its name is the caller's
    elif asked.name is not None and (asked.axes != ("name",) or len(arrays) > 1):
        if missing := [name for name in asked.name if name not in arrays]:
            raise ArtifactError(f"{path} has no tensor {missing[0]!r}: {', '.join(arrays)}.")
        arrays = {name: arrays[name] for name in asked.name}
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:6])
        raise ArtifactError(f"{path} holds several tensors: {told}. {_CHOOSE}.")
    return from_array(path, arrays, heard(path, found, asked))


def layers_of(path: Path, vectors: Mapping[Any, Any]) -> dict[int, tuple[str | None, Any]]:
    """Vectors by the number in their key, with what follows it; empty where keys are no layers.

    Raises:
        ArtifactError: a layer appears twice, or only some keys are layers.
    """
    if any(type(key) not in (int, str) for key in vectors):
        return {}
    if negative := [key for key in vectors if re.match(r"-\d+$", str(key))]:
        raise ArtifactError(
            f"{path} has a vector at layer {negative[0]!r}. Expected 0-based numbers: how many "
            "blocks there are is not in the file, so it cannot be counted from the end."
        )
    matches = {key: LAYER.match(str(key)) for key in vectors}
    if not any(matches.values()):
        return {}
    if odd := [key for key, match in matches.items() if not match]:
        raise ArtifactError(
            f"{path} holds a dict with {some(set(vectors))}: some are layers, and "
            f"{odd[0]!r} is none. {_CHOOSE}."
        )
    found: dict[int, tuple[str | None, Any]] = {}
    for key, match in matches.items():
        assert match is not None
        if (layer := int(match[1])) in found:
            raise ArtifactError(f"{path} has two vectors of layer {layer}: {some(set(vectors))}.")
        found[layer] = (match["part"] or _named(str(key)), vectors[key])
    return dict(sorted(found.items()))


def _named(key: str) -> str | None:
    """What a key is where nothing follows its number: a module, either, or None for a number."""
    return None if "." not in key else _MODULE if _PATH.match(key) else _EITHER


def row(vector: Tensor) -> Tensor:
    """A vector without the axes of length 1 that it was kept with."""
    return vector.flatten() if vector.ndim > 1 and vector.numel() == vector.shape[-1] else vector


def _check_all_layers(path: Path, found: Mapping[Any, Any], vectors: Mapping[Any, Tensor]) -> None:
    """Refuses to leave out a layer whose value is no vector."""
    for key, each in found.items():
        if key not in vectors and LAYER.match(str(key)):
            raise ArtifactError(
                f"{path}: expected a floating vector (d_model) at layer {key!r}, found a "
                f"{type(each).__name__}."
            )


def _by_layer(path: Path, vectors: dict[int, tuple[str | None, Tensor]], asked: Asked) -> Published:
    asked.only(path, "layer", "position", "site", "name", "read_at")
    names = asked.name or (path.stem,)
    if len(names) != 1:
        raise ArtifactError(f"{path} holds one direction by layer, and name= gives {len(names)}.")
    parts = {part.removeprefix("hook_") if part else None for part, _ in vectors.values()}
    if len(parts) > 1 or not parts <= set(_PARTS):
        raise ArtifactError(
            f"{path} was read at {', '.join(sorted(part or 'a number alone' for part in parts))}: "
            f"expected one of {', '.join(part for part in _PARTS if part not in _OPEN)}."
        )
    part = parts.pop()
    site, shift, words = _PARTS[part]
    shifts = (0, 1)
    if part not in _OPEN:
        shifts = (shift,)
        if asked.read_at and _READ_AT[asked.read_at][:2] == (site, shift):
            asked = replace(asked, read_at=None)
        asked.only(path, "layer", "position", "name", *(["site"] if asked.site == site else []))
    elif asked.read_at is not None:
        site, shift, words = _READ_AT[asked.read_at]
        shifts, words = (shift,), asked.said.get("read_at", words)
    elif asked.site not in (None, site):
        site, shift, shifts = str(asked.site), 0, (0,)
        words = f"not in the file: the number l of a key is taken to be {site} of layer l"
    elif part == _EITHER and asked.layer is None:
        raise _two_meanings(path, next(iter(vectors)))
    given = asked.layers_of(path, len(vectors))
    check_layers(path, tuple(vectors), shifts, asked)
    rows = [row(vector) for _, vector in vectors.values()]
    if shapes := {tuple(own.shape) for own in rows if own.ndim != 1}:
        raise ArtifactError(
            f"{path}: expected one vector (d_model) at every layer, found {sorted(shapes)[0]}."
        )
    widths = sorted({len(own) for own in rows})
    if len(widths) > 1:
        raise ArtifactError(
            f"{path}: expected vectors of one model, found widths {', '.join(map(str, widths))}."
        )
    labelled = Asked(
        layer=given or tuple(layer + shift for layer in vectors),
        position=(asked.one_position(path, -1),),
        site=site,
        axes=("layer",),
    )
    made = from_array(path, {names[0]: torch.stack(rows)}, labelled)
    notes = {"layer": asked.said.get("layer", "given by the reader") if given else words}
    provenance = {"source": path.name, **notes, **notes_of(asked)}
    assert made.directions is not None
    return Published(replace(made.directions, provenance=provenance), provenance=provenance)


def _two_meanings(path: Path, number: int) -> LabelNeeded:
    """The error of keys that can be numbers of layers or names of modules."""
    return LabelNeeded(
        f"{path} has keys that end in '.{number}', which can be read two ways: the number of a "
        f"layer, so the input of block {number} (pass read_at='input'), or the name of a module, "
        f"so the output of block {number} (pass read_at='output')."
    )
