"""What a name means: an organism, a folder, a GGUF file, an adapter, or a Hub id."""

import sys
from dataclasses import dataclass
from pathlib import Path

from workbench.errors import ModelError
from workbench.intake.limits import allowing, lies_there, regular_file
from workbench.models.organisms import organism_names, organism_path

CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"


@dataclass(frozen=True)
class Place:
    """Where a model is read from.

    Attributes:
        name: what was asked for.
        source: a folder, a file or a Hub id.
        kind: ``folder``, ``gguf``, ``adapter`` (a folder, too) or ``hub``.
    """

    name: str
    source: str
    kind: str

    @property
    def path(self) -> Path:
        """The folder or file."""
        return Path(self.source)


def find_model(name: str | Path) -> Place:
    """The place that a name means; a name that can only be a folder or a file must exist.

    Raises:
        ModelError: there is no such thing, or what lies there is no model.
    """
    if str(name) in organism_names():
        return Place(str(name), str(organism_path(str(name))), "folder")
    path = Path(name).expanduser()
    if path.suffix.lower() == ".gguf" and not (lies_there(path) and path.is_dir()):
        if not lies_there(path):
            raise ModelError(
                f"no file {path}. Check the path; one of the Hub is downloaded first: "
                "`hf download OWNER/NAME FILE.gguf --local-dir .`"
            )
        with allowing(max_bytes=sys.maxsize):  # weights may be as large as they are
            regular_file(path, ModelError)
        return Place(str(name), str(path), "gguf")
    if lies_there(path) and path.is_dir():
        is_adapter = (path / ADAPTER_CONFIG).is_file()
        if not is_adapter and not (path / CONFIG).is_file():
            raise ModelError(
                f"{path} has no config.json, so it is not a model folder.{_ggufs(path)}"
            )
        check_files(path)
        return Place(str(name), str(path), "adapter" if is_adapter else "folder")
    looks_local = isinstance(name, Path) or path.is_absolute() or str(name).startswith((".", "~"))
    if looks_local or lies_there(path) or str(name).count("/") != 1:
        known = ", ".join(organism_names())
        raise ModelError(
            f"no model {str(name)!r}: not a shipped organism ({known}), not a folder, not a .gguf "
            "file. A Hub id has the form owner/name."
        )
    return Place(str(name), str(name), "hub")


def check_files(folder: Path) -> None:
    """Refuses what would be waited for: pipes and devices in a folder.

    Raises:
        ModelError: there is one.
    """
    for file in folder.iterdir():
        if not file.is_dir() and file.exists():
            with allowing(max_bytes=sys.maxsize):
                regular_file(file, ModelError)


def _ggufs(folder: Path) -> str:
    """The sentence about GGUF files in a folder; none where there are none."""
    found = sorted(file.name for file in folder.glob("*.gguf"))
    return f" Pass one of its files, such as {folder / found[0]}." if found else ""
