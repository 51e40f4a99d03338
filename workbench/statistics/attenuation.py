"""Inner products of measured vectors, rid of the noise that the vectors carry.

The cosine of two measured directions is not the cosine of what they measure. Noise of its own makes
either direction longer, which pulls the cosine to zero; noise that both share, from the harmless
prompts that every category is set against, pushes it up.

**Estimates.** With d^A and d^B the directions on two halves of the prompts, the noise of d_i^A and
that of d_j^B are independent, also where i = j. So g_ij, the mean over replicates of
(d_i^A·d_j^B + d_i^B·d_j^A) / 2, estimates the inner product of the true directions without bias,
and

    reliability    r_i = g_ii / d_i·d_i
    disattenuated  g_ij / √(g_ii g_jj)   = cosine across halves / √(r_i r_j)
    ceiling        (√(g_ii g_jj) + d_i·d_j - g_ij) / |d_i||d_j|

where the ceiling is the cosine that is measured when the disattenuated one is 1.

**Intervals.** A resampled direction carries its noise twice, so that percentiles of its cosines
miss the truth. The first-order change of the inner product, d_i·e_j + e_i·d_j with e the deviation
of a replicate from the mean over replicates, does not. The interval of the disattenuated cosine
holds the quantiles of the ratios that these changes give when added to g; that of the plain cosine,
which needs no length to be known well, the quantiles of the cosine's own first-order change.

**One direction?** Two true directions are one where their disattenuated cosine is 1.
`one_direction` asks how many standard deviations of its ratios the estimate lies below 1. Lengths
do not matter, as they do where categories are permuted among prompts. Near 1 the ratios spread more
widely than the estimates, so that the test is cautious: `benchmarks/coverage_cosines.py` measures
by how much.

Source: Spearman 1904 for disattenuation; Chamandy et al. 2012, "Estimating uncertainty for massive
data streams", for the Poisson bootstrap; Efron and Tibshirani 1993, chapter 22, for first order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr
from torch import Tensor

FEWEST = 8
"""Prompts on either side with which intervals hold what they say.

Of intervals of nominal 95 %, those of 8 prompts hold the truth in 91 to 98 % of the draws of
`benchmarks/coverage_cosines.py`; of 4 prompts in 76 to 86 %, of 3 in 58 to 72 %.
"""

Array = np.ndarray
Multiply = Callable[[Array, Array], Array]


@dataclass(frozen=True, eq=False)
class Sample:
    """Measured vectors, and the same on two halves of resampled prompts, if there are any."""

    values: Float[Tensor, "*rest entry d_model"]
    halves: Float[Tensor, "replicate half *rest entry d_model"] | None


@dataclass(frozen=True, eq=False)
class Products:
    """Inner products: as measured, rid of noise, and how resampling moves them.

    Attributes:
        measured: inner products of the vectors.
        noiseless: unbiased estimates of the true vectors' inner products.
        change: to first order, by replicate; NaN where a half was empty.
    """

    measured: Float[np.ndarray, "..."]
    noiseless: Float[np.ndarray, "..."]
    change: Float[np.ndarray, "replicate ..."]


def wide(values: Tensor) -> Array:
    """The values in float64; by NumPy, which does not wait for threads over small arrays."""
    return values.float().numpy().astype(np.float64)


def between(a: Array, b: Array) -> Array:
    """Inner product of every entry of ``a`` with every entry of ``b``: [… entry entry_other]."""
    return a @ b.swapaxes(-1, -2)


def within(a: Array, b: Array) -> Array:
    """Inner product of every entry of ``a`` with the same of ``b``: [… entry]."""
    return (a * b).sum(-1)


def inner_products(a: Sample, b: Sample, multiply: Multiply) -> Products:
    """Inner products of two samples with the same replicates."""
    mine, other = wide(a.values), wide(b.values)
    assert a.halves is not None and b.halves is not None
    crossed, moved = [], []
    # One replicate at a time: all of them in float64 would be twice what was collected.
    for index in range(len(a.halves)):
        first = wide(a.halves[index])
        second = first if a is b else wide(b.halves[index])
        crossed.append((multiply(first[0], second[1]) + multiply(first[1], second[0])) / 2)
        moved.append(multiply(mine, second.mean(0)) + multiply(first.mean(0), other))
    change = np.stack(moved)
    return Products(multiply(mine, other), mean(np.stack(crossed)), change - mean(change))


def ratio(products: Array, squares_a: Array, squares_b: Array) -> Array:
    """Cosines from inner products and squared lengths; NaN where a square is not positive."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = products / np.sqrt(squares_a)[..., :, None] / np.sqrt(squares_b)[..., None, :]
    return np.where(np.isfinite(found), found, np.nan)


