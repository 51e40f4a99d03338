"""Rates of the same prompts under two conditions, or of two models: how they differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar
from scipy.stats import binomtest, norm

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.scores.verdicts import Verdict, check_verdicts
from workbench.tabled import Estimate


@dataclass(frozen=True, repr=False)
class PairedDifference(Estimate):
    """How the rate of one verdict differs between two replies to the same prompts.

    Attributes:
        n: prompts.
        gained: prompts whose second reply has the verdict and whose first has not.
        lost: prompts whose first reply has it and whose second has not.
        difference: second rate minus first.
        interval: of the difference, Tango's score interval.
        p_value: McNemar's, exact: how often as one-sided a split of gained and lost, or more, comes
            about where either is as likely.
    """

    n: int
    gained: int
    lost: int
    difference: float
    interval: tuple[float, float]
    p_value: float


@checked
def paired_difference(
    before: Sequence[str],
    after: Sequence[str],
    *,
    verdict: Verdict = "refused",
    confidence: float = 0.95,
) -> PairedDifference:
    """Compares the rates of one verdict in two lists of verdicts on the same prompts.

    Two intervals that overlap say little here: what changes is told by the prompts that change.

    Args:
        before: one verdict per prompt.
        after: the verdicts on the same prompts, in the same order.
        verdict: whose rate is compared.
        confidence: of the interval.

    Raises:
        StudyError: no verdicts, none that there is, or two lists of different length.

    Source: McNemar 1947; Tango 1998, "Equivalence test and confidence interval for the difference
    in proportions for the paired-sample design".

    >>> paired_difference(["refused"] * 9 + ["complied"], ["complied"] * 10).p_value
    0.00390625
    """
    if len(before) != len(after) or not len(before):
        raise StudyError(
            f"{len(before)} and {len(after)} verdicts: expected as many of each, on the same "
            "prompts, at least one."
        )
    check_verdicts([*before, *after])
    had, has = (np.array([each == verdict for each in side]) for side in (before, after))
    n, gained, lost = len(had), int((~had & has).sum()), int((had & ~has).sum())
    changed = gained + lost
    return PairedDifference(
        n=n,
        gained=gained,
        lost=lost,
        difference=(gained - lost) / n,
        interval=_tango(gained, lost, n, confidence),
        p_value=float(binomtest(gained, changed).pvalue) if changed else 1.0,
    )


def _tango(gained: int, lost: int, n: int, confidence: float) -> tuple[float, float]:
    """Differences of the rates that the score test does not reject."""
    z = float(norm.ppf((1 + confidence) / 2))

    def score(difference: float) -> float:
        """By how many standard errors the prompts that change exceed a difference of the rates."""
        # The likeliest share of prompts that lose the verdict, given the difference.
        b = (2 * n - gained + lost) * difference - gained - lost
        root = np.sqrt(max(b**2 + 8 * n * lost * difference * (1 - difference), 0.0))
        losing = (root - b) / (4 * n)
        variance = n * (2 * losing + difference * (1 - difference))
        return (gained - lost - n * difference) / np.sqrt(max(variance, 1e-300))

    found, edge = (gained - lost) / n, 1 - 1e-12
    # At an end of the scale there is nothing beyond, and just beside the value itself no score.
    low, high = -1.0, 1.0
    if lost < n:
        low = root_scalar(lambda x: score(x) - z, bracket=(-edge, found - 1e-12)).root
    if gained < n:
        high = root_scalar(lambda x: score(x) + z, bracket=(found + 1e-12, edge)).root
    return float(low), float(high)
