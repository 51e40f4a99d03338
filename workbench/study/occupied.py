"""One process at a time in a run's folder."""

import contextlib
import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.artifact import is_leftover, sweep_leftovers, write_text
from workbench.errors import ArtifactError, StudyError
from workbench.study.stored import read_holder

LOCK = ".lock"
"""Locked by the system for as long as its holder lives; the file itself means nothing and stays."""
HOLDER = ".holder.json"
"""Who holds the lock, for others to be told; it may outlive a holder that was killed."""

_LONGEST = 120


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing into a run's folder, which is made if it is not there.

    What a killed process left half written there is swept.

    Raises:
        StudyError: another process writes there; the message says which, and since when.
        ArtifactError: the folder cannot be written.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise StudyError(
            f"another process writes into {folder}: {_holder(folder)}. Wait until it ends, stop "
            "it, or choose another out=."
        ) from None
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"cannot write into {folder}: {reason}.") from error
    try:
        sweep_leftovers(folder)
        write_text(folder / HOLDER, json.dumps(_self()))
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def is_unused(folder: Path) -> bool:
    """Whether nothing is in a folder but what a process leaves that was stopped before it wrote."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(
        path.name in (LOCK, HOLDER) or is_leftover(path) for path in folder.iterdir()
    )


def _self() -> dict[str, str | int]:
    """This process, as others are told of it."""
    program, *arguments = sys.argv or [""]
    name = Path(program).name.replace("__main__.py", "workbench")
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": datetime.now(UTC).isoformat(" ", "seconds"),
        "command": shlex.join([name, *arguments])[:_LONGEST],
    }


def _holder(folder: Path) -> str:
    """Who holds the lock, as far as that is known."""
    try:
        held = read_holder(folder / HOLDER)
    except StudyError:
        return "it has only just begun"
    return f"process {held.pid} on {held.host}, since {held.since} ({held.command})"
