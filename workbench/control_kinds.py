"""Kinds of controls in the words of tables and figures: random vectors, and shuffled labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool

if TYPE_CHECKING:
    import xarray as xr

RANDOM, SHUFFLED = "random vectors", "shuffled labels"


def sorts(kinds: Sequence[str]) -> dict[str, Bool[np.ndarray, " control"]]:
    """Which controls are of either sort, of those that there are.

    Directions of shuffled labels are short, so what they do is told apart.

    Args:
        kinds: of each control, as `control_kinds` of its names gives them.

    >>> {sort: own.tolist() for sort, own in sorts(["isotropic", "covariance"]).items()}
    {'random vectors': [True, True]}
    """
    shuffled = np.array([kind == "permuted" for kind in kinds])
    return {sort: own for sort, own in ((RANDOM, ~shuffled), (SHUFFLED, shuffled)) if own.any()}


def n_of_sorts(kinds: Sequence[str]) -> tuple[int, int]:
    """How many controls are random vectors, and how many directions of shuffled labels.

    >>> n_of_sorts(["isotropic", "permuted", "covariance"])
    (2, 1)
    """
    n = {sort: int(own.sum()) for sort, own in sorts(kinds).items()}
    return n.get(RANDOM, 0), n.get(SHUFFLED, 0)


def kinds_of(found: "xr.Dataset") -> list[str]:
    """The kind of each control of a result; of earlier versions' all are random vectors."""
    if "control_kind" in found.coords:
        return [str(kind) for kind in found["control_kind"].values]
    return ["isotropic"] * found.sizes["control"]


def range_in_words(found: "xr.Dataset") -> str:
    """How many effects leave the range of every kind of controls, and how many would by chance.

    Args:
        found: with ``outside``, controls and their kinds. Ranks are among the controls of one kind.
    """
    kinds, counts = np.unique(kinds_of(found), return_counts=True)
    n, m, outside = int(counts.min()), found["outside"].size, int(found["outside"].sum())
    chance = f"{2 * m / (n + 1):.1f} would be by chance"
    if len(kinds) == 1:
        return f"{outside} of {m} effects outside the range of {n} random vectors, {chance}"
    return (
        f"{outside} of {m} effects outside the range of {n} controls of each of {len(kinds)} "
        f"kinds, at most {chance}"
    )
