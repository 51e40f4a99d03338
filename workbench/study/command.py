"""The command that runs a study."""

import shlex
from dataclasses import asdict
from typing import Any

from workbench.study.settings import Study


def command(study: Study) -> str:
    """The command that runs a study again: only what differs from the defaults.

    >>> command(Study(n_test=8, system="Be brief."))
    "workbench run --n-test 8 --system 'Be brief.'"
    """
    defaults = asdict(Study())
    options = [
        _option(name.replace("_", "-"), value)
        for name, value in asdict(study).items()
        if value != defaults[name] and value is not None
    ]
    return " ".join(["workbench run", *options])


def _option(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {shlex.quote(str(value))}"
