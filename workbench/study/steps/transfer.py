"""What each category's direction does to every category's prompts."""

import numpy as np
import xarray as xr

from workbench.analysis.transfer.matrix import HARMLESS, measure_transfer
from workbench.control_kinds import range_in_words
from workbench.kept import kept_end
from workbench.study.controls import N_CONTROLS, spread_of_training
from workbench.study.keeping import check_kept
from workbench.study.material import Material
from workbench.study.registry import Results
from workbench.study.thoughts import check_scored_after_prompt
from workbench.written import estimated, span_of

_MOST_WINDOWS = 12
"""Windows of layers that are tried, however many layers there are."""


def transfer(material: Material) -> dict[str, xr.Dataset]:
    """Every category's direction ablated and added on every category's kept test prompts.

    By first-token scores: replies under every edit would take longer than the run itself.
    """
    windows = layer_windows(material.model.n_layers)
    check_scored_after_prompt(material.study, "transfer")
    return {"transfer": _transfer(material, judge=None, windows=windows)}


def transfer_line(results: Results, layer: int, position: int) -> str:
    """How many causal blocks there are, and whether effects are symmetric."""
    at = results["transfer"].sel(mode="ablate")
    blocks = len({*at["block"].values.tolist()})
    text = f"{blocks} causal {'block' if blocks == 1 else 'blocks'} of {at.sizes['name']}"
    text += " directions when ablated"
    if "outside" in at:
        text += f"; {range_in_words(at)}"
    if "asymmetry" in at and float(at["asymmetry"]) == float(at["asymmetry"]):
        text += f"; asymmetry {estimated(at, 'asymmetry', '.2f')}"
        noise = float(at["asymmetry_noise"])
        text += f", by chance up to {noise:.2f}" if noise == noise else ", by chance not known"
    return text + kept_end(at)


def transfer_rates(material: Material) -> dict[str, xr.Dataset]:
    """The same with every reply written and judged, in all layers only."""
    check_scored_after_prompt(material.study, "transfer_rates")
    return {"transfer_rates": _transfer(material, judge=material.study.judge, windows=None)}


def transfer_rates_line(results: Results, layer: int, position: int) -> str:
    """What is still refused when each category's own direction is ablated, and what added does."""
    found = results["transfer_rates"]
    ablated = found["rate"].sel(mode="ablate").where(found["own"].astype(bool))
    own = ablated.max("name").dropna("category")
    plain = found["plain_rate"].sel(category=own["category"].values)
    text = f"refusal rate with the own direction ablated {span_of(own, 'category', '.0%')}"
    text += f", plain {float(plain.min()):.0%} to {float(plain.max()):.0%}"
    if "harmless" in found["category"].values:
        added = found["rate"].sel(mode="add", category="harmless", drop=True)
        text += f"; of harmless prompts with a direction added {span_of(added, 'name', '.0%')}"
    return text + kept_end(found)


def _transfer(material: Material, judge: str | None, windows: list[list[int]] | None) -> xr.Dataset:
    """The directions of all tested categories on the test prompts that are refused or answered.

    Of a prompt that the model answers anyway there is no refusal to remove.
    """
    study, kept = material.study, material.kept_test
    check_kept(material.treatment, "transfer")
    found = measure_transfer(
        material.model,
        material.directions_of(kept["harmful"]).at(layer=material.layer),
        kept["harmful"],
        harmless=kept["harmless"],
        windows=windows,
        refusal_tokens=material.refusal_tokens,
        judge=judge,
        max_new_tokens=study.max_new_tokens,
        n_random=N_CONTROLS if judge is None else 0,
        activations=spread_of_training(material) if judge is None else None,
        system=study.system,
        confidence=study.confidence,
        seed=study.seed,
    )
    n = [_n_dropped(material, str(category)) for category in found["category"].values]
    dropped = ("category", n, {"units": "prompts", "long_name": "not treated as labelled"})
    return found.assign(n_dropped=dropped).assign_attrs(test_prompts=dict(material.treatment))


def _n_dropped(material: Material, category: str) -> int:
    """How many test prompts of a column the model does not treat as their label says."""
    label, only = ("harmless", None) if category == HARMLESS else ("harmful", category)
    every, kept = material.test[label], material.kept_test[label]
    if only is None:
        return len(every) - len(kept)
    return every.categories.count(only) - kept.categories.count(only)


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
