"""The ledger of a run: for every file what it is, and which settings and files it was made from.

A result stands while its bytes are those that were written, the settings, prompts, chat template
and weights are those that it was made with, and so are the files that it was made from. What does
not stand is refused by readers and made again by `run_study`.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from workbench.artifact import file_digest, write_text
from workbench.errors import ArtifactError, StudyError
from workbench.intake.limits import read_bytes
from workbench.intake.records import read_checked
from workbench.study import names
from workbench.study.registry import ANALYSES
from workbench.study.settings import Study
from workbench.study.stored import check_ledger, read_recorded

_SCHEMA = 1
IDENTITY = ("weights", "dtype", "prompts", "template", "rendered", "thinking", "date")
"""Of a study's provenance: what its results hang on."""


@dataclass
class Ledger:
    """What a run's folder holds.

    Attributes:
        folder: of the run.
        record: settings and provenance of the study; ``study.json`` holds them, too.
        entries: for every file ``sha256``, the hash ``inputs`` of what the study says that it was
            made with, ``made_from``, the hash of each file that it was made from, and
            ``environment``, the versions that made it.
    """

    folder: Path
    record: Mapping[str, Any]
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Ledger":
        """The ledger of a folder.

        Raises:
            StudyError: there is none.
            ArtifactError: it is damaged, of other types, or of a later version.
        """
        path = folder / names.LEDGER
        if not path.is_file():
            raise StudyError(f"{folder} has no {names.LEDGER}.")
        stored = read_checked(path, dict[str, Any])
        if stored.pop("sha256", None) != _digest(stored):
            raise ArtifactError(f"{path} is damaged: its checksum differs.")
        if (version := stored.get("schema_version")) != _SCHEMA:
            raise ArtifactError(
                f"{path} has schema {version!r:.80}; this version reads {_SCHEMA}. Upgrade the "
                "workbench."
            )
        try:
            check_ledger(path, stored)
        except StudyError as error:
            raise ArtifactError(str(error)) from error
        return cls(folder, stored["study"], stored["files"])

    @property
    def study_text(self) -> str:
        """What ``study.json`` has to hold."""
        return json.dumps(self.record, indent=2, sort_keys=True)

    @property
    def study_stands(self) -> bool:
        """Whether ``study.json`` holds that."""
        try:
            return read_bytes(self.folder / names.STUDY) == self.study_text.encode()
        except ArtifactError:
            return False

    def save(self) -> None:
        """Writes the ledger."""
        stored = {"schema_version": _SCHEMA, "study": self.record, "files": self.entries}
        text = json.dumps({**stored, "sha256": _digest(stored)}, indent=1, sort_keys=True)
        write_text(self.folder / names.LEDGER, text)

    def go_on_with(self, record: Mapping[str, Any]) -> None:
        """Takes the record of a later opening; a setting that it adds had its default before."""
        settings = {**asdict(Study()), **self.record["settings"]}
        known = {own: settings[own] for own in record["settings"]}
        for name, entry in self.entries.items():
            if entry["inputs"] == inputs_of(name, self.record):
                entry["inputs"] = inputs_of(name, {**self.record, "settings": known})
        self.record = record

    def keep(self, name: str, made_from: Iterable[str] = ()) -> None:
        """Takes down a file that was just written.

        Args:
            name: its path in the folder.
            made_from: files of the run that it was made from; those that there are count.
        """
        self.entries[name] = {
            "sha256": file_digest(self.folder / name),
            "inputs": inputs_of(name, self.record),
            "made_from": {own: self.digest(own) for own in made_from if own in self.entries},
            "environment": dict(self.record["provenance"].get("environment", {})),
        }
        self.save()

    def forget(self, *files: str) -> None:
        """Strikes files out."""
        if known := [name for name in files if name in self.entries]:
            for name in known:
                del self.entries[name]
            self.save()

    def drop(self, *files: str) -> None:
        """Takes files away that say something about another state of the run.

        Raises:
            ArtifactError: they cannot be deleted.
        """
        for name in files:
            delete(self.folder / name)
        self.forget(*files)

    def digest(self, name: str) -> str | None:
        """The hash that a file was written with; None where it is not in the ledger."""
        return self.entries[name]["sha256"] if name in self.entries else None

    def fault(self, name: str) -> str | None:
        """Why a file does not stand, as the end of a sentence about it; None where it stands."""
        path, entry = self.folder / name, self.entries.get(name)
        if not path.is_file():
            return "is no file" if path.exists() else "is missing"
        if entry is None:
            return f"is not in {names.LEDGER}, so nothing says what it was made from"
        try:
            if file_digest(path) != entry["sha256"]:
                return "is damaged: it is not what was written, as its checksum shows"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        if entry["inputs"] != inputs_of(name, self.record):
            return "was made with other settings, prompts, template or weights, or in another dtype"
        for source, digest in entry["made_from"].items():
            if self.digest(source) != digest:
                return f"was made from another {source}"
        return None

    def odd(self, name: str) -> bool:
        """Whether a file that does not stand is one that should, and not just one not yet made."""
        return name in self.entries or (self.folder / name).exists()


