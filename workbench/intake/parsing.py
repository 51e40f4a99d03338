"""Whatever a library raises on a broken file, as one error of the workbench."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import ArtifactError, WorkbenchError
from workbench.intake.limits import shortened


@contextmanager
def parsing(
    path: Path | str,
    what: str,
    error: type[WorkbenchError] = ArtifactError,
    advice: str = "",
    verb: str = "is broken or not",
) -> Iterator[None]:
    """Reads a file that may be damaged or hostile.

    Parsers raise classes of their own, and on damaged input any other: ValueError, KeyError,
    struct.error, MemoryError, RecursionError, and panics of Rust, which are no Exception.

    Args:
        path: the file, for the message.
        what: it should be, such as "a Parquet file".
        error: class of what is raised.
        advice: a sentence that the message ends with.
        verb: what stands between the two.

    Raises:
        WorkbenchError: of the given class, with the path and the cause in one line; errors of the
            workbench pass as they are.
    """
    try:
        yield
    except (WorkbenchError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except ImportError:
        raise  # what is not installed says nothing about the file
    except BaseException as cause:
        shown = shortened(cause)
        kind = type(cause).__name__
        # The text of these is a bare key or size, and says nothing by itself.
        if isinstance(cause, KeyError | IndexError | AssertionError | MemoryError | StopIteration):
            shown = f"{kind}: {shown}" if shown != f"{kind}." else shown
        end = f" {advice}" if advice else ""
        raise error(f"{path} {verb} {what}: {shown}{end}") from cause


@contextmanager
def without_panics() -> Iterator[None]:
    """A panic of Rust, which is no Exception, as a ValueError."""
    try:
        yield
    except BaseException as cause:
        if type(cause).__name__ != "PanicException":
            raise
        raise ValueError(str(cause)) from cause
