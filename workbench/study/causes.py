"""Analyses of what directions do to the model: transfer between categories, bands of layers."""

import numpy as np
import xarray as xr

from workbench.analysis.losses import losses_with_and_without
from workbench.analysis.transfer import transfer_matrix
from workbench.artifact import load_dataset
from workbench.prompts.passages import plain_passages
from workbench.study import names
from workbench.study.controls import N_CONTROLS
from workbench.study.material import Material
from workbench.study.thoughts import check_scored_after_prompt

_MOST_WINDOWS = 12
"""Windows of layers that are tried, however many layers there are."""


def transfer(material: Material) -> dict[str, xr.Dataset]:
    """Every category's direction ablated and added on every category's test prompts.

    By first-token scores: replies under every edit would take longer than the run itself.
    """
    windows = layer_windows(material.model.n_layers)
    check_scored_after_prompt(material.study, "transfer")
    return {"transfer": _transfer(material, judge=None, windows=windows)}


def transfer_rates(material: Material) -> dict[str, xr.Dataset]:
    """The same with every reply written and judged, in all layers only."""
    return {"transfer_rates": _transfer(material, judge=material.study.judge, windows=None)}


def _transfer(material: Material, judge: str | None, windows: list[list[int]] | None) -> xr.Dataset:
    """The directions of all tested categories on all test prompts."""
    study = material.study
    return transfer_matrix(
        material.model,
        material.tested_directions.at(layer=material.layer),
        material.test["harmful"],
        harmless=material.test["harmless"],
        windows=windows,
        refusal_tokens=material.refusal_tokens,
        judge=judge,
        max_new_tokens=study.max_new_tokens,
        n_random=N_CONTROLS if judge is None else 0,
        system=study.system,
        confidence=study.confidence,
        seed=study.seed,
    )


def losses(material: Material) -> dict[str, xr.Dataset]:
    """Cross-entropy of plain prose and of the model's own replies to harmless test prompts."""
    effects = load_dataset(material.folder / names.EFFECTS, kind="effects")
    plain = material.replies[material.replies["condition"] == "plain"]
    own = plain[(plain["prompt_set"] == "harmless") & (plain["reply"].str.strip() != "")]
    texts: dict[str, object] = {"plain text": list(plain_passages())}
    if len(own):
        texts["own replies"] = (own["prompt"].tolist(), own["reply"].tolist())
    found = losses_with_and_without(
        material.model,
        material.direction,
        texts,
        projection=effects.attrs.get("projection"),
        coefficient=effects.attrs["coefficient"],
        system=material.study.system,
        confidence=material.study.confidence,
        seed=material.study.seed,
    )
    return {"losses": found}


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