def cosine_draws(both: Products, squares_a: Products, squares_b: Products) -> Array:
    """The measured cosine by replicate, moved to first order: [replicate … entry entry_other]."""
    a, b = squares_a.measured[..., :, None], squares_b.measured[..., None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        stretch = squares_a.change[..., :, None] / a + squares_b.change[..., None, :] / b
        cosine = both.measured / np.sqrt(a * b)
        return cosine + both.change / np.sqrt(a * b) - cosine * stretch / 2


def cosines(
    vectors: Float[Tensor, "*rest entry d_model"],
) -> Float[np.ndarray, "*rest entry other"]:
    """Plain cosines between all entries."""
    values = wide(vectors)
    squares = within(values, values)
    return ratio(between(values, values), squares, squares)


def mean(replicates: Float[np.ndarray, "replicate ..."]) -> Float[np.ndarray, "..."]:
    """Mean over the replicates that have a value."""
    known = np.isfinite(replicates)
    with np.errstate(invalid="ignore"):
        return np.where(known, replicates, 0).sum(0) / known.sum(0)


def interval(
    replicates: Float[np.ndarray, "replicate ..."],
    usable: Float[np.ndarray, "replicate ..."],
    confidence: float,
) -> Float[np.ndarray, "... bound"]:
    """Percentile interval of ratios; NaN where more of them than it leaves out do not exist.

    NaN, too, where fewer replicates say anything than an end of the interval leaves out one of.

    Args:
        replicates: ratios, NaN where they do not exist.
        usable: NaN where a replicate says nothing, because a half was empty.
        confidence: share of replicates between the bounds.
    """
    said = np.isfinite(usable)
    lost = (said & ~np.isfinite(replicates)).sum(0) > (1 - confidence) * said.sum(0)
    tail = (1 - confidence) / 2
    lost |= np.isfinite(replicates).sum(0) * tail < 1 - 1e-9
    bounds = np.nanquantile(np.where(lost, 0.0, replicates), [tail, 1 - tail], axis=0)
    return np.moveaxis(np.where(lost, np.nan, bounds), 0, -1)


def one_direction(
    cosines: Float[np.ndarray, "..."],
    replicates: Float[np.ndarray, "replicate ..."],
    bounds: Float[np.ndarray, "... bound"],
) -> Float[np.ndarray, "..."]:
    """One-sided p-value of a disattenuated cosine of 1, from the spread of its replicates.

    Args:
        cosines: disattenuated.
        replicates: the ratios behind their intervals.
        bounds: the intervals; what has none is not tested, NaN.
    """
    known = np.isfinite(replicates)
    centre = mean(replicates)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = np.sqrt(mean(np.where(known, (replicates - centre) ** 2, np.nan)))
        p = ndtr((cosines - 1) / spread)
    tested = np.isfinite(bounds).all(-1) & np.isfinite(cosines) & (spread > 0)
    return np.where(tested, p, np.nan)


def pair_mean(values: Float[np.ndarray, "*rest entry other"]) -> Float[np.ndarray, "*rest"]:
    """Mean over the pairs of different entries; NaN where one of them has no value."""
    n = values.shape[-1]
    off = ~np.eye(n, dtype=bool)
    return np.asarray(values[..., off].mean(-1))
