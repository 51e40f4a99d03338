"""``workbench`` and ``python -m workbench``."""

import re
import sys
import warnings
from collections.abc import Mapping
from typing import Any, NoReturn

# An argument as errors name it, with its value if it has one. What stands in quotes is a name, a
# path or a prompt, and nothing of it is ours to change.
_ARGUMENT = re.compile(
    r"""(?<!\w)'[^']*'(?!\w) | (?<!\w)"[^"]*"(?!\w) |
    (?<![^\s(])(?P<name>[a-z][a-z_]*)=(?:torch\.)?(?P<value>'[^']*'|"[^"]*"|\w[\w-]*)?""",
    re.VERBOSE,
)
_CALLS = re.compile(r" to load_(model|prompts)\b")
_OTHER_NAMES = {"words": "refusal_words"}
"""Arguments that a setting passes on under another name."""


def main() -> None:
    """Runs the command line; an error of ours is one line and status 2."""
    import typer

    from workbench import screen
    from workbench.cli import app
    from workbench.errors import WorkbenchError

    with warnings.catch_warnings():
        warnings.showwarning = screen.show_warning
        try:
            # Not by itself: typer shows what was typed as it is.
            status = app(standalone_mode=False)
        except WorkbenchError as error:
            # One line whatever a path or a prompt in the message holds.
            line = screen.one_line(str(error))
            screen.fail(f"workbench: {in_options(line, _options(sys.argv))}")
            status = 2
        except typer.Abort:
            screen.fail("workbench: aborted.")
            status = 1
        except Exception as error:
            if not hasattr(error, "format_message"):
                sys.excepthook = screen.show_traceback
                raise
            _refuse_usage(error)
    sys.exit(status or 0)


def _refuse_usage(error: Any) -> NoReturn:
    """Says what of a command line typer did not understand."""
    from workbench import screen

    # Without arguments the help was shown, and nothing is wrong.
    if type(error).__name__ != "NoArgsIsHelpError":
        context = getattr(error, "ctx", None)
        if context is not None:
            screen.fail(context.get_usage())
        command = context.command_path if context is not None else "workbench"
        screen.fail(f"workbench: {error.format_message()} See {command} --help.")
    sys.exit(error.exit_code)


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
