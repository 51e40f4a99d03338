"""The command that runs a study."""

import shlex
from dataclasses import asdict
from typing import Any

from workbench.names import file_only
from workbench.screen import plain
from workbench.study.settings import Study

_PATHS = ("model", "adapter", "harmful", "harmless", "borderline", "chat_template")
"""Settings that may be paths."""


def command(study: Study, whole_paths: bool = False) -> str:
    """The command that runs a study again: only what differs from the defaults, on one line.

    Args:
        study: its settings.
        whole_paths: for whoever made the run. Elsewhere files stand by their names: where they lie
            on this machine is nobody else's business.

    >>> command(Study(n_test=8, system="Be brief."))
    "workbench run --n-test 8 --system 'Be brief.'"
    """
    defaults = asdict(Study())
    options = [
        _option(name.replace("_", "-"), value if whole_paths else shown(name, value))
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


def shown(name: str, value: Any) -> Any:
    """A setting as others may see it."""
    return file_only(value) if name in _PATHS and isinstance(value, str) else value


def has_paths(study: Study) -> bool:
    """Whether some setting is a path, of which only the file's name is shown."""
    return any(shown(name, value) != value for name, value in asdict(study).items())
