"""Where a run comes from: the command that repeats it, its settings, the identity of its parts."""

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from workbench.names import file_only, without_folders
from workbench.screen import plain
from workbench.study.results import Run, read_study
from workbench.study.settings import Study

Fact = tuple[str, str]
"""What is known, and its value."""

_WORDS = {
    "weights": "weights fingerprint",
    "template": "chat template fingerprint",
    "rendered": "rendered prompt fingerprint",
    "date": "day that the chat template writes",
    "revision": "model revision",
    "git_commit": "commit of the workbench",
}


def command(study: Study) -> str:
    """The command that runs a study again: only what differs from the defaults, on one line.

    Files stand by their names: where they lie on this machine is nobody else's business.

    >>> command(Study(n_test=8, system="Be brief."))
    "workbench run --n-test 8 --system 'Be brief.'"
    """
    defaults = asdict(Study())
    options = [
        _option(name.replace("_", "-"), shown(name, value))
        for name, value in asdict(study).items()
        if value != defaults[name] and value is not None
    ]
    return " ".join(["workbench run", *options])


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {_quoted(str(value))}"


def _quoted(value: str) -> str:
    r"""A value for a shell, on one line and without anything that cannot be seen.

    >>> _quoted("a'b"), _quoted("Be brief.\nBe kind.")
    ('\'a\'"\'"\'b\'', "$'Be brief.\\nBe kind.'")
    """
    if plain(value).replace("\n", "") == value and "\t" not in value:
        return shlex.quote(value)
    return f"$'{''.join(map(_escaped, value))}'"


def _escaped(character: str) -> str:
    """A character inside ``$'…'``, as bash and zsh read it."""
    if character in "\n\t\r":
        return {"\n": r"\n", "\t": r"\t", "\r": r"\r"}[character]
    if character in "\\'":
        return f"\\{character}"
    return character if plain(character) == character else f"\\U{ord(character):08x}"


_PATHS = ("model", "harmful", "harmless", "borderline", "chat_template")
"""Settings that may be paths."""


def shown(name: str, value: Any) -> Any:
    """A setting as others may see it."""
    return file_only(value) if name in _PATHS and isinstance(value, str) else value


def has_paths(study: Study) -> bool:
    """Whether some setting is a path, of which only the file's name is shown."""
    return any(shown(name, value) != value for name, value in asdict(study).items())


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
    recorded = read_study(run.folder)[1]
    facts = [("model", file_only(run.study.model)), ("seed", str(run.study.seed))]
    facts += [(_named(path), without_folders(value)) for path, value in _leaves(recorded)]
    return facts


def files(run: Run) -> list[tuple[str, int, str]]:
    """The artifacts of the run: path in its folder, bytes, and SHA-256."""
    return [
        (
            path.relative_to(run.folder).as_posix(),
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(run.folder.rglob("*"))
        if path.suffix in (".safetensors", ".csv", ".jsonl", ".json")
        and path.is_file()
        and "figures" not in path.relative_to(run.folder).parts
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
