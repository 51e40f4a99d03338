"""``workbench`` and ``python -m workbench``."""

import sys
import warnings
from typing import Any, NoReturn

_INTERRUPTED = 130
_RESUMING = ("run", "patch-heads", "figures")
_GOES_ON = (
    "What is finished is kept in the run's folder: the same command again goes on from there."
)


def main() -> None:
    """Runs the command line; an error of ours is one line and status 2, Ctrl-C one and 130."""
    import typer

    from workbench import screen
    from workbench.cli.app import app, worded
    from workbench.errors import WorkbenchError

    def show(message: Any, *_args: Any, **_kwargs: Any) -> None:
        screen.fail(f"workbench: warning: {worded(message)}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # a place in the code helps nobody who called a command
        try:
            # Not by itself: typer shows what was typed as it is.
            status = app(standalone_mode=False)
        except WorkbenchError as error:
            screen.fail(f"workbench: {worded(error)}")
            status = 2
        except (typer.Abort, KeyboardInterrupt):
            status = _INTERRUPTED
        except Exception as error:
            if not hasattr(error, "format_message"):
                sys.excepthook = screen.show_traceback
                raise
            _refuse_usage(error)
    if status == _INTERRUPTED:  # typer makes that of Ctrl-C
        goes_on = any(each in _RESUMING for each in sys.argv[1:])
        screen.fail(f"workbench: stopped. {_GOES_ON if goes_on else ''}".strip())
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


if __name__ == "__main__":
    main()
