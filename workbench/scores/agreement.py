"""Agreement between judges of the same replies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.scores.verdicts import Verdict
from workbench.statistics.intervals import binomial_interval
from workbench.tabled import Estimate


@dataclass(frozen=True, repr=False)
class Agreement(Estimate):
    """How far two judges agree on the same replies.

    ``accuracy`` has a Wilson interval, ``kappa`` (agreement beyond chance; NaN where both judges
    always say the same one thing) a bootstrap interval over replies. ``first`` and ``second`` are
    the names of the judges, where they are known.
    """

    n: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    kappa: float
    kappa_interval: tuple[float, float]
    first: str = ""
    second: str = ""

    def named(self, first: str, second: str) -> "Agreement":
        """The same with the names of the judges."""
        return replace(self, first=first, second=second)

    def _numbers(self) -> list[tuple[str, Any]]:
        return [each for each in super()._numbers() if each[1] != ""]


@checked
def judge_agreement(
    a: Sequence[str],
    b: Sequence[str],
    *,
    verdict: Verdict | None = "complied",
    confidence: float = 0.95,
    n_bootstrap: int = 2000,
    seed: int = 0,
) -> Agreement:
    """Accuracy and Cohen's kappa between two judges of the same replies.

    Args:
        a: verdicts of one judge.
        b: verdicts of the other, in the same order.
        verdict: compare whether each says this verdict or another one, as the literature does with
            ``complied``; None compares all four.
        confidence: of both intervals.
        n_bootstrap: resamples for the interval of kappa.
        seed: of the resampling.

    Raises:
        StudyError: no verdicts, or two lists of different length.

    >>> judge_agreement(["refused", "complied"], ["partial", "complied"]).accuracy
    1.0
    """
    from sklearn.metrics import cohen_kappa_score, confusion_matrix

    if len(a) != len(b) or not len(a):
        raise StudyError(f"{len(a)} and {len(b)} verdicts: expected as many of each, at least one.")
    first, second = list(a), list(b)
    if verdict is not None:
        first, second = [[str(x == verdict) for x in side] for side in (first, second)]
    labels = sorted({*first, *second})
    n = len(first)
    if len(labels) == 1:  # no disagreement is possible, so none is beyond chance
        return Agreement(n, 1.0, binomial_interval(n, n, confidence), np.nan, (np.nan, np.nan))
    table = confusion_matrix(first, second, labels=labels)
    agreed = int(np.trace(table))
    # Resampling pairs of verdicts is resampling the cells of their table.
    draws = np.random.default_rng(seed).multinomial(n, (table / n).ravel(), size=n_bootstrap)
    resampled = draws.reshape(n_bootstrap, len(labels), len(labels)) / n
    observed = np.trace(resampled, axis1=1, axis2=2)
    chance = (resampled.sum(axis=1) * resampled.sum(axis=2)).sum(axis=1)
    possible = chance < 1
    kappas = (observed[possible] - chance[possible]) / (1 - chance[possible])
    tail = (1 - confidence) / 2
    low, high = np.quantile(kappas, [tail, 1 - tail]) if len(kappas) else (np.nan, np.nan)
    return Agreement(
        n=n,
        accuracy=agreed / n,
        accuracy_interval=binomial_interval(agreed, n, confidence),
        kappa=float(cohen_kappa_score(first, second, labels=labels)),
        kappa_interval=(float(low), float(high)),
    )
