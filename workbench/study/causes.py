"""Analyses of what directions do to the model: transfer between categories, bands of layers."""

import numpy as np
import xarray as xr

from workbench.analysis.transfer import transfer_matrix
from workbench.study.material import Material

_MOST_WINDOWS = 12
"""Windows of layers that are tried, however many layers there are."""


def transfer(material: Material) -> dict[str, xr.Dataset]:
    """Every category's direction ablated and added on every category's test prompts."""
    study = material.study
    found = transfer_matrix(
        material.model,
        material.tested_directions.at(layer=material.layer),
        material.test["harmful"],
        harmless=material.test["harmless"],
        windows=layer_windows(material.model.n_layers),
        refusal_tokens=material.refusal_tokens,
        # First-token scores: replies under every edit would take longer than the run itself.
        judge=None,
        system=study.system,
        confidence=study.confidence,
        seed=study.seed,
    )
    return {"transfer": found}


def layer_windows(n_layers: int) -> list[list[int]]:
    """Windows of a quarter of the layers, evenly spaced, at most twelve.

    >>> layer_windows(5)
    [[0], [1], [2], [3], [4]]
    >>> len(layer_windows(80)), layer_windows(80)[0][-1], layer_windows(80)[-1][-1]
    (12, 19, 79)
    """
    width = max(1, n_layers // 4)
    places = n_layers - width + 1
    firsts = np.linspace(0, places - 1, min(places, _MOST_WINDOWS)).round().astype(int)
    return [list(range(first, first + width)) for first in firsts.tolist()]
