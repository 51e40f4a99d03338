"""Checksums made to fit again, after a test changed a file by hand."""

import json
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import save_file

from workbench.artifact import _checksum


def seal(path: Path) -> Path:
    """Gives one artifact, or every artifact in a folder, the checksum of what it holds now."""
    for own in sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]:
        with safe_open(own, framework="numpy") as file:
            manifest = json.loads(file.metadata()["manifest"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        manifest.pop("sha256", None)
        manifest["sha256"] = _checksum(tensors, manifest)
        save_file(tensors, own, metadata={"manifest": json.dumps(manifest, sort_keys=True)})
    return path
