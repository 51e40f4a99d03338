"""Scores: how near a model is to refusing, what its replies are, and how sure we are of either."""

from workbench.scores.agreement import Agreement, judge_agreement
from workbench.scores.judges import Rate, refusal_rate
from workbench.scores.paired import PairedDifference, paired_difference
from workbench.scores.refusal import measure_refusal_tokens
from workbench.scores.refusal_tokens import RefusalTokens

__all__ = [
    "Agreement",
    "PairedDifference",
    "Rate",
    "RefusalTokens",
    "judge_agreement",
    "measure_refusal_tokens",
    "paired_difference",
    "refusal_rate",
]
