"""``workbench`` and ``python -m workbench``."""

import sys
import warnings
from typing import Any


def main() -> None:
    """Runs the command line; an error of ours is one line and status 2, a warning one line."""
    from workbench.cli import app, worded
    from workbench.errors import WorkbenchError

    def show(message: Any, *_args: Any, **_kwargs: Any) -> None:
        print(f"workbench: warning: {worded(message)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show  # a place in the code helps nobody who called a command
        try:
            app()
        except WorkbenchError as error:
            print(f"workbench: {worded(error)}", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
