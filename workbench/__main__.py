"""``workbench`` and ``python -m workbench``."""

import re
import sys
from collections.abc import Mapping

# An argument as errors name it, with its value if it has one. What stands in quotes is a name, a
# path or a prompt, and nothing of it is ours to change.
_ARGUMENT = re.compile(
    r"""(?<!\w)'[^']*'(?!\w) | (?<!\w)"[^"]*"(?!\w) |
    (?<![^\s(])(?P<name>[a-z][a-z_]*)=(?:torch\.)?(?P<value>'[^']*'|"[^"]*"|\w[\w-]*)?""",
    re.VERBOSE,
)
_CALLS = re.compile(r" to load_(model|prompts)\b")
_INTERRUPTED = 130
_RESUMING = ("run", "patch-heads", "figures")
_GOES_ON = (
    "What is finished is kept in the run's folder: the same command again goes on from there."
)
_OTHER_NAMES = {"words": "refusal_words"}
"""Arguments that a setting passes on under another name."""


def main() -> None:
    """Runs the command line; an error of ours is one line and status 2, Ctrl-C one and 130."""
    from workbench.errors import WorkbenchError

    try:
        from workbench.cli import app

        app()
    except WorkbenchError as error:
        # One line whatever a path or a prompt in the message holds.
        line = " ".join(str(error).split())
        print(f"workbench: {in_options(line, _options(sys.argv))}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stopped:
        # Typer makes the one into the other.
        if isinstance(stopped, SystemExit) and stopped.code != _INTERRUPTED:
            raise
        resumes = next((each for each in sys.argv[1:] if each in _RESUMING), None)
        print(f"workbench: stopped. {_GOES_ON if resumes else ''}".strip(), file=sys.stderr)
        sys.exit(_INTERRUPTED)


def in_options(message: str, options: Mapping[str, str]) -> str:
    """An error's advice in the words of the command that failed.

    Errors name the arguments of functions; where a command has an option for one, that is what its
    user can pass.

    Args:
        message: of the error, on one line.
        options: the command's options by the name of their argument.

    >>> in_options("Pass text_column=. Choose split='train'.", {"text_column": "--text-column"})
    "Pass --text-column. Choose split='train'."
    """

    def worded(found: re.Match[str]) -> str:
        option = options.get(_OTHER_NAMES.get(found["name"], found["name"]))
        if not found["name"] or not option:
            return found[0]
        return f"{option} {found['value']}" if found["value"] else option

    return _CALLS.sub("", _ARGUMENT.sub(worded, message))


def _options(arguments: list[str]) -> dict[str, str]:
    """The options of the command that was called."""
    from typer.main import get_command

    from workbench.cli import app

    commands = getattr(get_command(app), "commands", {})
    command = next((commands[each] for each in arguments[1:] if each in commands), None)
    parameters = command.params if command else []
    return {own.name: own.opts[-1] for own in parameters if own.opts[-1].startswith("--")}


if __name__ == "__main__":
    main()
