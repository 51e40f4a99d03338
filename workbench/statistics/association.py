"""How strongly two labellings of the same things go together."""

import bisect
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

_STEPS, _DRAWS = 40, 500
"""Tables from independence to the observed one, as many from there to none with exceptions; draws
of each."""


@dataclass(frozen=True, eq=False)
class Association:
    """The association between rows and columns of a table of counts.

    Attributes:
        chi_square: Pearson's statistic, without a continuity correction.
        p_value: share of tables with shuffled labels whose statistic is at least as large, the
            observed one among them; exact for small counts, where the chi-square law is not.
        cramers_v: Cramér's V, corrected for bias: 0 is independence, 1 that a column decides its
            row (or a row its column, where there are fewer of them).
        interval: every V that could have given the estimate, as `_interval` finds them; holds it.
        residuals: adjusted Pearson residuals: about standard normal in every cell if there is no
            association.
        residual_p: of each residual, corrected over cells: share of shuffled tables with any
            residual as large in size, the observed table among them.
    """

    chi_square: float
    p_value: float
    cramers_v: float
    interval: tuple[float, float]
    residuals: Float[np.ndarray, "row column"]
    residual_p: Float[np.ndarray, "row column"]


def association(
    counts: Int[np.ndarray, "row column"],
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Association:
    """Chi-square, Cramér's V and residuals of a table whose rows and columns all occur.

    With a single row or column nothing can go together: all is NaN, and every residual 0.

    Source: Bergsma 2013 for the correction of V; Agresti 2013, section 3.3.1, for the residuals;
    Westfall and Young 1993 for their correction, by the largest of a table.

    >>> round(association(np.array([[20, 0], [0, 20]])).cramers_v, 6)
    1.0
    """
    n = int(counts.sum())
    if min(counts.shape) < 2:
        nothing = np.zeros(counts.shape)
        return Association(np.nan, np.nan, np.nan, (np.nan, np.nan), nothing, nothing + np.nan)
    rng = np.random.default_rng(seed)
    by_row, by_column = counts.sum(axis=1), counts.sum(axis=0)
    statistic = _chi_square(counts)
    row = np.repeat(np.arange(len(by_row)), by_row)
    column = np.repeat(np.arange(len(by_column)), by_column)
    # A pair of labels is one number, so that a whole table is counted at once.
    shuffled = np.stack(
        [
            np.bincount(rng.permutation(row) * len(by_column) + column, minlength=counts.size)
            for _ in range(n_resamples)
        ]
    ).reshape(-1, *counts.shape)
    at_least = int((_chi_square(shuffled) >= statistic * (1 - 1e-9)).sum())
    # Shuffled tables have the same margins, so that residuals share their means and variances.
    expected = np.outer(by_row, by_column) / n
    spread = np.sqrt(expected * np.outer(1 - by_row / n, 1 - by_column / n))
    residuals = (counts - expected) / spread
    largest = np.abs((shuffled - expected) / spread).max(axis=(1, 2))
    as_large = (largest[:, None, None] >= np.abs(residuals) * (1 - 1e-9)).sum(axis=0)
    return Association(
        chi_square=float(statistic),
        p_value=(at_least + 1) / (n_resamples + 1),
        cramers_v=float(_corrected_v(counts)),
        interval=_interval(counts, confidence, seed),
        residuals=residuals,
        residual_p=(as_large + 1) / (n_resamples + 1),
    )


def _chi_square(counts: Num[np.ndarray, "*draw row column"]) -> Any:
    """Pearson's statistic of each table; rows and columns that are empty count for nothing."""
    n = counts.sum(axis=(-2, -1), keepdims=True)
    expected = counts.sum(axis=-1, keepdims=True) * counts.sum(axis=-2, keepdims=True) / n
    return ((counts - expected) ** 2 / np.where(expected > 0, expected, 1)).sum(axis=(-2, -1))


def _interval(
    counts: Int[np.ndarray, "row column"], confidence: float, seed: int
) -> tuple[float, float]:
    """The true V under which the estimate is neither too high nor too low, by simulation.

    A bootstrap of the counts themselves fails near 1: of a table without exceptions all resamples
    have none. So tables are drawn from distributions with every V: the margins alone, the observed
    table, and that in which each column has its commonest row only, mixed in pairs. The ends are
    the first V on either side under which a tail of the estimates beyond the observed one is too
    small.
    """
    n, observed, tail = int(counts.sum()), float(_corrected_v(counts)), (1 - confidence) / 2
    steps = np.linspace(0, 1, _STEPS)[:, None, None]
    table = counts / n
    alone, most = np.outer(table.sum(axis=1), table.sum(axis=0)), _without_exceptions(table)
    lower, upper = (1 - steps) * alone + steps * table, (1 - steps) * table + steps * most
    path = np.concatenate([lower, upper[1:]])

    def estimates(step: int) -> Float[np.ndarray, " draw"]:
        rng = np.random.default_rng([seed, step])
        drawn = rng.multinomial(n, path[step].ravel(), size=_DRAWS)
        return _corrected_v(drawn.reshape(-1, *counts.shape))

    def possibly_high_enough(step: int) -> bool:
        return bool((estimates(step) >= observed - 1e-9).mean() > tail)

    def too_high(step: int) -> bool:
        return bool((estimates(step) <= observed + 1e-9).mean() <= tail)

    every = range(len(path))
    first = max(bisect.bisect_left(every, True, key=possibly_high_enough) - 1, 0)
    last = min(bisect.bisect_left(every, True, key=too_high), len(path) - 1)
    low, high = np.sqrt(_chi_square(path[[first, last]]) / (min(counts.shape) - 1))
    # Independence is 0, not what rounding leaves of it.
    return min(float(low), observed) if first else 0.0, min(max(float(high), observed), 1.0)


def _without_exceptions(table: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """The shares with each column in its commonest row, or each row in its commonest column."""
    if table.shape[0] > table.shape[1]:
        return _without_exceptions(table.T).T
    found = np.zeros(table.shape)
    found[table.argmax(axis=0), np.arange(table.shape[1])] = table.sum(axis=0)
    return found


def _corrected_v(counts: Int[np.ndarray, "*draw row column"]) -> Any:
    """Cramér's V of each table, the bias taken out."""
    n = counts.sum(axis=(-2, -1))
    rows = (counts.sum(axis=-1) > 0).sum(axis=-1)
    columns = (counts.sum(axis=-2) > 0).sum(axis=-1)
    bias = (rows - 1) * (columns - 1) / (n - 1)
    left = np.clip(_chi_square(counts) / n - bias, 0, None)
    shrunk = [side - (side - 1) ** 2 / (n - 1) for side in (rows, columns)]
    fewer = np.minimum(*shrunk)
    return np.sqrt(np.clip(left / np.maximum(fewer - 1, 1e-12), 0, 1))
