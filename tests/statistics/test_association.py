"""Association against SciPy, and its interval and p-value where the truth is known."""

import numpy as np
import pytest
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association as scipy_association

from workbench.statistics.association import association


def table(shares, n, seed=0):
    shares = np.asarray(shares, dtype=float)
    draws = np.random.default_rng(seed).multinomial(n, (shares / shares.sum()).ravel())
    return draws.reshape(shares.shape)


def test_the_statistic_is_scipys():
    counts = table(np.ones((3, 4)), 200)
    expected = chi2_contingency(counts, correction=False)
    found = association(counts)
    assert found.chi_square == pytest.approx(expected.statistic)
    # Shuffled labels of 200 things follow the chi-square law.
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.04)
    assert association(np.array([[3, 0], [0, 3]])).p_value == pytest.approx(0.1, abs=0.03)


def test_residuals_are_the_adjusted_ones():
    counts = np.array([[10, 20, 30], [25, 15, 5]])
    n, row, column = counts.sum(), counts.sum(1, keepdims=True), counts.sum(0, keepdims=True)
    expected = row * column / n
    by_hand = (counts - expected) / np.sqrt(expected * (1 - row / n) * (1 - column / n))
    np.testing.assert_allclose(association(counts).residuals, by_hand)
    spread = [association(table(np.ones((3, 3)), 90, seed), n_resamples=1) for seed in range(60)]
    assert np.std([each.residuals for each in spread]) == pytest.approx(1, abs=0.12)


def test_v_is_nothing_under_independence_and_one_where_columns_decide():
    counts = table(np.ones((4, 6)), 120)
    assert association(counts).cramers_v < scipy_association(counts, method="cramer") - 0.05
    found = association(np.diag([20, 30, 10]))
    assert [found.cramers_v, found.interval[1]] == pytest.approx([1, 1])
    assert found.p_value < 0.01
    # No shuffled table is as far out; the observed one counts among them.
    few = association(np.diag([20, 30, 10]), n_resamples=19)
    assert few.p_value == 1 / 20 and few.residual_p.min() == 1 / 20


@pytest.mark.parametrize("truth", [0.0, 0.3, 0.95])
def test_intervals_cover_the_truth_and_hold_the_estimate(truth):
    shares = truth * np.eye(3) + (1 - truth) * np.full((3, 3), 1 / 3)  # whose V is the truth
    found = [association(table(shares, 60, seed), n_resamples=2) for seed in range(60)]
    low, high = np.array([each.interval for each in found]).T
    assert ((low <= truth) & (truth <= high)).mean() >= 0.88  # 95 %, less 2.5 standard errors
    estimates = np.array([each.cramers_v for each in found])
    assert ((low <= estimates) & (estimates <= high)).all()
    assert estimates.mean() == pytest.approx(truth, abs=0.09)
    narrow = association(table(shares, 60), confidence=0.5).interval
    wide = association(table(shares, 60)).interval
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_a_table_without_exceptions_may_come_from_one_with_them():
    found = association(np.diag([10, 10]))
    assert found.interval[0] < 0.9 and found.interval[1] == found.cramers_v == pytest.approx(1)
    # The correction leaves a long table without exceptions below 1, and 1 is possible.
    long = association(np.kron(np.eye(2, dtype=int), np.full((1, 6), 4)))
    assert long.interval[0] < long.cramers_v < 1 == pytest.approx(long.interval[1])


def test_residuals_are_corrected_over_the_cells():
    # 24 cells: beyond two standard deviations in one, of independent labels, is no finding.
    found = [association(table(np.ones((3, 8)), 120, seed), n_resamples=200) for seed in range(100)]
    assert np.mean([(np.abs(each.residuals) > 2).any() for each in found]) > 0.4
    assert np.mean([(each.residual_p <= 0.05).any() for each in found]) <= 0.09
    planted = np.ones((3, 8))
    planted[1, 5] = 8
    told = association(table(planted, 200), n_resamples=200).residual_p <= 0.05
    assert told[1, 5] and told.sum() < 5


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)])
def test_one_row_or_column_goes_with_nothing(shape):
    found = association(np.full(shape, 5))
    assert np.isnan([found.chi_square, found.p_value, found.cramers_v, *found.interval]).all()
    assert not found.residuals.any() and found.residuals.shape == shape
