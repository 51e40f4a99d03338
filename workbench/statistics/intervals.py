"""Intervals: of a mean and a median, over prompts; of a difference of means; of a rate."""

import numpy as np
from jaxtyping import Float
from scipy.stats import binom, binomtest, t

from workbench.errors import StudyError

MIN_PROMPTS = 28
"""With fewer prompts a mean has no interval: none that was tried covers on skewed scores."""

MEAN_INTERVAL = f"studentised bootstrap over prompts, from {MIN_PROMPTS} on"
"""What the intervals of means are, for figures and tables."""

_BEARABLE = 4.0
"""An end this many times as far out as Student's rests on one prompt or two, and is not given."""

Bounds = tuple[Float[np.ndarray, "*cells"], Float[np.ndarray, "*cells"]]
"""Lower and upper bounds."""


def bootstrap_interval(
    values: Float[np.ndarray, "*cells prompt"],
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Bounds:
    """Interval of the mean over prompts, in the values' own units.

    Bootstrap-t: resampled means are divided by their own standard errors, so that the interval
    follows the skew of the scores. Where Student's end is farther out, as with tails on both sides,
    the end is midway between the two. ``benchmarks/coverage.py`` measures how often it covers.

    What no prompt of the sample shows it cannot know: of scores that one prompt in a hundred moves
    far, most samples look tame and their intervals miss. Only more prompts help; whether a sample
    looks skewed says nothing of it.

    Every cell is resampled with the same draws, so cells stay comparable with each other. A cell
    has no interval, NaN, with fewer than `MIN_PROMPTS` prompts, with a value that is not finite,
    and where one prompt or two carry the spread, so that an end would lie more than four times as
    far out as Student's.

    Args:
        values: one number per prompt, prompts on the last axis.
        confidence: how often intervals made so hold the mean of all prompts.
        n_resamples: number of resampled means.
        seed: of the draws.

    Returns:
        Lower and upper bounds.

    Source: Efron and Tibshirani 1993, section 12.5.
    """
    n = values.shape[-1]
    flat = values.reshape(int(np.prod(values.shape[:-1])), n)
    bounds = np.full((2, len(flat)), np.nan)
    if n >= MIN_PROMPTS:
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n
        # In slices, so that a grid of thousands of cells never stands in memory with all its draws.
        for start in range(0, len(flat), 256):
            part = flat[start : start + 256].astype(np.float64)
            part = np.where(np.isfinite(part), part, np.nan)
            bounds[:, start : start + 256] = _studentised(part, draws, (1 - confidence) / 2)
    bounds = bounds.reshape(2, *values.shape[:-1])
    return bounds[0, ...], bounds[1, ...]


def _studentised(
    values: Float[np.ndarray, "cell prompt"], draws: Float[np.ndarray, "draw prompt"], tail: float
) -> Float[np.ndarray, "2 cell"]:
    """Both bounds for every cell; the weights of a draw add up to one."""
    n = values.shape[1]
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    spread = values.std(axis=1)
    # Equal values differ by rounding at most, which is no spread.
    spread[spread <= 1e-12 * np.abs(mean)] = 0.0
    moved = draws @ centred.T
    own = np.sqrt(np.maximum(draws @ (centred**2).T - moved**2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.where(spread > 0, moved / own, 0.0)
    # A resample of equal values that miss the mean is as far out as can be.
    pivots[np.isnan(pivots) & ~np.isnan(mean)] = 0.0
    low, high = np.quantile(pivots, [tail, 1 - tail], axis=0, method="inverted_cdf")
    student = float(t.ppf(1 - tail, n - 1)) * spread / np.sqrt(n - 1)
    below, above = (
        np.maximum(own, (own + student) / 2)
        for own in (np.where(spread > 0, spread * end, 0.0) for end in (high, -low))
    )
    bearable = np.maximum(below, above) <= _BEARABLE * student
    return np.where(bearable, np.stack([mean - below, mean + above]), np.nan)


def median_interval(values: Float[np.ndarray, "*cells prompt"], confidence: float = 0.95) -> Bounds:
    """Interval of the median over prompts, from the order of the values alone.

    It covers at least as often as it says whatever the distribution, so it is for scores whose mean
    a few prompts make. NaN with too few prompts for any (at 95%, with 5), and where a value is not
    finite.

    Args:
        values: one number per prompt, prompts on the last axis.
        confidence: least share of intervals made so that hold the median of all prompts.

    Source: Conover 1999, section 3.2.

    >>> median_interval(np.arange(10.0))
    (array(1.), array(8.))
    """
    n = values.shape[-1]
    # The bounds are so many values from either side of the sample.
    place = int(binom.ppf((1 - confidence) / 2, n, 0.5)) if n else 0
    if not place:
        nothing = np.full(values.shape[:-1], np.nan)
        return nothing, nothing.copy()
    ordered = np.sort(values.astype(np.float64), axis=-1)
    known = np.isfinite(values).all(axis=-1)
    low, high = ordered[..., place - 1], ordered[..., n - place]
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def difference_interval(
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Bounds:
    """Interval of a difference of two independent numbers, from the interval of each.

    How far either number may be from the truth, on the side that matters, is added in squares.

    Args:
        first: the number that is subtracted from, and its lower and upper bounds.
        second: the number that is subtracted, and its bounds.

    Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general
    approach"; for rates Newcombe 1998.
    """
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    low = a - b - np.hypot(a - a_low, b_high - b)
    high = a - b + np.hypot(a_high - a, b - b_low)
    return np.asarray(low), np.asarray(high)


def binomial_interval(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval for a share of k in n.

    Unlike the normal approximation it stays inside 0..1 and has a width at k = 0 and k = n, which
    is where refusal rates usually are.

    Raises:
        StudyError: n is not positive, k is outside 0..n, or confidence is outside 0..1.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001 for why.

    >>> binomial_interval(0, 32)
    (0.0, 0.107...)
    """
    if n <= 0 or not 0 <= k <= n:
        raise StudyError(f"no rate of {k} in {n}: expected 0 <= k <= n and at least one reply.")
    if not 0 < confidence < 1:
        raise StudyError(f"confidence {confidence} is not between 0 and 1.")
    interval = binomtest(k, n).proportion_ci(confidence_level=confidence, method="wilson")
    return float(interval.low), float(interval.high)
