"""Arrays that name no project, read by their shape and by what is asked for."""

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
from workbench.directions.published.files import LabelKnown, Published, finite, floating
from workbench.errors import ArtifactError


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
    provenance = {"source": path.name, "layer": layer_note(layers, asked), **notes_of(asked)}
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


def notes_of(asked: Asked) -> dict[str, Any]:
    """What was given and what the file leaves open."""
    given = "given by the reader"
    site, position = asked.said.get("site", given), asked.said.get("position", given)
    if asked.site is None:
        site = "not in the file; resid_pre unless the reader says otherwise"
    if asked.position is None:
        position = "not in the file; counted from the last token"
    model = {"their_model": asked.said["model"]} if "model" in asked.said else {}
    return {"site": site, "position": position, **model}
