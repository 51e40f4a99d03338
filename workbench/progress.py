"""Progress bars that appear only where somebody watches."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from workbench.screen import console as console_of
from workbench.screen import one_line

T = TypeVar("T")
_active: Progress | None = None


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yields ``items``, drawing a bar on standard error if it is a terminal or a notebook.

    Loops inside loops share one display. The bar disappears when its loop ends, so a finished
    run leaves only results on the screen.
    """
    global _active
    console = console_of(stderr=True)
    if not (console.is_terminal or console.is_jupyter):
        yield from items
        return
    owner = _active is None
    display = _active or Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    if owner:
        display.start()
        _active = display
    task = display.add_task(one_line(description), total=total)
    try:
        for item in items:
            yield item
            display.advance(task)
    finally:
        display.remove_task(task)
        if owner:
            display.stop()
            _active = None
