"""Reads damaged files by the thousand, in processes that are watched.

A worker writes one damaged file after the other into a folder in memory and calls the reader. What
is no error of the workbench, takes more than ten seconds or a gigabyte, or kills the process is a
find: it is told with its target and seed, and its files are kept where ``--keep`` says.
"""

import argparse
import ctypes
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile.targets import TARGETS, hostile_input
from workbench.errors import WorkbenchError

SECONDS = 10.0
BYTES = 2**30
_ROOM = 3 * 2**30
"""Address space beside what a worker has at its start: more ends it before the machine."""
_POLL = 0.2


@dataclass(frozen=True)
class Find:
    """Something that came of an input and is no error of the workbench."""

    target: str
    seed: int
    what: str

    def __str__(self) -> str:
        return f"{self.target} {self.seed}: {self.what}"


def attempt(target: str, seed: int | None, folder: Path) -> str | None:
    """Reads one input, or a seed as it is; what is wrong with what came of it, or None."""
    bundle, name, content = hostile_input(target, seed)
    for each, own in {**bundle, name: content}.items():
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(own)
    try:
        return complaint(target, folder, name)
    finally:
        for each in bundle:
            (folder / each).unlink(missing_ok=True)


def complaint(target: str, folder: Path, name: str) -> str | None:
    """What is wrong with what comes of a folder, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TARGETS[target].read(folder, name)
    except WorkbenchError as error:
        message, cause = str(error), error.__cause__
        if isinstance(cause, MemoryError):
            return f"asks for too much memory: {message[:200]}"
        if len(message) > 2000:
            return f"a message of {len(message)} characters"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:160]}"
    return None


def plan(n: int, targets: list[str], each: int | None) -> dict[str, int]:
    """How many inputs each target gets."""
    if each is not None:
        return {name: max(each // TARGETS[name].slow, 1) for name in targets}
    shares = {name: 1 / TARGETS[name].slow for name in targets}
    total = sum(shares.values())
    return {name: max(round(n * share / total), 1) for name, share in shares.items()}


def _inputs(counts: dict[str, int], first: int, part: int, parts: int) -> list[tuple[str, int]]:
    """Every worker's own inputs, in turn."""
    listed = [(name, first + seed) for name, count in counts.items() for seed in range(count)]
    return listed[part::parts]


class _Worker:
    """A process, and what is known of it from outside."""

    def __init__(self, inputs: list[tuple[str, int]], folder: Path) -> None:
        self.inputs, self.folder = inputs, folder
        self.at = multiprocessing.Value(ctypes.c_longlong, 0)
        self.since = multiprocessing.Value(ctypes.c_double, 0.0)
        self.finds = folder / "finds.jsonl"
        self.finds.touch()
        self._start()

    def _start(self) -> None:
        self.since.value = time.monotonic()
        self.process = multiprocessing.get_context("fork").Process(target=self._work, daemon=True)
        self.process.start()

    def _work(self) -> None:
        limit = _size() + _ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # What libraries say of thousands of broken files is said to nobody.
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        place, before = self.folder / "input", _peak()
        for at in range(self.at.value, len(self.inputs)):
            self.at.value, self.since.value = at, time.monotonic()
            target, seed = self.inputs[at]
            what, more = attempt(target, seed, place), _peak() - before
            if what is not None or more > BYTES:
                self._note(Find(target, seed, what or f"takes {more / BYTES:.1f} GiB"))
            if more > BYTES:
                self.at.value = at + 1
                os._exit(0)  # what was most is remembered for as long as the process lives
        self.at.value = len(self.inputs)
        # Not exit(): what libraries do then can hang, and nothing is left to do.
        os._exit(0)

    def _note(self, find: Find) -> None:
        with self.finds.open("a") as file:
            file.write(json.dumps([find.target, find.seed, find.what]) + "\n")

    def tend(self) -> bool:
        """Ends what hangs, starts it again after what killed it; whether there is more to do."""
        if self.process.is_alive():
            if time.monotonic() - self.since.value <= SECONDS:
                return True
            self._lost(f"takes more than {SECONDS:.0f} s")
        elif self.process.exitcode:
            self._lost(f"kills the process (exit status {self.process.exitcode})")
        elif self.at.value < len(self.inputs):
            self._start()
        else:
            return False
        return True

    def _lost(self, what: str) -> None:
        """Notes what the process did with its last input, and goes on after it."""
        self.process.kill()
        self.process.join()
        if self.at.value < len(self.inputs):
            self._note(Find(*self.inputs[self.at.value], what))
            self.at.value += 1
        shutil.rmtree(self.folder / "input", ignore_errors=True)
        self._start()

    def found(self) -> Iterator[Find]:
        for line in self.finds.read_text().splitlines():
            yield Find(*json.loads(line))


def fuzz(counts: dict[str, int], first: int = 0, workers: int = 1, warm: bool = True) -> list[Find]:
    """Reads so many inputs of each target, from a seed on, and returns the finds.

    ``warm`` reads a valid file first, so that all processes have what is imported for it.
    """
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as base:
        for name in counts:
            TARGETS[name].bundles()
            if warm:
                attempt(name, None, Path(base))
        started = []
        for part in range(workers):
            folder = Path(base) / str(part)
            (folder / "input").mkdir(parents=True)
            started.append(_Worker(_inputs(counts, first, part, workers), folder))
        while any([worker.tend() for worker in started]):
            time.sleep(_POLL)
        return [find for worker in started for find in worker.found()]


def keep(find: Find, folder: Path) -> None:
    """Writes the files of a find into a folder of their own."""
    bundle, name, content = hostile_input(find.target, find.seed)
    for each, own in {**bundle, name: content}.items():
        path = folder / find.target / str(find.seed) / each
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(own)


def _size() -> int:
    """Address space of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(arguments: list[str] | None = None) -> int:
    """Fuzzes, and tells what was found; the status is 1 where anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="inputs in all")
    parser.add_argument("--each", type=int, help="inputs per target instead; fewer of slow ones")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--targets", default=",".join(TARGETS), help="with commas between")
    parser.add_argument("--keep", type=Path, help="folder for the files of finds")
    given: Any = parser.parse_args(arguments)
    counts = plan(given.n, given.targets.split(","), given.each)
    start, finds = time.monotonic(), []
    for name, count in counts.items():
        begun = time.monotonic()
        own = fuzz({name: count}, given.first, given.workers)
        finds += own
        rate = count / max(time.monotonic() - begun, 1e-9)
        print(f"{name}: {count} inputs, {rate:.0f} a second, {len(own)} finds", flush=True)
        kinds = Counter(find.what.split(":")[0] for find in own)
        for find in own:
            if given.keep is not None:
                keep(find, given.keep)
            if kinds.pop(kind := find.what.split(":")[0], None):
                same = sum(each.what.split(":")[0] == kind for each in own)
                print(f"  {find} ({same} like it)", flush=True)
    n, seconds = sum(counts.values()), time.monotonic() - start
    print(f"{n} inputs in {seconds:.0f} s, {n / seconds:.0f} a second: {len(finds)} finds")
    return int(bool(finds))


if __name__ == "__main__":
    sys.exit(main())
