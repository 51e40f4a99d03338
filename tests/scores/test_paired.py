"""Paired rates: the changes decide, and the interval is the score test's, recomputed here."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

import workbench as wb
from workbench.errors import StudyError
from workbench.statistics.corrected import holm


def verdicts(both, gained, lost, neither):
    before = ["refused"] * both + ["complied"] * gained + ["refused"] * lost + ["other"] * neither
    after = ["refused"] * (both + gained) + ["complied"] * (lost + neither)
    return before, after


def test_nine_changes_one_way_are_told_apart_though_wilson_intervals_overlap():
    found = wb.scores.paired_difference(*verdicts(50, 0, 9, 5))
    assert (found.n, found.gained, found.lost) == (64, 0, 9)
    assert found.difference == pytest.approx(-9 / 64)
    assert found.p_value == pytest.approx(2 * 0.5**9)
    assert found.interval[1] < 0


def test_p_values_are_the_binomials_and_symmetric():
    for gained, lost in ((3, 1), (5, 5), (1, 9)):
        found = wb.scores.paired_difference(*verdicts(4, gained, lost, 4)).p_value
        fewer = min(gained, lost)
        assert found == pytest.approx(min(1.0, 2 * binom.cdf(fewer, gained + lost, 0.5)))
        assert found == wb.scores.paired_difference(*verdicts(4, lost, gained, 4)).p_value
    assert wb.scores.paired_difference(*verdicts(4, 0, 0, 4)).p_value == 1


@pytest.mark.parametrize(
    "counts",
    [(50, 0, 9, 5), (10, 7, 2, 13), (16, 0, 0, 16), (0, 3, 1, 0), (0, 0, 6, 0), (1, 0, 0, 0)],
)
def test_ends_are_where_the_score_test_rejects(counts):
    _, gained, lost, _ = counts
    n = sum(counts)
    low, high = wb.scores.paired_difference(*verdicts(*counts)).interval
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    for end in (low, high):
        if abs(end) > 1 - 1e-9:
            continue

        # The likeliest shares whose difference is the end, found by search.
        def unlikely(losing, end=end):
            shares = np.array([losing + end, losing, 1 - 2 * losing - end])
            counted = np.array([gained, lost, n - gained - lost])
            return -(counted * np.log(np.maximum(shares, 1e-300))).sum()

        least, most = max(0.0, -end), (1 - end) / 2
        losing = minimize_scalar(
            unlikely, (least, most), bounds=(least, most), options={"xatol": 1e-12}
        ).x
        spread = np.sqrt((2 * losing + end - end**2) / n)
        score = ((gained - lost) / n - end) / spread
        assert abs(score) == pytest.approx(norm.ppf(0.975), rel=2e-3)
    mirrored = wb.scores.paired_difference(*verdicts(0, lost, gained, n - gained - lost)).interval
    assert mirrored == pytest.approx((-high, -low), abs=1e-6)


def test_the_interval_covers():
    rng = np.random.default_rng(0)
    n, times = 40, 400
    for gain, lose in ((0.1, 0.02), (0.3, 0.3)):
        drawn = rng.multinomial(n, [gain, lose, 1 - gain - lose], times)
        counted = np.unique(drawn, axis=0, return_counts=True)
        held = 0
        for (gained, lost, rest), often in zip(*counted, strict=True):
            low, high = wb.scores.paired_difference(*verdicts(0, gained, lost, rest)).interval
            held += often * (low <= gain - lose <= high)
        assert binom.cdf(held, times, 0.94) > 0.005, (gain, lose, held / times)


def test_confidence_orders_widths():
    widths = [
        np.ptp(wb.scores.paired_difference(*verdicts(5, 3, 1, 5), confidence=each).interval)
        for each in (0.5, 0.9, 0.99)
    ]
    assert widths == sorted(widths)


def test_holm_steps_down_and_leaves_out_what_was_not_tested():
    found = holm(np.array([0.01, np.nan, 0.04, 0.03]))
    np.testing.assert_allclose(found, [0.03, np.nan, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).max() == 1


@pytest.mark.parametrize("lists", [([], []), (["refused"], [])])
def test_verdicts_of_other_prompts_are_refused(lists):
    with pytest.raises(StudyError, match="on the same prompts"):
        wb.scores.paired_difference(*lists)
