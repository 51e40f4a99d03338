"""Vectors by layer, as steering-vectors and repeng hold them and `torch.save` writes them.

Both projects count blocks from 0 and add the vector of layer l to the output of block l, which is
the input of block l + 1. Neither writes down the model or the position, and steering-vectors reads
at whatever token its user asks for; by default both read at the last token of a text.

Source: github.com/steering-vectors/steering-vectors (``steering_vector.py``,
``train_steering_vector.py``) and github.com/vgel/repeng (``extract.py``, ``control.py``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.directions.published.files import (
    ControlVector,
    Published,
    SteeringVector,
    floating,
)
from workbench.errors import ArtifactError

POSITION = -1
"""Where both projects read unless told otherwise."""

_OUTPUT = "added to the output of block l, which is resid_pre of layer l + 1"

_INSIDE = "of block l; where a model norms that once more (Gemma 2 and 3, OLMo 2), before the norm"

_SITES = {
    "decoder_block": ("resid_pre", 1, f"their layer l is {_OUTPUT}"),
    "self_attn": ("attn_out", 0, f"their layer l is the output of the attention {_INSIDE}"),
    "mlp": ("mlp_out", 0, f"their layer l is the output of the MLP {_INSIDE}"),
}
"""Of each layer type of steering-vectors: the site, what to add to the layer, and in words."""


def read(path: Path, found: Any) -> Published:
    """Directions from an unpickled vector of either project, told apart by what is in it.

    Raises:
        ArtifactError: neither, or not clearly one of them; a layer type that is no site here;
            vectors that are no vectors, of several widths, or not finite.
    """
    if isinstance(found, SteeringVector | ControlVector):
        found = vars(found)
    if not isinstance(found, Mapping) or not found:
        empty = "an empty" if isinstance(found, Mapping) else "a"
        raise ArtifactError(
            f"{path} holds no floating tensor and no vectors by layer but {empty} "
            f"{type(found).__name__}."
        )
    keys = set(found)
    if keys <= {"layer_activations", "layer_type"} and "layer_activations" in keys:
        return _steering_vectors(path, found["layer_activations"], found.get("layer_type"))
    if keys <= {"directions", "model_type"} and "directions" in keys:
        return _repeng(path, found["directions"], found.get("model_type"))
    if any(type(key) is not int for key in found):
        raise ArtifactError(
            f"{path} holds a dict with {_some(keys)}. Expected numbers of layers, or "
            "layer_activations and layer_type (steering-vectors), or directions and model_type "
            "(repeng)."
        )
    kinds = {type(value).__name__ for value in found.values()}
    if len(kinds) > 1:
        raise ArtifactError(
            f"{path} holds {' and '.join(sorted(kinds))} by layer: steering-vectors keeps tensors, "
            "repeng arrays, and this is neither."
        )
    return (
        _repeng(path, found, None) if "ndarray" in kinds else _steering_vectors(path, found, None)
    )


def _steering_vectors(path: Path, vectors: Any, layer_type: Any) -> Published:
    # The default of the class. Bare vectors by layer do not say it, and the provenance does.
    kind = "decoder_block" if layer_type is None else layer_type
    if not isinstance(kind, str) or kind not in _SITES:
        raise ArtifactError(
            f"{path} was read at layer_type {kind!r}, which is no site here. "
            f"Known: {', '.join(_SITES)}."
        )
    site, shift, words = _SITES[kind]
    provenance = {
        "source": "steering-vectors, github.com/steering-vectors/steering-vectors",
        "layer_type": f"not in the file; taken to be {kind}, the default"
        if layer_type is None
        else kind,
        "layer": words,
        "position": f"not in the file; {POSITION} is the default of train_steering_vector",
    }
    return from_blocks(path, vectors, provenance, site, shift)


def _repeng(path: Path, vectors: Any, model_type: Any) -> Published:
    return from_blocks(path, vectors, repeng_provenance(model_type))


def repeng_provenance(architecture: Any) -> dict[str, Any]:
    """What is known of a vector that repeng made, and what its files leave open."""
    return {
        "source": "repeng, github.com/vgel/repeng",
        "architecture": str(architecture) if architecture else "not in the file",
        "layer": f"their layer l is read at, and {_OUTPUT}",
        "last_layer": "the number of blocks is not in the file; the output of the last block was "
        "read from hidden_states, which most models give after the final norm",
        "position": f"not in the file; {POSITION} because repeng reads the last token of a text",
    }


def from_blocks(
    path: Path,
    vectors: Any,
    provenance: Mapping[str, Any],
    site: str = "resid_pre",
    shift: int = 1,
) -> Published:
    """One direction, named by its file, from vectors by the number of their block."""
    if not isinstance(vectors, Mapping) or not vectors:
        raise ArtifactError(f"{path} holds no vectors by layer but a {type(vectors).__name__}.")
    if wrong := [key for key in vectors if type(key) is not int or key < 0]:
        raise ArtifactError(
            f"{path} has a vector at layer {wrong[0]!r}. Expected 0-based numbers: how many blocks "
            "there are is not in the file, so it cannot be counted from the end."
        )
    layers = sorted(vectors)
    values = _stacked(path, {layer: vectors[layer] for layer in layers})
    directions = Directions(
        values=values[None, :, None],
        names=(path.stem,),
        layers=tuple(layer + shift for layer in layers),
        positions=(POSITION,),
        site=site,
        provenance=provenance,
    )
    return Published(directions=directions, provenance=provenance)


def _stacked(path: Path, vectors: Mapping[int, Any]) -> Float[Tensor, "layer d_model"]:
    """Vectors of one width and finite, in float32, or in float64 where one of them is."""
    rows: list[Tensor] = []
    for layer, found in vectors.items():
        vector = floating(found)
        if vector is None or vector.ndim != 1:
            what = getattr(found, "dtype", type(found).__name__)
            shape = f" of shape {tuple(found.shape)}" if hasattr(found, "shape") else ""
            raise ArtifactError(
                f"{path}: expected a floating vector (d_model) at layer {layer}, found "
                f"{what}{shape}."
            )
        if not vector.isfinite().all():
            raise ArtifactError(f"{path}: the vector at layer {layer} is not finite.")
        rows.append(vector.detach())
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        raise ArtifactError(
            f"{path}: expected vectors of one model, found widths {', '.join(map(str, widths))}."
        )
    wide = any(row.dtype == torch.float64 for row in rows)
    return torch.stack([row.to(torch.float64 if wide else torch.float32) for row in rows])


def _some(keys: set[Any]) -> str:
    """A few keys, for an error."""
    shown = ", ".join(sorted(map(repr, keys))[:4])
    return f"keys {shown}{', …' if len(keys) > 4 else ''}"
