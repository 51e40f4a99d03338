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
from workbench.directions.published.axes import read_axes
from workbench.directions.published.files import Published, finite, floating
from workbench.errors import ArtifactError

_LAYER = re.compile(
    r"^(?:(?:\w+\.)*(?:layers?|l|blocks?|h|directions?)[._ -]?)?(\d+)(?:\.(?P<part>[\w.]+))?$", re.I
)

_PLACE = re.compile("layer|block|site|hook|module", re.I)

_PARTS = {
    None: ("resid_pre", 1, "not in the file: their layer l is taken to be the output of block l, "
           "which is resid_pre of layer l + 1; where it is another pass layer=[…], one for each"),
    "resid_pre": ("resid_pre", 0, "resid_pre of their layer l, as its name says"),
    "resid_post": ("resid_pre", 1, "resid_post of their layer l, which is resid_pre of layer "
                   "l + 1"),
    "attn_out": ("attn_out", 0, "the output of the attention of their layer l"),
    "self_attn": ("attn_out", 0, "the output of the attention of their layer l"),
    "mlp_out": ("mlp_out", 0, "the output of the MLP of their layer l"),
    "mlp": ("mlp_out", 0, "the output of the MLP of their layer l"),
}  # fmt: skip
"""Of what follows the number of a layer in a key: the site, what to add to the layer, in words."""


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
    shape = tuple(next(iter(arrays.values())).shape)
    given = asked.axes
    lead = shape[:-1]
    if set(lead) == {1} and given is None:
        lead = ()  # one vector, whatever axes of length 1 it was kept with
    reading, layers, positions = read_axes(path, lead, asked, len(arrays) > 1)
    values = torch.stack([array.reshape(*lead, shape[-1]) for array in arrays.values()])
    for axis in ("layer", "position"):
        if axis not in reading:
            values, reading = values.unsqueeze(-2), (*reading, axis)
    if reading == ("position", "layer"):
        values = values.transpose(1, 2)
    wide = values.dtype == torch.float64
    provenance = {"source": path.name, "layer": _layer_note(layers, asked), **_notes(asked)}
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
        ArtifactError: it holds no vectors, or they are not of one shape, or see `from_array`.
    """
    inner = [key for key, each in found.items() if isinstance(each, Mapping) and each]
    vectors = {
        key: array
        for key, each in found.items()
        if not isinstance(each, str | int | float | Mapping)
        and (array := as_array(path, each)) is not None
    }
    if not vectors and len(inner) == 1:
        _check_said(path, found, asked)
        return from_mapping(path, found[inner[0]], asked)
    if not vectors:
        raise ArtifactError(f"{path} holds no vectors but a dict with {some(set(found))}.")
    arrays = {str(key): array for key, array in vectors.items()}
    picked = asked.name is not None and set(asked.name) <= set(arrays)
    if not picked and (by_layer := layers_of(path, vectors)):
        _check_said(path, found, asked)
        return _by_layer(path, by_layer, asked)
    if asked.name is not None and len(asked.name) == 1 == len(arrays):
        arrays = {asked.name[0]: next(iter(arrays.values()))}  # its name is the caller's
    elif asked.name is not None:
        if missing := [name for name in asked.name if name not in arrays]:
            raise ArtifactError(f"{path} has no tensor {missing[0]!r}: {', '.join(arrays)}.")
        arrays = {name: arrays[name] for name in asked.name}
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:6])
        raise ArtifactError(f"{path} holds several tensors: {told}. Choose with name='…'.")
    number = found.get("layer")
    if asked.layer is None and isinstance(number, int):
        if len(arrays) == 1 and next(iter(shapes.values()))[:-1] in ((), (1,)):
            raise ArtifactError(
                f"{path} holds one vector and says layer {number}, but not whether that is the "
                f"input of block {number} (pass layer={number}) or its output (pass "
                f"layer={number + 1})."
            )
    _check_said(path, found, asked)
    return from_array(path, arrays, asked)


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
    matches = {key: _LAYER.match(str(key)) for key in vectors}
    if not any(matches.values()):
        return {}
    if odd := [key for key, match in matches.items() if not match]:
        raise ArtifactError(
            f"{path} holds a dict with {some(set(vectors))}: some are layers, and "
            f"{odd[0]!r} is none. Choose with name='…'."
        )
    found: dict[int, tuple[str | None, Any]] = {}
    for key, match in matches.items():
        assert match is not None
        if (layer := int(match[1])) in found:
            raise ArtifactError(f"{path} has two vectors of layer {layer}: {some(set(vectors))}.")
        found[layer] = (match["part"], vectors[key])
    return dict(sorted(found.items()))


def row(vector: Tensor) -> Tensor:
    """A vector without the axes of length 1 that it was kept with."""
    return vector.flatten() if vector.ndim > 1 and vector.numel() == vector.shape[-1] else vector


def some(keys: set[Any]) -> str:
    """A few keys, for an error."""
    shown = ", ".join(sorted(map(repr, keys))[:4])
    return f"keys {shown}{', …' if len(keys) > 4 else ''}"


def _check_said(path: Path, found: Mapping[Any, Any], asked: Asked) -> None:
    """Refuses to overlook what a file says of the place of its vectors in words of its own."""
    for key, each in found.items():
        if not (isinstance(key, str) and _PLACE.search(key)) or _LAYER.match(key):
            continue
        if isinstance(each, str | int | list | tuple) and None in (asked.layer, asked.site):
            if key == "layer" and asked.layer is not None:
                continue
            raise ArtifactError(
                f"{path} holds a dict with {some(set(found))}, and what {key}={each!r} says of its "
                "vectors is not known here. Pass layer= and site=."
            )


def _by_layer(path: Path, vectors: dict[int, tuple[str | None, Tensor]], asked: Asked) -> Published:
    asked.only(path, "layer", "position", "site", "name")
    names = asked.name or (path.stem,)
    if len(names) != 1:
        raise ArtifactError(f"{path} holds one direction by layer, and name= gives {len(names)}.")
    parts = {part.removeprefix("hook_") if part else None for part, _ in vectors.values()}
    if len(parts) > 1 or not parts <= set(_PARTS):
        raise ArtifactError(
            f"{path} was read at {', '.join(sorted(str(part) for part in parts))}: expected one of "
            f"{', '.join(str(part) for part in _PARTS if part)}."
        )
    site, shift, words = _PARTS[parts.pop()]
    given = asked.layers_of(path, len(vectors))
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
        site=asked.site or site,
        axes=("layer",),
    )
    made = from_array(path, {names[0]: torch.stack(rows)}, labelled)
    notes = {"layer": "given by the reader" if given else words, **_notes(asked)}
    provenance = {"source": path.name, **notes}
    assert made.directions is not None
    return Published(replace(made.directions, provenance=provenance), provenance=provenance)


def _narrowed(numbers: Sequence[float]) -> Float[Tensor, " d_model"]:
    """In float32 where that loses nothing, as what was float32 before it was text."""
    wide = torch.tensor(list(numbers), dtype=torch.float64)
    narrow = wide.float()
    return narrow if torch.equal(narrow.double(), wide) else wide


def _layer_note(layers: tuple[int, ...], asked: Asked) -> str:
    if asked.layer is not None:
        return "given by the reader"
    last = layers[-1]
    return (
        "not in the file: row l is taken to be resid_pre of layer l, as hidden_states[l] is, so "
        f"that row {last} of a model of {last} blocks follows the last; for outputs of blocks pass "
        f"layer=range(1, {last + 2})"
    )


def _notes(asked: Asked) -> dict[str, Any]:
    """What was given and what the file leaves open."""
    site, position = "given by the reader", "given by the reader"
    if asked.site is None:
        site = "not in the file; resid_pre unless the reader says otherwise"
    if asked.position is None:
        position = "not in the file; counted from the last token"
    return {"site": site, "position": position}
