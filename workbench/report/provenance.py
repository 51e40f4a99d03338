"""Where a run comes from: the command that repeats it, its settings, the identity of its parts."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from workbench.artifact import file_digest
from workbench.names import file_only, without_folders
from workbench.study.command import command as command
from workbench.study.command import has_paths as has_paths
from workbench.study.command import shown
from workbench.study.results import Run
from workbench.study.settings import Study

Fact = tuple[str, str]
"""What is known, and its value."""

_WORDS = {
    "weights": "weights fingerprint",
    "dtype": "weight type",
    "template": "chat template fingerprint",
    "rendered": "rendered prompt fingerprint",
    "date": "day that the chat template writes",
    "revision": "model revision",
    "git_commit": "commit of the workbench",
}


def settings(study: Study) -> list[tuple[str, str, str]]:
    """Every setting: its name, its value, and what it means."""
    values = {name: _written(shown(name, value)) for name, value in asdict(study).items()}
    return [(own.name, values[own.name], own.metadata["help"]) for own in fields(study)]


def checks(run: Run) -> list[tuple[str, str, str, str, str]]:
    """What `verify_model` found: check, difference, what rounding may do, verdict and note."""
    found = run.verification
    if found is None:
        return []
    columns = ("value", "allowed", "verdict", "note")
    rows = zip(found["check"].values, *(found[name].values for name in columns), strict=True)
    return [
        (str(name), _number(value), _number(allowed), str(verdict), without_folders(str(note)))
        for name, value, allowed, verdict, note in rows
    ]


def _number(value: float) -> str:
    return "" if value != value else f"{value:.1g}"


def identity(run: Run) -> list[Fact]:
    """Model, weights, template, prompts, versions, commit and seed, as the run recorded them."""
    facts = [("model", file_only(run.study.model)), ("seed", str(run.study.seed))]
    facts += [(_named(path), without_folders(value)) for path, value in _leaves(run.provenance)]
    facts += [
        (f"{_WORDS.get(own, own)}: results of several", ", ".join(found))
        for own, found in run.versions.items()
    ]
    return facts


def files(run: Run) -> list[tuple[str, int, str]]:
    """The artifacts of the run: path in its folder, bytes, and SHA-256.

    Raises:
        StudyError: a result was changed or deleted since the run was read.
    """
    there = {
        path.relative_to(run.folder).as_posix()
        for path in run.folder.rglob("*")
        if path.suffix in (".safetensors", ".csv", ".jsonl", ".json")
        and path.is_file()
        and not path.name.startswith(".")
        and "figures" not in path.relative_to(run.folder).parts
    }
    held = {name: run.digest(name) for name in run.results_held}
    return [
        (name, path.stat().st_size, held.get(name) or file_digest(path))
        for name, path in ((name, run.folder / name) for name in sorted(there))
    ]


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every single value of nested settings with the names that lead to it."""
    if not isinstance(value, Mapping):
        yield path, _written(value)
        return
    for name in sorted(value):
        yield from _leaves(value[name], (*path, str(name)))


def _named(path: tuple[str, ...]) -> str:
    """What a value of the record is, in words."""
    if path[0] == "prompts":
        return f"{' '.join(path[1:])} prompts fingerprint"
    return _WORDS.get(path[-1], " ".join(path[1:] if path[0] == "environment" else path))


def _written(value: Any) -> str:
    return "not set" if value is None or value == "" else str(value)
