"""Checksums made to fit again, after a test changed a file by hand."""

import contextlib
import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from workbench.artifact import _checksum, file_digest
from workbench.study import names
from workbench.study.ledger import Ledger, _digest, inputs_of, result_files
from workbench.study.registry import ANALYSES


def seal(path: Path) -> Path:
    """Gives one artifact, or every artifact in a folder, the checksum of what it holds now."""
    for own in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
        with safe_open(own, framework="numpy") as file:
            manifest = json.loads(file.metadata()["manifest"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        stored = manifest.pop("sha256", None)
        manifest["sha256"] = _checksum(tensors, manifest)
        if stored != manifest["sha256"]:
            save_file(tensors, own, metadata={"manifest": json.dumps(manifest, sort_keys=True)})
    return path


def seal_artifact(folder: Path, name: str) -> None:
    """Gives one artifact of a folder the checksum of what it holds, if it holds anything."""
    with contextlib.suppress(Exception):
        seal(folder / name)


def seal_again(folder: Path, name: str) -> None:
    """Gives a run checksums that fit, as far as it can have them, after one file was changed.

    What the file says is then met by whoever reads it, as if a run had been made so. A ledger that
    was changed keeps what it says; of other files it gets the sums.
    """
    with contextlib.suppress(Exception):
        seal(folder)
    path, study = folder / names.LEDGER, folder / names.STUDY
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        stored.pop("sha256", None)
        if name == names.STUDY:
            stored["study"] = json.loads(study.read_text(encoding="utf-8"))
        if name != names.LEDGER:
            _seal_entries(folder, stored)
        stored["sha256"] = _digest(stored)
        path.write_text(json.dumps(stored))
        study.write_text(Ledger(folder, stored["study"]).study_text)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return  # it is no ledger any more


def _seal_entries(folder: Path, stored: Any) -> None:
    for own, entry in stored["files"].items():
        entry["sha256"] = file_digest(folder / own)
        with contextlib.suppress(Exception):  # settings that are none
            entry["inputs"] = inputs_of(own, stored["study"])
    for entry in stored["files"].values():
        entry["made_from"] = {own: stored["files"][own]["sha256"] for own in entry["made_from"]}


def seal_run(folder: Path) -> Path:
    """Gives a run the ledger of what lies in its folder now, as if it had been made so."""
    seal(folder)
    of_analyses = {name: each.made_from for each in ANALYSES for name in each.files}
    made_from = {**names.MADE_FROM, **of_analyses}
    ledger = Ledger(folder, json.loads((folder / names.STUDY).read_text()))
    for name in result_files(folder):
        ledger.keep(name, made_from.get(name, names.PLACE))
    ledger.save()
    (folder / names.STUDY).write_text(ledger.study_text)
    return folder
