"""How much is read of a file, and of which files: nothing that hangs or fills the memory.

Limits hold for one file. They are what a reader's ``max_bytes`` and ``max_rows`` say, and
`allowing` passes them on to whatever is read within it.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from workbench.errors import ArtifactError, WorkbenchError
from workbench.screen import one_line

MAX_BYTES = 512 * 2**20
"""Of a file, and of what it holds when it is unpacked."""

MAX_ROWS = 1_000_000
"""Of a table."""

MAX_ARTIFACT_BYTES = 8 * 2**30
"""Of a file that the workbench wrote: it is never packed, and takes the memory that it says."""

_BYTES_OF_AN_ELEMENT = 32
"""What a number, a text or a list takes in memory beside its own length, at least."""

_bytes: ContextVar[int | None] = ContextVar("max_bytes", default=None)
_rows: ContextVar[int | None] = ContextVar("max_rows", default=None)


@contextmanager
def allowing(max_bytes: int | None = None, max_rows: int | None = None) -> Iterator[None]:
    """Other limits for what is read inside; None leaves one as it is.

    Raises:
        ArtifactError: a limit that is no whole number from 1 on.

    >>> with allowing(max_rows=10):
    ...     most_rows()
    10
    """
    for name, value in (("max_bytes", max_bytes), ("max_rows", max_rows)):
        if value is not None and (type(value) is not int or value < 1):
            raise ArtifactError(f"{name} must be a whole number from 1 on, found {value!r:.80}.")
    tokens = [
        (variable, variable.set(value))
        for variable, value in ((_bytes, max_bytes), (_rows, max_rows))
        if value is not None
    ]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def most_bytes(otherwise: int = MAX_BYTES) -> int:
    """How many bytes a file may have, and what it holds when it is unpacked."""
    allowed = _bytes.get()
    return otherwise if allowed is None else allowed


def most_rows() -> int:
    """How many rows a table may have."""
    allowed = _rows.get()
    return MAX_ROWS if allowed is None else allowed


def most_elements(each: int = _BYTES_OF_AN_ELEMENT) -> int:
    """How many cells, numbers in text, or other single things of so many bytes a file may hold."""
    return max(most_bytes() // each, 1)


def lies_there(path: Path) -> bool:
    """Whether something lies at a path; a name that no file can have lies nowhere."""
    try:
        return path.expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def regular_file(
    path: Path, error: type[WorkbenchError] = ArtifactError, otherwise: int = MAX_BYTES
) -> int:
    """The size of a file that can be read to its end, in bytes.

    Raises:
        WorkbenchError: of the given class: nothing there; a folder, a pipe or a device, which may
            never end; or more bytes than are allowed.
    """
    try:
        found = path.stat()
    except FileNotFoundError as cause:
        raise error(f"no file {path}. Check the path.") from cause
    except (OSError, ValueError) as cause:
        raise error(f"cannot read {path}: {shortened(cause)}") from cause
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path} is {_kind(found.st_mode)} and no regular file. Pass a file.")
    check_bytes(path, found.st_size, error, otherwise)
    return found.st_size


def read_bytes(path: Path, error: type[WorkbenchError] = ArtifactError) -> bytes:
    """The whole of a regular file.

    Raises:
        WorkbenchError: of the given class: see `regular_file`; or it cannot be read.
    """
    regular_file(path, error)
    try:
        return path.read_bytes()
    except OSError as cause:
        raise error(f"cannot read {path}: {shortened(cause)}") from cause


def check_bytes(
    path: Path | str,
    found: int,
    error: type[WorkbenchError] = ArtifactError,
    otherwise: int = MAX_BYTES,
    what: str = "bytes",
) -> None:
    """Refuses more bytes than are allowed.

    Raises:
        WorkbenchError: of the given class.
    """
    if found > (most := most_bytes(otherwise)):
        raise error(_too_many(path, f"{found:,} {what}", most, f"max_bytes={found}"))


def check_rows(path: Path | str, found: int, error: type[WorkbenchError] = ArtifactError) -> None:
    """Refuses more rows than are allowed.

    Raises:
        WorkbenchError: of the given class.
    """
    if found > (most := most_rows()):
        raise error(_too_many(path, f"{found:,} rows or more", most, f"max_rows={found}"))


def check_elements(
    path: Path | str,
    found: int,
    error: type[WorkbenchError] = ArtifactError,
    what: str = "cells",
    each: int = _BYTES_OF_AN_ELEMENT,
) -> None:
    """Refuses more cells, numbers or other single things than are allowed.

    Args:
        path: the file.
        found: how many it holds.
        error: class of what is raised.
        what: they are.
        each: bytes that each takes in memory.

    Raises:
        WorkbenchError: of the given class.
    """
    if found > (most := most_elements(each)):
        raise error(_too_many(path, f"{found:,} {what}", most, f"max_bytes={found * each}"))


def _too_many(path: Path | str, held: str, most: int, remedy: str) -> str:
    return (
        f"{path} holds {held}, and at most {most:,} are read. Where that is meant, pass {remedy}."
    )


def shortened(error: BaseException | str, limit: int = 200) -> str:
    """A message of somebody else's as one sentence on one line, which a terminal can show."""
    line = one_line(str(error)[: 10 * limit]) or type(error).__name__
    return (line if len(line) <= limit else f"{line[:limit]}…").rstrip(".") + "."


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
