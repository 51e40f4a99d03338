"""The shape of a matrix of effects: which rows do the same, and whether it is symmetric."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.stats import norm, t


@dataclass(frozen=True)
class Asymmetry:
    """How far ``effect[i, j]`` and ``effect[j, i]`` differ off the diagonal.

    Attributes:
        index: mean ``|E_ij - E_ji|`` over mean ``|E_ij + E_ji|``: 0 is symmetric, 1 is every effect
            one way only, more is opposite signs. NaN where nothing happens off the diagonal.
        interval: percentile bootstrap over prompts, within each category. The index cannot be
            negative, so noise raises it and its interval: read it against ``noise``.
        noise: what the choice of prompts alone would give a symmetric matrix of this size, its
            upper bound at the same confidence. NaN where a category has one prompt, of which nobody
            knows how much another would differ.
    """

    index: float
    interval: tuple[float, float]
    noise: float


def asymmetry(
    effects: Sequence[Float[np.ndarray, "direction _prompt"]],
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Asymmetry:
    """The asymmetry of a square matrix of effects, from its effects by prompt.

    Of resampled prompts the means spread too little, √((n - 1) / n) of what other prompts would do,
    and how far is itself a guess. So deviations from the mean, which give ``noise``, are widened by
    that and by Student's t against the normal law. Of symmetric matrices 0 to 7 % lie above it at
    95 %, without that 2 to 20 %, for 4 to 40 prompts a category (`benchmarks/coverage_cosines.py`).

    Args:
        effects: for each category, the effect of every direction on each of its prompts;
            directions in the order of the categories.
        confidence: of the interval and of the noise.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    upper = np.triu_indices(len(effects), k=1)
    found = np.stack([own.mean(axis=1) for own in effects], axis=1)
    resampled = np.empty((n_resamples, *found.shape))
    for column, own in enumerate(effects):
        n = own.shape[1]
        draws = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
        resampled[:, :, column] = draws @ own.T / n

    def parts(matrix: np.ndarray) -> tuple[np.ndarray, Any]:
        above, below = matrix[..., *upper], np.swapaxes(matrix, -1, -2)[..., *upper]
        return above - below, np.abs(above + below).mean(axis=-1)

    nothing = Asymmetry(np.nan, (np.nan, np.nan), np.nan)
    if not len(upper[0]):
        return nothing
    difference, size = parts(found)
    if size == 0:
        return nothing
    drawn, sizes = parts(resampled)
    sizes = np.where(sizes > 0, sizes, np.nan)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.abs(drawn).mean(axis=1) / sizes, [tail, 1 - tail])
    n = np.array([own.shape[1] for own in effects])
    quantile = 1 - tail
    with np.errstate(divide="ignore"):
        wider = np.sqrt(n / (n - 1.0)) * t.ppf(quantile, n - 1) / norm.ppf(quantile)
    deviations, _ = parts((resampled - found) * wider)
    chance = np.abs(deviations).mean(axis=1) / size
    return Asymmetry(
        index=float(np.abs(difference).mean() / size),
        interval=(float(low), float(high)),
        noise=float(np.quantile(chance, confidence)) if n.min() > 1 else np.nan,
    )


def profile_blocks(
    effects: Float[np.ndarray, "row column"], cut: float = 0.5
) -> tuple[Int[np.ndarray, " row"], Int[np.ndarray, " row"]]:
    """Orders rows by what they do, and groups those that do the same.

    The distance of two rows is what they do differently, as a share of what either does: the sum of
    ``|a - b|`` over the sum of ``max(|a|, |b|)``. 0 is the same, 1 is nothing in common. Average
    linkage, leaves in optimal order, cut at ``cut``: rows that share more than half of what they do
    are one block, and so are rows that do nothing.

    Args:
        effects: finite effects; cells that are not told from zero should be zero.
        cut: the distance from which on rows belong to different blocks.

    Returns:
        ``order``, the rows from first to last, and ``block``, the block of each row, numbered from
        1 in that order.
    """
    n_rows = len(effects)
    if n_rows < 2 or not effects.any():
        return np.arange(n_rows), np.ones(n_rows, dtype=np.int64)
    first, second = np.triu_indices(n_rows, k=1)  # the order of a condensed distance matrix
    a, b = effects[first], effects[second]
    either = np.maximum(np.abs(a), np.abs(b)).sum(axis=1)
    distances = np.abs(a - b).sum(axis=1) / np.where(either > 0, either, 1.0)
    tree = linkage(distances, method="average", optimal_ordering=True)
    order = leaves_list(tree).astype(np.int64)
    found = fcluster(tree, cut, criterion="distance")
    number = {own: rank for rank, own in enumerate(dict.fromkeys(found[order]), start=1)}
    return order, np.array([number[own] for own in found], dtype=np.int64)