def check_no_result(path: Path) -> None:
    """Refuses to write a page or a table over a file that a run is made of.

    Raises:
        StudyError: the path is that of a result, of ``study.json`` or of the ledger of a run.
    """
    for folder in list(path.resolve().parents)[:2]:
        name = path.resolve().relative_to(folder).as_posix()
        if holds_run(folder) and name in (names.STUDY, names.LEDGER, *result_files(folder)):
            raise StudyError(f"{path} is a file of the run in {folder}. Choose another out=.")


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in a folder."""
    return any((folder / name).is_file() for name in (names.LEDGER, names.STUDY))


def study_record(folder: Path) -> Mapping[str, Any]:
    """Settings and provenance of the run in a folder, of its ledger where that is whole.

    For making the run again; whoever reads its results asks the ledger alone.

    Raises:
        StudyError: neither the ledger nor ``study.json`` can be read.
    """
    try:
        return Ledger.read(folder).record
    except (StudyError, ArtifactError):
        return read_recorded(folder / names.STUDY)


def result_files(folder: Path) -> list[str]:
    """Every result that lies in a run's folder, by its path there; what heads were asked for, too.

    Names are known, whether or not the ledger has them; figures and pages are no results.
    """
    known = [*names.MADE_FROM, *(name for each in ANALYSES for name in each.files)]
    found = [name for name in dict.fromkeys(known) if (folder / name).exists()]
    heads = sorted((folder / names.HEADS_FOLDER).glob("*.*"))
    return found + [f"{names.HEADS_FOLDER}/{path.name}" for path in heads if path.is_file()]


def inputs_of(name: str, record: Mapping[str, Any]) -> str:
    """The hash of what a study's record says that a file is made with.

    Of settings as they are written there, whatever their defaults are by now.
    """
    settings = {
        setting: value
        for setting, value in record["settings"].items()
        if setting not in names.FREE and hangs_on(name, setting)
    }
    return _digest(
        [settings, {own: record["provenance"].get(own) for own in IDENTITY if hangs_on(name, own)}]
    )


def hangs_on(name: str, setting: str) -> bool:
    """Whether a file would be another one with another value of a setting, or other prompts."""
    return name not in names.UNTOUCHED_BY.get(setting, ())


def delete(path: Path) -> None:
    """Takes a file away, if it is there.

    Raises:
        ArtifactError: it cannot be deleted.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(f"cannot delete {path}: {error.strerror}.") from error


def delete_figure(folder: Path, name: str) -> None:
    """Takes a figure away, as whatever it was written.

    Raises:
        ArtifactError: it cannot be deleted.
    """
    for kind in names.FIGURE_KINDS:
        delete(folder / f"{name}.{kind}")


def _digest(value: Any) -> str:
    """SHA-256 of plain JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
