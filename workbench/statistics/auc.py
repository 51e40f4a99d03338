"""How well two labels separate along a direction that was estimated on other prompts."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import root_scalar
from scipy.stats import norm, rankdata

from workbench.errors import StudyError


def split_half_auc(
    values: Float[np.ndarray, "prompt d_model"],
    is_positive: Bool[np.ndarray, " prompt"],
    n_splits: int = 10,
    seed: int = 0,
) -> float:
    """AUC of the projection on the difference of means, for prompts that it was not estimated on.

    In many dimensions any two small sets lie apart along their own difference of means. Here either
    half of the prompts is projected on the difference of the other, and only prompts of one half
    are compared; areas are averaged over halves and random splits. Labels without meaning have 0.5.

    Args:
        values: activations.
        is_positive: which prompts have the positive label.
        n_splits: into random halves.
        seed: of the splits.

    Raises:
        StudyError: fewer than two prompts of either label.
    """
    labels = is_positive, ~is_positive
    if min(label.sum() for label in labels) < 2:
        raise StudyError(
            f"cannot split {labels[0].sum()} and {labels[1].sum()} prompts into halves: expected "
            "at least 2 of either label."
        )
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(n_splits):
        first = np.zeros(len(values), dtype=bool)
        for label in labels:
            first[label] = rng.permutation(label.sum()) < label.sum() / 2
        for half in (first, ~first):
            difference = values[is_positive & ~half].mean(0) - values[~is_positive & ~half].mean(0)
            areas.append(area_under_curve(values[half] @ difference, is_positive[half]))
    return float(np.mean(areas))


def area_under_curve(
    scores: Float[np.ndarray, " prompt"], is_positive: Bool[np.ndarray, " prompt"]
) -> float:
    """Share of pairs in which the positive prompt scores higher; ties count half."""
    n = int(is_positive.sum())
    above = rankdata(scores)[is_positive].sum() - n * (n + 1) / 2
    return float(above / (n * (len(scores) - n)))


def auc_interval(
    auc: float, n_positive: int, n_negative: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Score interval for an area under the ROC curve.

    Unlike DeLong's it stays inside 0..1 and has a width at 1, where labels usually are.

    Raises:
        StudyError: the area is outside 0..1, a set is empty, or confidence is outside 0..1.

    Source: Newcombe 2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2", method 5.

    >>> auc_interval(1.0, 20, 20)
    (0.8..., 1.0)
    """
    if not 0 <= auc <= 1 or min(n_positive, n_negative) < 1:
        raise StudyError(
            f"no area of {auc} between {n_positive} and {n_negative} prompts: expected 0 to 1, and "
            "at least one prompt of either label."
        )
    if not 0 < confidence < 1:
        raise StudyError(f"confidence {confidence} is not between 0 and 1.")
    z = float(norm.ppf((1 + confidence) / 2))
    more = (n_positive + n_negative) / 2 - 1

    def outside(area: float) -> float:
        spread = 1 + more * ((1 - area) / (2 - area) + area / (1 + area))
        return (auc - area) ** 2 - z**2 * area * (1 - area) * spread / (n_positive * n_negative)

    # Just beside the area itself: at 0 and 1 it is a second root.
    low = 0.0 if auc == 0 else root_scalar(outside, bracket=(0.0, auc * (1 - 1e-9))).root
    high = 1.0 if auc == 1 else root_scalar(outside, bracket=(auc + 1e-9 * (1 - auc), 1.0)).root
    return float(low), float(high)
