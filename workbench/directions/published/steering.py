"""Vectors by layer, as steering-vectors, repeng and activation-steering hold or write them.

Both projects count blocks from 0 and add the vector of layer l to the output of block l, which is
the input of block l + 1. Neither writes down the model or the position, and steering-vectors reads
at whatever token its user asks for; by default both read at the last token of a text.

activation-steering reads the output of block l and adds it to the input of block l. Directions are
labelled with where they are added, so that `Add` at their own layer does what the project does.

Source: github.com/steering-vectors/steering-vectors (``steering_vector.py``,
``train_steering_vector.py``), github.com/vgel/repeng (``extract.py``, ``control.py``) and
github.com/IBM/activation-steering (``steering_vector.py``, ``leash_layer.py``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.directions.published.arrays import as_array
from workbench.directions.published.asked import Asked
from workbench.directions.published.files import (
    ControlVector,
    Published,
    SteeringVector,
    floating,
)
from workbench.directions.published.plain import from_mapping, layers_of, row
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


def read(path: Path, found: Any, asked: Asked) -> Published:
    """Directions from vectors by layer or by name, the projects told apart by what is in them.

    Raises:
        ArtifactError: no vectors, or not clearly those of one project; a layer type that is no site
            here; vectors that are no vectors, of several widths, or not finite.
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
        vectors, kind = found["layer_activations"], found.get("layer_type")
        return _steering_vectors(path, vectors, kind, asked)
    if isinstance(found.get("directions"), Mapping) and "explained_variances" in keys:
        return _activation_steering(path, found["directions"], found.get("model_type"), asked)
    if keys == {"directions", "model_type"} and isinstance(found["directions"], Mapping):
        return _repeng(path, found["directions"], found.get("model_type"), asked)
    return from_mapping(path, found, asked)


def _steering_vectors(path: Path, vectors: Any, layer_type: Any, asked: Asked) -> Published:
    # The default of the class, where only its vectors were saved; the provenance says so.
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
    return from_blocks(path, vectors, provenance, asked, site, shift)


def _repeng(path: Path, vectors: Any, model_type: Any, asked: Asked) -> Published:
    return from_blocks(path, vectors, repeng_provenance(model_type), asked)


def _activation_steering(path: Path, vectors: Any, model_type: Any, asked: Asked) -> Published:
    provenance = {
        "source": "activation-steering, github.com/IBM/activation-steering",
        "architecture": str(model_type) if model_type else "not in the file",
        "layer": "their layer l is added to the input of block l, which is resid_pre of layer l; "
        "it was read at the output of block l, which is resid_pre of layer l + 1",
        "position": f"not in the file; {POSITION} is the default of SteeringVector.train",
    }
    return from_blocks(path, vectors, provenance, asked, shift=0)


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
    asked: Asked,
    site: str = "resid_pre",
    shift: int = 1,
) -> Published:
    """One direction, named by its file, from vectors by the number of their block."""
    asked.only(path, "position")
    if not isinstance(vectors, Mapping) or not vectors:
        raise ArtifactError(f"{path} holds no vectors by layer but a {type(vectors).__name__}.")
    if all(type(key) is str for key in vectors):  # text, as JSON keeps numbers
        numbered = layers_of(path, vectors)
        vectors = {layer: vector for layer, (_, vector) in numbered.items()} or vectors
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
        positions=(asked.one_position(path, POSITION),),
        site=site,
        provenance=provenance,
    )
    return Published(directions=directions, provenance=provenance)


def _stacked(path: Path, vectors: Mapping[int, Any]) -> Float[Tensor, "layer d_model"]:
    """Vectors of one width and finite, in float32, or in float64 where one of them is."""
    rows: list[Tensor] = []
    for layer, found in vectors.items():
        vector = as_array(path, found) if isinstance(found, list) else floating(found)
        vector = None if vector is None else row(vector)
        if vector is None or vector.ndim != 1:
            what = getattr(found, "dtype", type(found).__name__)
            axes: Any = getattr(found, "shape", None)
            shape = "" if axes is None else f" of shape {tuple(axes)}"
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
