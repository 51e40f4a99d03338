"""What a map of cosines holds: its variables, what they mean, and what the draws say of them."""

from typing import Any

import numpy as np
from jaxtyping import Float

from workbench.statistics.attenuation import Array, interval, one_direction
from workbench.statistics.corrected import holm

Arrays = dict[str, Array]

MEANINGS = {
    "cosine": "signed cosine of the measured directions",
    "cosine_interval": "interval of the cosine on as many other prompts",
    "reliability": "share of a direction's squared length that is not noise, from split halves",
    "disattenuated": "cosine without the noise of the directions, their own and what they share; "
    "an estimate, so that it may lie beyond 1, which means not told from 1; not measured where a "
    "direction is no longer than its noise",
    "disattenuated_interval": "interval of the disattenuated cosine; not measured where a "
    "direction may be no longer than its noise",
    "ceiling": "cosine that would be measured if the true directions were the same",
    "p_one_direction": "p-value of the true directions being one, whatever their lengths: of a "
    "disattenuated cosine of 1; one-sided, corrected by Holm over the pairs of one place",
    "mean_p_one_direction": "p-value of the mean disattenuated cosine being 1, as it is if all "
    "true directions are one, whatever their lengths; one-sided",
    "null": "quantiles of the cosine with categories permuted among the prompts",
    "p_permuted": "share of permutations with a cosine as low: whether prompts of the categories "
    "are drawn from one distribution, where lengths and spreads count as well as directions; "
    "one-sided, each pair for itself; of any number of prompts, which a permutation test allows",
}
"""What each variable of a map says."""


def variables(
    prefix: str,
    dims: tuple[str, ...],
    point: Arrays,
    draws: Arrays,
    confidence: float,
    square: bool = False,
) -> dict[str, Any]:
    """The map's variables, with what their draws say about them.

    Args:
        prefix: of their names: "" for pairs, "mean_" for means over them.
        dims: of the variables.
        point: estimates.
        draws: what they are by replicate.
        confidence: of the intervals.
        square: whether every pair stands in the map twice, and the diagonal is no pair.
    """
    found = {name: (dims, values) for name, values in point.items()}
    for name in ("cosine", "disattenuated"):
        if name in draws:
            bounds = interval(draws[name], draws["usable"], confidence)
            if name == "cosine":
                bounds = np.clip(bounds, -1, 1)
            else:
                p = one_direction(point[name], draws[name], bounds)
                found["p_one_direction"] = (dims, p if prefix else _over_pairs(p, square))
            found[f"{name}_interval"] = ((*dims, "bound"), bounds)
    if "null" in draws:
        null, n = draws["null"], len(draws["null"])
        lost = ~np.isfinite(null).all(0)
        bounds = np.quantile(np.where(lost, 0.0, null), levels(confidence), axis=0)
        found["null"] = ((*dims, "quantile"), np.moveaxis(np.where(lost, np.nan, bounds), 0, -1))
        # Equal but for rounding counts as low: so does a category's cosine with itself.
        as_low = (null <= point["cosine"] + 1e-9).sum(0)
        found["p_permuted"] = (dims, np.where(lost, np.nan, (1 + as_low) / (1 + n)))
    mean = "mean over pairs: " if prefix else ""
    return {
        f"{prefix}{name}": (
            *entry,
            {
                "units": "share" if name.startswith("p_") else "cosine",
                "long_name": MEANINGS.get(f"{prefix}{name}", mean + MEANINGS[name]),
            },
        )
        for name, entry in found.items()
    }


def _over_pairs(
    p_values: Float[np.ndarray, "*rest entry other"], square: bool
) -> Float[np.ndarray, "*rest entry other"]:
    """p-values of pairs, corrected over all of them."""
    if not square:
        return holm(p_values.reshape(*p_values.shape[:-2], -1)).reshape(p_values.shape)
    upper = np.triu_indices(p_values.shape[-1], k=1)
    found = np.full(p_values.shape, np.nan)
    found[..., *upper] = holm(p_values[..., *upper])
    found[..., upper[1], upper[0]] = found[..., *upper]
    return found


def levels(confidence: float) -> list[float]:
    """Quantiles of a null, rounded, so that 0.025 can be selected by its label."""
    return [round((1 - confidence) / 2, 10), 0.5, round((1 + confidence) / 2, 10)]
