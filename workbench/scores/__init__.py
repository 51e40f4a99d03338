"""Scores: how near a model is to refusing, what its replies are, and how sure we are of either."""

from workbench.scores.agreement import Agreement, judge_agreement
from workbench.scores.compared import (
    ComparedJudges,
    compare_judges,
    export_for_labels,
    read_replies,
)
from workbench.scores.judges import judge_name
from workbench.scores.paired import PairedDifference, paired_difference
from workbench.scores.refusal import measure_refusal_tokens
from workbench.scores.refusal_tokens import RefusalTokens
from workbench.scores.verdicts import Rate, refusal_rate

__all__ = [
    "Agreement",
    "ComparedJudges",
    "PairedDifference",
    "Rate",
    "RefusalTokens",
    "compare_judges",
    "export_for_labels",
    "judge_agreement",
    "judge_name",
    "measure_refusal_tokens",
    "paired_difference",
    "read_replies",
    "refusal_rate",
]
