"""How many test prompts a model treats as their label says, as tables and figures tell it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


def kept_line(told: Mapping[str, Mapping[str, Any]] | None) -> str:
    """One line; empty where nothing is known.

    Args:
        told: ``test_prompts`` of a result: for each label ``n``, ``kept``, and of the dropped ones
            ``dropped_score`` and ``dropped_rate``.

    >>> kept_line({"harmful": {"n": 40, "kept": 18, "dropped_score": -10.13, "dropped_rate": 0.0},
    ...            "harmless": {"n": 40, "kept": 40}})
    'test prompts: 18 of 40 harmful are refused (the others: score -10.1 nats, 0% refused), 40 of 40 harmless are answered'
    """  # noqa: E501
    if not told:
        return ""
    parts = []
    for label, verb in (("harmful", "refused"), ("harmless", "answered")):
        own = told[label]
        said = [f"score {own['dropped_score']:.1f} nats"] if "dropped_score" in own else []
        said += [f"{own['dropped_rate']:.0%} refused"] if "dropped_rate" in own else []
        others = f" (the others: {', '.join(said)})" if said else ""
        parts.append(f"{own['kept']} of {own['n']} {label} are {verb}{others}")
    return f"test prompts: {', '.join(parts)}"


def kept_end(found: "xr.Dataset") -> str:
    """The same behind a line of what was found, where the result says it."""
    line = kept_line(found.attrs.get("test_prompts"))
    return f"; {line}" if line else ""
