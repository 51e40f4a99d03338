"""Scores: how near a model is to refusing, what its replies are, and how sure we are of either."""

from workbench.scores.agreement import Agreement, judge_agreement
from workbench.scores.paired import PairedDifference, paired_difference
from workbench.scores.verdicts import Rate, refusal_rate

__all__ = [
    "Agreement",
    "PairedDifference",
    "Rate",
    "judge_agreement",
    "paired_difference",
    "refusal_rate",
]
