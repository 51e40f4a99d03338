"""What a published source can hold, and how its files are opened without running anything."""

import _codecs
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from numpy._core.multiarray import _reconstruct  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.errors import ArtifactError


class LabelNeeded(ArtifactError):
    """A file that does not say of its vectors what it takes to read them.

    Attributes:
        layer: whether their layer would be enough.
    """

    def __init__(self, message: str, layer: bool = False):
        super().__init__(message)
        self.layer = layer


class ControlVector:
    """Stands in for the class of repeng: holds the attributes of a pickled one, and no code."""


class SteeringVector:
    """Stands in for the class of steering-vectors: holds the attributes of a pickled one."""


_ALLOWED = [
    _reconstruct,
    (_reconstruct, "numpy.core.multiarray._reconstruct"),  # as numpy 1 wrote it
    np.ndarray,
    np.dtype,
    np.dtypes.Float16DType,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    _codecs.encode,
    (ControlVector, "repeng.extract.ControlVector"),
    (SteeringVector, "steering_vectors.steering_vector.SteeringVector"),
]
"""What a pickled NumPy array is made of, and two classes of which only the attributes are filled.

torch allows what its own tensors are made of.
"""

_TORCH = "a torch file"

_REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module \S+ is blocked)")


@dataclass(frozen=True)
class PublishedChoice:
    """The candidate that a published run chose, with its scores where the run has them."""

    layer: int
    position: int
    bypass: float | None = None
    induce: float | None = None
    kl: float | None = None


@dataclass(frozen=True, eq=False)
class Published:
    """What a published file or folder held; None where it held no such thing.

    Attributes:
        directions: the vectors, raw, in our axis order.
        scores: bypass, induce and kl by layer and position, as `sweep_directions` gives them.
        choice: the candidate that the run chose.
        completions: replies by file name, one row per prompt.
        provenance: where it comes from, and what the files leave open.
    """

    directions: Directions | None = None
    scores: xr.Dataset | None = None
    choice: PublishedChoice | None = None
    completions: dict[str, pd.DataFrame] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def read_json(path: Path, kind: type) -> Any:
    """The list or object that a JSON file holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is broken: {error}.") from error
    if not isinstance(found, kind):
        raise ArtifactError(f"{path} holds a {type(found).__name__}, not a {kind.__name__}.")
    return found


def read_pickle(path: Path) -> Any:
    """What a ``.pt`` file holds, on the CPU, opened with nothing but the allow-list.

    Raises:
        ArtifactError: broken, no torch file, or a pickle that asks for more, which is named.
    """
    try:
        with torch.serialization.safe_globals(_ALLOWED):
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged or hostile pickle can raise anything, and none of it is a bug of ours.
    except Exception as error:
        if refused := _REFUSED.search(str(error)):
            raise ArtifactError(
                f"{path} asks for {refused[1]}, which is neither array nor tensor; it was not run."
            ) from error
        raise broken(path, _TORCH, error) from error


def read_numpy(path: Path) -> Any:
    """The array of a ``.npy`` file, or those of a ``.npz`` by name; no pickle is opened.

    Raises:
        ArtifactError: broken, or pickled Python objects, which could run code.
    """
    try:
        start = path.read_bytes()[:6]
        if not start.startswith((b"PK", b"\x93NUMPY")):
            raise ValueError("it does not begin as one")  # NumPy would take it for a pickle
        found = np.load(path, allow_pickle=False)
        return found if isinstance(found, np.ndarray) else dict(found.items())
    # A damaged file can raise anything.
    except Exception as error:
        if "allow_pickle" in str(error):
            raise ArtifactError(
                f"{path} holds a pickled Python object, as np.save writes a dict: that can run "
                "code, so it was not opened. Where you trust it, load it and save its vectors with "
                "np.savez(path, **{str(layer): vector}) or torch.save."
            ) from error
        raise broken(path, "a NumPy file", error) from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file, by name.

    Raises:
        ArtifactError: broken, or no such file.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:
        raise broken(path, "a safetensors file", error) from error


def is_ours(path: Path) -> bool:
    """Whether a ``.safetensors`` file is one that the workbench wrote."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return "manifest" in (file.metadata() or {})
    except Exception as error:
        raise broken(path, "a safetensors file", error) from error


def broken(path: Path, expected: str, error: Exception) -> ArtifactError:
    """The error for a file that a library could not read, in one line."""
    return ArtifactError(f"{path} is broken or not {expected}: {_reason(path, expected, error)}.")


def _reason(path: Path, expected: str, error: Exception) -> str:
    """What is wrong with a file, as its first bytes show it or the library says it."""
    start = path.read_bytes()[:64] if path.is_file() else b""
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, so fetch the file itself (git lfs pull)"
    if start.lstrip()[:5].lower() in (b"<html", b"<!doc"):
        return "it is a web page"
    if expected == _TORCH and not start.startswith((b"PK", b"\x80")):
        return f"it begins with {bytes(start[:4])!r}, and none that torch.save wrote does"
    said = str(error).strip().rstrip(".").splitlines()
    # Unpicklers raise whatever comes: "101", a lone key, nothing at all.
    if said and " " in said[0]:
        return said[0]
    return f"it is cut off or damaged ({type(error).__name__})"


def read_tensor(path: Path) -> Float[Tensor, "..."]:
    """The floating tensor or array of a ``.pt`` file, on the CPU, in its own precision.

    Raises:
        ArtifactError: broken, no floating tensor, or one that is not finite.
    """
    found = read_pickle(path)
    tensor = floating(found)
    if tensor is None:
        raise ArtifactError(f"{path} holds no floating tensor but a {type(found).__name__}.")
    return finite(path, tensor)


def finite(path: Path, tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The tensor itself, where all of it is finite.

    Raises:
        ArtifactError: it is not, with how much of it is not.
    """
    if lost := int((~tensor.isfinite()).sum()):
        raise ArtifactError(
            f"{path} is not finite: {lost} of its {tensor.numel()} numbers are NaN or infinite. "
            "It was saved broken; fetch or compute it again."
        )
    return tensor


def floating(found: Any) -> Float[Tensor, "..."] | None:
    """A tensor or an array as a tensor, or None where it is neither or not floating."""
    if isinstance(found, np.ndarray) and found.dtype.kind == "f":
        # Arrays of other byte order, or read-only, are none that torch takes.
        found = torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))
    if not isinstance(found, Tensor) or not found.is_floating_point():
        return None
    # What has eight bits is for keeping: hardly anything is computed with it.
    return found.float() if found.dtype.itemsize == 1 else found
