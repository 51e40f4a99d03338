"""How shapes and types of arguments are checked while tests run."""

from typing import Any

from beartype import beartype


def checked_once(function: Any) -> Any:
    """A function with its types checked; one that is made inside another as it is.

    Such are made anew with every call of the outer one, a thousand times in a run, and to write
    the checks anew costs more than the forwards in which they are called.
    """
    return function if "<locals>" in function.__qualname__ else beartype(function)
