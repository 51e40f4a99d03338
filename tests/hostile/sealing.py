"""Checksums made to fit again, after a test changed a file by hand."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from workbench.artifact import _checksum
from workbench.study import names
from workbench.study.analyses import ANALYSES
from workbench.study.ledger import Ledger, result_files


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


def seal_run(folder: Path) -> Path:
    """Gives a run the ledger of what lies in its folder now, as if it had been made so."""
    seal(folder)
    of_analyses = {name: each.made_from for each in ANALYSES for name in each.files}
    of_heads = (names.PROMPTS, names.DIRECTION)
    made_from = {**names.MADE_FROM, **of_analyses}
    ledger = Ledger(folder, json.loads((folder / names.STUDY).read_text()))
    for name in result_files(folder):
        ledger.keep(name, made_from.get(name, of_heads))
    ledger.save()
    (folder / names.STUDY).write_text(ledger.study_text)
    return folder
