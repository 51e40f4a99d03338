"""AUC: of labels that mean nothing, of labels that are apart, and its interval."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from workbench.errors import StudyError
from workbench.statistics.auc import auc_interval, split_half_auc

D_MODEL = 64


def prompts(seed, n, shift):
    rng = np.random.default_rng(seed)
    positive = np.arange(2 * n) % 2 == 0
    values = rng.normal(size=(2 * n, D_MODEL))
    values[positive, 0] += shift
    return values, positive


def areas(n, shift, seeds=150):
    return np.array([split_half_auc(*prompts(seed, n, shift)) for seed in range(seeds)])


def test_labels_without_meaning_do_not_separate():
    found = areas(20, 0.0)
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    # On the prompts that it was estimated on, the difference of means tells almost all apart.
    values, positive = prompts(0, 20, 0.0)
    scores = values @ (values[positive].mean(0) - values[~positive].mean(0))
    assert (scores[positive][:, None] > scores[~positive]).mean() > 0.9


def test_separated_labels_do():
    assert split_half_auc(*prompts(0, 20, 30.0)) == 1.0
    values, positive = prompts(0, 20, 30.0)
    # The direction is the halves' own: turning the labels around changes nothing.
    assert split_half_auc(values, ~positive) == 1.0


@pytest.mark.parametrize(("n", "shift"), [(20, 0.0), (20, 2.5), (60, 1.5)])
def test_the_interval_covers_what_other_prompts_give(n, shift):
    found = areas(n, shift)
    covered = [low <= found.mean() <= high for low, high in (auc_interval(a, n, n) for a in found)]
    assert np.mean(covered) >= 0.87


def test_the_interval_of_a_plain_area_covers_at_its_rate():
    rng = np.random.default_rng(0)
    truth, covered = norm.cdf(1.2 / 2**0.5), []
    for _ in range(400):
        positive, negative = rng.normal(1.2, 1, 30), rng.normal(0, 1, 30)
        low, high = auc_interval((positive[:, None] > negative).mean(), 30, 30)
        covered.append(low <= truth <= high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


@given(st.floats(0, 1), st.integers(1, 200), st.integers(1, 200))
def test_the_interval_holds_the_area_and_stays_inside(auc, n_positive, n_negative):
    low, high = auc_interval(auc, n_positive, n_negative)
    assert 0 <= low <= auc <= high <= 1
    assert high - low > 0
    mirrored = auc_interval(1 - auc, n_positive, n_negative)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-6)
    wider = auc_interval(auc, n_positive, n_negative, 0.99)
    assert wider[0] <= low
    assert high <= wider[1]


def test_ties_count_half():
    values = np.array([[0.0], [1.0], [0.0], [1.0]])
    assert split_half_auc(np.zeros((4, 1)), np.array([True, True, False, False])) == 0.5
    assert split_half_auc(values, np.array([False, True, False, True])) == 1.0


def test_what_cannot_be_split_or_has_no_interval():
    values = np.zeros((4, 2))
    with pytest.raises(StudyError, match="cannot split 1 and 3 prompts into halves"):
        split_half_auc(values, np.array([True, False, False, False]))
    for arguments in ((1.5, 3, 3), (0.5, 0, 3)):
        with pytest.raises(StudyError, match="no area of"):
            auc_interval(*arguments)
    with pytest.raises(StudyError, match="confidence 95"):
        auc_interval(0.5, 3, 3, 95.0)
