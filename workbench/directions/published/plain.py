"""Arrays and dicts that name no project: read by shape and by key, or by what is asked for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.directions.published.asked import Asked
from workbench.directions.published.axes import no_axes, read_axes
from workbench.directions.published.files import (
    LabelKnown,
    LabelNeeded,
    Published,
    finite,
    floating,
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

_OPEN, _PLACE = (None, _MODULE, _EITHER), ("site", "position")
"""The parts that do not say a side, and the labels that are noted."""

_READ_AT = {
    "input": ("resid_pre", 0, "given by the reader: the input of block l, which is resid_pre of "
              "layer l"),
    "output": ("resid_pre", 1, "given by the reader: the output of block l, which is resid_pre of "
               "layer l + 1"),
}  # fmt: skip
"""The same of the side of a block, where the reader says it."""


def as_array(path: Path, found: Any) -> Float[Tensor, "..."] | None:
    """A floating, finite array out of what a file holds, or None where that is no array.

    Raises:
        ArtifactError: it is one of whole or complex numbers, is empty, or not finite.
    """
    if isinstance(found, list | tuple) and found:
        kinds = {type(each) for each in found}
        if kinds <= {int, float}:  # as JSON keeps numbers; whole ones alone are labels
            return finite(path, _narrowed(found)) if float in kinds else None
        rows = [as_array(path, each) for each in found]
        if not any(row is None for row in rows):
            shapes = {tuple(row.shape) for row in rows if row is not None}
            if len(shapes) > 1:
                shown = ", ".join(map(str, sorted(shapes)))
                raise ArtifactError(f"{path} holds a list of vectors of several shapes: {shown}.")
            found = torch.stack([row for row in rows if row is not None])
    tensor = floating(found)
    if tensor is None:
        if hasattr(found, "dtype") and hasattr(found, "shape"):
            kind: Any = getattr(found, "dtype", None)
            raise ArtifactError(
                f"{path} holds no floating tensor but numbers of type {kind}: a direction "
                "is floating. It is another file, or was cast."
            )
        return None
    if tensor.layout != torch.strided or tensor.is_meta or not tensor.numel() or not tensor.ndim:
        raise ArtifactError(
            f"{path} holds no vectors: a tensor of shape {tuple(tensor.shape)}, {tensor.layout}, "
            f"on {tensor.device}."
        )
    return finite(path, tensor.detach())


def from_array(path: Path, arrays: Mapping[str, Tensor], asked: Asked) -> Published:
    """Directions from arrays of one shape, by name.

    Raises:
        ArtifactError: what its axes are is not known, or can be read two ways.
    """
    if asked.axes == ("name",):
        arrays, asked = _rows_by_name(path, arrays, asked)
    shape = tuple(next(iter(arrays.values())).shape)
    lead = shape[:-1]
    if set(lead) == {1} and len(asked.axes or ()) != len(lead):
        lead = ()  # one vector, whatever axes of length 1 it was kept with
    if not lead and "read_at" in asked.said:
        asked = replace(asked, read_at=None)
    if asked.read_at is not None and not lead:
        raise LabelKnown(
            path,
            "read_at",
            "holds one vector and no number that counts blocks",
            "Leave read_at= away, and pass layer=l where it is the input of block l, l + 1 where "
            "it is the output",
        )
    reading, layers, positions = read_axes(path, (*lead, shape[-1]), asked, len(arrays) > 1)
    values = torch.stack([array.reshape(*lead, shape[-1]) for array in arrays.values()])
    for axis in ("layer", "position"):
        if axis not in reading:
            values, reading = values.unsqueeze(-2), (*reading, axis)
    if reading == ("position", "layer"):
        values = values.transpose(1, 2)
    wide = values.dtype == torch.float64
    provenance = {"source": path.name, "layer": layer_note(layers, asked), **_notes(asked)}
    directions = Directions(
        # Half precision is exact in float32, and its squares would overflow in a norm.
        values=values.contiguous() if wide else values.float().contiguous(),
        names=tuple(arrays),
        layers=layers,
        positions=positions,
        site=asked.site or "resid_pre",
        provenance=provenance,
    )
    return Published(directions=directions, provenance=provenance)


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


def _rows_by_name(
    path: Path, arrays: Mapping[str, Tensor], asked: Asked
) -> tuple[dict[str, Tensor], Asked]:
    """The rows of one matrix, each a direction of its own."""
    (name, rows), *others = arrays.items()
    if not others and rows.ndim == 1:
        raise no_axes(path)
    if others or rows.ndim != 2:
        raise ArtifactError(
            f"{path}: axes='name' takes one matrix (name, d_model), found "
            f"{len(arrays)} of shape {tuple(rows.shape)}."
        )
    names = asked.name if asked.name and len(asked.name) > 1 else None
    if names and len(names) != len(rows):
        raise ArtifactError(f"{path} has {len(rows)} rows, and name= gives {len(names)}.")
    named = names or tuple(f"{name} {index}" for index in range(len(rows)))
    return dict(zip(named, rows, strict=True)), replace(asked, axes=None)


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
    provenance = {"source": path.name, **notes, **_notes(asked)}
    assert made.directions is not None
    return Published(replace(made.directions, provenance=provenance), provenance=provenance)


def _two_meanings(path: Path, number: int) -> LabelNeeded:
    """The error of keys that can be numbers of layers or names of modules."""
    return LabelNeeded(
        f"{path} has keys such as layers.{number}, which can be read two ways: the number of a "
        f"layer, so the input of block {number} (pass read_at='input'), or the name of a module, "
        f"so the output of block {number} (pass read_at='output')."
    )


def _narrowed(numbers: Sequence[float]) -> Float[Tensor, " d_model"]:
    """In float32 where that loses nothing, as what was float32 before it was text."""
    wide = torch.tensor(list(numbers), dtype=torch.float64)
    narrow = wide.float()
    return narrow if torch.equal(narrow.double(), wide) else wide


def layer_note(layers: tuple[int, ...], asked: Asked) -> str:
    """How rows became layers, and what else they can be."""
    if asked.layer is not None:
        return asked.said.get("layer", "given by the reader")
    n = len(layers)
    if asked.site not in (None, "resid_pre"):
        return f"row l is taken to be {asked.site} of layer l"
    if asked.read_at == "output":
        given = asked.said.get("read_at", "given by the reader")
        return f"{given}: row l is the output of block l, which is resid_pre of layer l + 1"
    given = asked.said.get("read_at", "given by the reader")
    said = given if asked.read_at else "not in the file"
    other = "" if asked.read_at else (
        f". Where they are the outputs of blocks 0..{n - 1} pass read_at='output'"
    )  # fmt: skip
    return (
        f"{said}: row l is taken to be resid_pre of layer l, the input of block l, as "
        f"hidden_states[l] is. Of a model of {n} blocks these are all inputs, and of one of "
        f"{n - 1} blocks row {n - 1} follows the last, in most after the final norm{other}"
    )


def _notes(asked: Asked) -> dict[str, Any]:
    """What was given and what the file leaves open."""
    site, position = (asked.said.get(label, "given by the reader") for label in _PLACE)
    if asked.site is None:
        site = "not in the file; resid_pre unless the reader says otherwise"
    if asked.position is None:
        position = "not in the file; counted from the last token"
    model = {"their_model": asked.said["model"]} if "model" in asked.said else {}
    return {"site": site, "position": position, **model}
