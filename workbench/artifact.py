"""One file per artifact: safetensors with one JSON manifest, written atomically.

A file written here says what it is (``kind``), in which schema (``schema_version``), where it
comes from (``provenance``), and carries a checksum of all of it. `load_artifact` refuses anything
else, so a truncated download, a flipped byte, a model checkpoint or a result of another kind is
never mistaken for data.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from workbench.errors import ArtifactError
from workbench.intake.limits import MAX_ARTIFACT_BYTES, lies_there, regular_file
from workbench.intake.parsing import parsing
from workbench.intake.records import parsed_json

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 2
"""Raised when a reader of the previous version would misread a file; 1 had no checksum."""

WITH_GAPS = frozenset(
    {
        "activations", "angles", "concept", "cosines", "cosines_between_layers",
        "cosines_between_positions", "cosmic", "directions", "effects", "head_attention",
        "head_screen", "pca", "projections", "sweep", "transfer", "transfer_rates", "verification",
        "wording",
    }
)  # fmt: skip
"""Kinds in which NaN says that something was not measured. In all others every number is
finite, but for bounds of intervals: of few prompts no mean has one."""

_LEFTOVER = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a file held: its kind, its manifest and its arrays."""

    kind: str
    manifest: dict[str, Any]
    tensors: dict[str, np.ndarray]


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Writes ``data`` to ``path``: whoever stops it, all of it is there, or what was before.

    Raises:
        ArtifactError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot make the folder {path.parent}: {error.strerror}.") from error
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"
    try:
        with temporary.open("wb") as file:
            _write(file, data)
            file.flush()
            os.fsync(file.fileno())
        _rename(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ArtifactError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        _discard(temporary)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Writes ``text`` to ``path`` as `write_bytes` does, in UTF-8."""
    return write_bytes(path, text.encode("utf-8"))


def sweep_leftovers(folder: Path) -> None:
    """Deletes temporary files that writers left which were killed; what cannot be deleted stays."""
    for path in filter(is_leftover, folder.rglob(".*.tmp")):
        _discard(path)


def is_leftover(path: Path) -> bool:
    """Whether a file is a temporary one of `write_bytes`, by its name."""
    return _LEFTOVER.fullmatch(path.name) is not None


# Each of these is one thing that can be the last to happen.
def _write(file: Any, data: bytes) -> None:
    file.write(data)


def _rename(temporary: Path, path: Path) -> None:
    temporary.replace(path)


def _discard(temporary: Path) -> None:
    # A disk that cannot be written cannot be cleaned up, and that is not what went wrong.
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a rename last; where folders cannot be opened, such as on Windows, it lasts anyway."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save_artifact(
    path: str | Path,
    *,
    kind: str,
    tensors: Mapping[str, np.ndarray],
    manifest: Mapping[str, Any],
) -> Path:
    """Writes one artifact atomically; the manifest is sorted JSON, so equal data gives equal files.

    Raises:
        ArtifactError: the manifest is not plain JSON, a number is not finite where none may lack,
            the path is a folder or ends as another format does, or the file cannot be written.
    """
    path = _artifact_path(path, kind)
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    _check_numbers(arrays, kind, f"cannot write {path}:")
    header = {**manifest, "kind": kind, "schema_version": SCHEMA_VERSION}
    try:
        header["sha256"] = _checksum(arrays, header)
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the manifest of this {kind} is not plain JSON: {error}.") from error
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    return write_bytes(path, save(arrays, metadata={"manifest": text}))


def _checksum(arrays: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest, and of the name, type, shape and numbers of every array."""
    found = hashlib.sha256(json.dumps(header, sort_keys=True, allow_nan=False).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(json.dumps([name, array.dtype.str, list(arrays[name].shape)]).encode())
        found.update(array.tobytes())
    return found.hexdigest()


def _check_numbers(arrays: Mapping[str, np.ndarray], kind: str, where: str) -> None:
    """Refuses numbers that are not finite, where that cannot mean that they were not measured."""
    floats = {name: own for name, own in arrays.items() if own.dtype.kind == "f" and own.size}
    finite = {name: np.isfinite(own) for name, own in floats.items()}
    if kind not in WITH_GAPS:
        for name, known in finite.items():
            if name.endswith("_interval"):
                known = known | np.isnan(floats[name])
            if lost := int((~known).sum()):
                raise ArtifactError(
                    f"{where} {lost} of {known.size} numbers of {name!r} are NaN or infinite, and "
                    f"those of a {kind} are all finite."
                )
    elif finite and not any(known.any() for known in finite.values()):
        raise ArtifactError(f"{where} no number of this {kind} is finite.")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, however large."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _artifact_path(path: str | Path, kind: str) -> Path:
    """Where an artifact can be written: its name promises no other format."""
    if not isinstance(path, str | os.PathLike):
        raise ArtifactError(f"expected the path of a file, found a {type(path).__name__}.")
    path = Path(path)
    if path.is_dir():
        raise ArtifactError(
            f"{path} is a folder. Pass a file in it: {path / f'{kind}.safetensors'}."
        )
    if path.suffix.lower() not in (".safetensors", ""):
        raise ArtifactError(
            f"{path} ends in {path.suffix}, and {kind} are written as safetensors. Pass "
            f"{path.with_suffix('.safetensors')}."
        )
    return path


def load_artifact(path: str | Path, *, kind: str) -> Artifact:
    """Reads one artifact of the given kind.

    The checksum is compared in files of schema 2, which all have one. A file that says it is of
    schema 1, before there were checksums, is read as it is: nothing shows whether it was changed.

    Raises:
        ArtifactError: no such file; broken, truncated, too large or changed since it was written;
            not written by the workbench; another kind; a schema newer than this version knows;
            numbers that are not finite where none may lack.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArtifactError(f"expected the path of a file, found a {type(path).__name__}.")
    path = Path(path)
    if not lies_there(path):
        raise ArtifactError(f"no file {path}. Expected a saved {kind}.")
    if path.is_dir():
        raise ArtifactError(f"no file {path}, which is a folder. Expected a saved {kind}.")
    regular_file(path, otherwise=MAX_ARTIFACT_BYTES)
    with parsing(path, "a safetensors file"), safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get("manifest")
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    manifest = None if text is None else parsed_json(text, f"{path}: its manifest")
    if not isinstance(manifest, dict) or "kind" not in manifest:
        raise ArtifactError(f"{path} was not written by the workbench. Expected a saved {kind}.")
    if manifest["kind"] != kind:
        raise ArtifactError(f"{path} is of kind {manifest['kind']!r:.80}, not {kind!r}.")
    version = manifest.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema {version}; this version reads up to {SCHEMA_VERSION}. "
            "Upgrade the workbench."
        )
    stored = manifest.pop("sha256", None)
    with parsing(path, "what the workbench wrote"):
        held = _checksum(tensors, manifest) if stored is not None or version > 1 else None
    if stored != held:
        raise ArtifactError(
            f"{path} is damaged: it is not what was written, as its checksum shows. Restore it, or "
            "make it again."
        )
    _check_numbers(tensors, kind, f"{path} is damaged:")
    return Artifact(kind, manifest, tensors)


def save_dataset(path: str | Path, dataset: "xr.Dataset", *, kind: str) -> Path:
    """Writes an `xarray.Dataset` as one artifact; text coordinates go into the manifest."""
    tensors: dict[str, np.ndarray] = {}
    variables: dict[str, Any] = {}
    for name, variable in dataset.variables.items():
        values = np.asarray(variable.values)
        entry: dict[str, Any] = {
            "dims": list(variable.dims),
            "attrs": dict(variable.attrs),
            "coordinate": name in dataset.coords,
        }
        if values.dtype.kind in "biuf":
            tensors[str(name)] = values
        else:
            # A position may be a name or a number, on one axis.
            flat = [own if type(own) is int else str(own) for own in values.ravel().tolist()]
            entry["text"] = np.array(flat, dtype=object).reshape(values.shape).tolist()
        variables[str(name)] = entry
    manifest = {"variables": variables, "attrs": dict(dataset.attrs)}
    return save_artifact(path, kind=kind, tensors=tensors, manifest=manifest)


def load_dataset(path: str | Path, *, kind: str) -> "xr.Dataset":
    """Reads what `save_dataset` wrote.

    Raises:
        ArtifactError: as `load_artifact`, or there is no value in it.
    """
    import xarray as xr

    artifact = load_artifact(path, kind=kind)
    with parsing(path, f"a complete {kind}", verb="does not hold"):
        variables = {
            name: xr.Variable(
                entry["dims"],
                np.asarray(entry["text"], dtype=object)
                if "text" in entry
                else artifact.tensors[name],
                entry["attrs"],
            )
            for name, entry in artifact.manifest["variables"].items()
        }
        coordinates = {
            name for name, entry in artifact.manifest["variables"].items() if entry["coordinate"]
        }
        found = xr.Dataset(
            {name: value for name, value in variables.items() if name not in coordinates},
            {name: value for name, value in variables.items() if name in coordinates},
            artifact.manifest["attrs"],
        )
    if not any(own.size for own in found.data_vars.values()):
        raise ArtifactError(f"{path} is empty: it holds no value of a {kind}.")
    return found


@cache
def environment() -> dict[str, str]:
    """Versions that a result depends on, for its provenance."""
    names = ("refusal-workbench", "torch", "transformers", "transformer-lens", "numpy")
    versions = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    commit = _git_commit()
    if commit:
        versions["git_commit"] = commit
    return versions


def versions() -> str:
    """The libraries that decide what a wrapper computes, for messages."""
    found = environment()
    names = ("torch", "transformers", "transformer-lens")
    told = ", ".join(f"{name} {found[name]}" for name in names if name in found)
    return f"Versions: {told}."


def _git_commit() -> str | None:
    """The commit of the checkout that the package runs from, if it runs from one."""
    package = Path(__file__).resolve().parent
    if not (package.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(package), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
