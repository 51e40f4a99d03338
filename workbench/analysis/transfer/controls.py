"""Controls in a transfer matrix: what vectors without meaning do to each category."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from workbench.activations import Activations
from workbench.analysis.selection.controls import KINDS, control_directions, control_kinds
from workbench.directions.direction import Directions
from workbench.statistics.ranks import beside

_CELLS = ("name", "category", "mode")


def controls_like_longest(
    vectors: Iterable[Directions],
    n: int,
    seed: int,
    activations: Activations | Sequence[Activations] | None = None,
    n_shuffled: int | None = None,
) -> list[Directions]:
    """Vectors without meaning at the place of the longest of some vectors: none if n is 0.

    Random ones are as long as it is, so they do at least what one of the length of any other of
    them would do.

    Args:
        vectors: single ones.
        n: how many of each kind.
        seed: of the draws.
        activations: of single prompts, for the kinds that `control_directions` draws from them;
            without them random vectors of any orientation alone.
        n_shuffled: prompts whose mean is one end of a direction of shuffled labels.
    """
    if not n:
        return []
    longest = max(vectors, key=lambda each: float(each.norms.item()))
    kinds = KINDS if activations is not None else ("isotropic",)
    found = control_directions(
        longest, activations, kinds=kinds, n=n, n_shuffled=n_shuffled, seed=seed
    )
    return [found.at(name=name) for name in found.names]


def with_controls(
    matrix: xr.Dataset, controls: Sequence[Directions], scores: Sequence[np.ndarray]
) -> xr.Dataset:
    """Adds what controls do to each category, and which effects leave the range of every kind.

    Args:
        matrix: with ``effect`` (name, category, mode) and scores by prompt.
        controls: single ones, named as `control_directions` names them.
        scores: of each control under each mode, by prompt, modes running faster.

    Returns:
        The same with ``random_effect`` (control, category, mode), and ``outside`` and ``p_value``
        over (name, category, mode); ``control_kind`` (control).
    """
    if not controls:
        return matrix
    kinds = [kind for each in controls for kind in control_kinds(each)]
    changes = np.stack(scores) - matrix["plain_score_by_prompt"].values
    changes = changes.reshape(len(controls), matrix.sizes["mode"], -1)
    owner = matrix["prompt_category"].values
    means = [changes[..., owner == own].mean(-1) for own in matrix["category"].values]
    random = np.stack(means, axis=1)  # [control category mode]
    effects = matrix["effect"].transpose(*_CELLS).values
    others = np.moveaxis(random, 0, -1)[None]
    outside, p = beside(effects, np.broadcast_to(others, (*effects.shape, len(random))), kinds)
    units = {"units": "nats", "long_name": "change of the refusal score by a control"}
    return matrix.assign(
        random_effect=(("control", "category", "mode"), random, units),
        outside=(_CELLS, outside),
        p_value=(_CELLS, p, {"units": "two-sided, by rank, the largest over kinds"}),
    ).assign_coords(
        control=[name for each in controls for name in each.names],
        control_kind=("control", kinds),
    )
