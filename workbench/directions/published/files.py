"""What a published source can hold, and how its files are opened without running anything."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.errors import ArtifactError, WorkbenchError
from workbench.intake.limits import MAX_ARTIFACT_BYTES, read_bytes, regular_file, shortened
from workbench.intake.npy import read_arrays
from workbench.intake.parsing import parsing
from workbench.intake.pickles import dense, read_torch
from workbench.tabled import Tabled


class LabelNeeded(ArtifactError):
    """A file that does not say of its vectors what it takes to read them.

    Attributes:
        label: the name of what would be enough; "" where that is not one label.
    """

    def __init__(self, message: str, label: str = ""):
        super().__init__(message)
        self.label = label


class LabelKnown(ArtifactError):
    """A label that was given with a file that says it itself, or has nothing to put it on.

    Attributes:
        label: the name of what was given.
        why: why it cannot be used.
    """

    def __init__(self, path: Path | str, label: str, why: str, advice: str):
        super().__init__(f"{path} {why}. {advice}.")
        self.label, self.why = label, why


class ControlVector:
    """Stands in for the class of repeng: holds the attributes of a pickled one, and no code."""


class SteeringVector:
    """Stands in for the class of steering-vectors: holds the attributes of a pickled one."""


_CLASSES = {
    "repeng.extract.ControlVector": ControlVector,
    "steering_vectors.steering_vector.SteeringVector": SteeringVector,
}
"""Two classes of which only the attributes are filled."""

_TORCH = "a torch file"


@dataclass(frozen=True)
class PublishedChoice:
    """The candidate that a published run chose, with its scores where the run has them."""

    layer: int
    position: int
    bypass: float | None = None
    induce: float | None = None
    kl: float | None = None


@dataclass(frozen=True, eq=False)
class Published(Tabled):
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

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each thing that was held, and what it is."""
        held: dict[str, Any] = {"directions": self.directions, "choice": self.choice}
        if self.scores is not None:
            held["scores"] = ", ".join(f"{n} {own}" for own, n in self.scores.sizes.items())
        for name, replies in (self.completions or {}).items():
            held[f"completions {name}"] = f"{len(replies)} replies"
        rows = [(part, str(what)) for part, what in held.items() if what is not None]
        return pd.DataFrame(rows, columns=["part", "what"])

    def __repr__(self) -> str:
        return f"Published({', '.join(self.to_dataframe()['part']) or 'nothing'})"


def read_pickle(path: Path) -> Any:
    """What a ``.pt`` file holds, on the CPU, opened with nothing but the allow-list.

    Raises:
        ArtifactError: broken, no torch file, too large, or a pickle that asks for more than arrays
            and tensors, which is named.
    """
    with _opening(path, _TORCH):
        return read_torch(path, _CLASSES)


def read_numpy(path: Path) -> Any:
    """The array of a ``.npy`` file, or those of a ``.npz`` by name; no pickle is opened.

    Raises:
        ArtifactError: broken, too large, or pickled Python objects, which could run code.
    """
    with _opening(path, "a NumPy file"):
        try:
            return read_arrays(read_bytes(path), path)
        except ValueError as error:
            if "allow_pickle" not in str(error):
                raise
            raise ArtifactError(
                f"{path} holds a pickled Python object, as np.save writes a dict: that can run "
                "code, so it was not opened. Where you trust it, load it and save its vectors with "
                "np.savez(path, **{str(layer): vector}) or torch.save."
            ) from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a ``.safetensors`` file, by name, half precision as float32; its metadata.

    Raises:
        ArtifactError: broken, too large, or no such file.
    """
    from safetensors import safe_open

    regular_file(path)
    with _opening(path, "a safetensors file"), safe_open(path, framework="pt") as file:
        tensors = {name: dense(path, file.get_tensor(name)) for name in file.keys()}
        return tensors, file.metadata() or {}


def is_ours(path: Path) -> bool:
    """Whether a ``.safetensors`` file is one that the workbench wrote."""
    from safetensors import safe_open

    regular_file(path, otherwise=MAX_ARTIFACT_BYTES)
    with _opening(path, "a safetensors file"), safe_open(path, framework="numpy") as file:
        # Other formats have a manifest, too; a damaged one of ours still names its parts.
        manifest = (file.metadata() or {}).get("manifest", "")
        return '"kind"' in manifest and '"schema_version"' in manifest


@contextmanager
def _opening(path: Path, expected: str) -> Iterator[None]:
    """As `parsing`; of a broken file it is said what its first bytes show."""
    with parsing(path, expected):
        try:
            yield
        except (WorkbenchError, ImportError, MemoryError):
            raise
        except Exception as error:
            raise ValueError(_reason(path, expected, error)) from error


def _reason(path: Path, expected: str, error: Exception) -> str:
    """What is wrong with a file, as its first bytes show it or the library says it."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, so fetch the file itself (git lfs pull)"
    if start.lstrip()[:5].lower() in (b"<html", b"<!doc"):
        return "it is a web page"
    if expected == _TORCH and not start.startswith((b"PK", b"\x80")):
        return f"it begins with {bytes(start[:4])!r}, and none that torch.save wrote does"
    said = shortened(error)
    # Unpicklers raise whatever comes: "101", a lone key, nothing at all.
    return said if " " in said else f"it is cut off or damaged ({type(error).__name__})"


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
