"""Zip archives, such as ``.npz`` and ``.pt``: what they hold once unpacked, by their directory."""

import io
import zipfile
from pathlib import Path

from workbench.errors import ArtifactError
from workbench.intake.limits import check_bytes


def check_zip(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuses an archive that unpacks to more than is allowed, or holds a name twice.

    Readers differ in which of two entries of one name they take.

    Raises:
        ArtifactError: it is one.
    """
    entries = archive.infolist()
    check_bytes(path, sum(entry.file_size for entry in entries), what="bytes once unpacked")
    if len({entry.filename for entry in entries}) < len(entries):
        raise ArtifactError(f"{path} is broken: two of its entries have one name.")


def repacked(content: bytes, path: Path) -> dict[str, bytes]:
    """The entries of an archive by name, each as long as its directory says.

    Raises:
        ArtifactError: see `check_zip`.
        BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_zip(archive, path)
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries: dict[str, bytes]) -> io.BytesIO:
    """An archive of these entries, not compressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    made.seek(0)
    return made
