"""Random vectors in a transfer matrix: what any vector does to each category."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from workbench.analysis.selection.controls import is_outside, random_vectors, rank_p_value
from workbench.directions.direction import Directions

_CELLS = ("direction", "category", "mode")


def random_like_longest(vectors: Iterable[Directions], n: int, seed: int) -> list[Directions]:
    """Random vectors at the place of the longest of some vectors, and as long.

    So they do at least what one of the length of any other of them would do.
    """
    return random_vectors(max(vectors, key=lambda each: float(each.norms.item())), n, seed)


def with_random(matrix: xr.Dataset, scores: Sequence[np.ndarray]) -> xr.Dataset:
    """Adds what random vectors do to each category, and which effects leave their range.

    Args:
        matrix: with ``effect`` (direction, category, mode) and scores by prompt.
        scores: of each random vector under each mode, by prompt, modes running faster.

    Returns:
        The same with ``random_effect`` (control, category, mode), and ``outside`` and ``p_value``
        over (direction, category, mode).
    """
    if not len(scores):
        return matrix
    n_modes = matrix.sizes["mode"]
    changes = np.stack(scores) - matrix["plain_score_by_prompt"].values
    changes = changes.reshape(len(scores) // n_modes, n_modes, -1)
    owner = matrix["prompt_category"].values
    means = [changes[..., owner == own].mean(-1) for own in matrix["category"].values]
    random = np.stack(means, axis=1)  # [control category mode]
    effects = matrix["effect"].transpose(*_CELLS).values
    beside = np.moveaxis(random, 0, -1)[None]
    beside = np.broadcast_to(beside, (*effects.shape, len(random)))
    units = {"units": "nats", "long_name": "change of the refusal score by a random vector"}
    return matrix.assign(
        random_effect=(("control", "category", "mode"), random, units),
        outside=(_CELLS, is_outside(effects, beside)),
        p_value=(_CELLS, rank_p_value(effects, beside), {"units": "two-sided, by rank"}),
    ).assign_coords(control=list(range(1, len(random) + 1)))
