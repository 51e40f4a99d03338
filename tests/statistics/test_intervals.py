"""Intervals cover what they are made for, and say nothing where there is nothing to say."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest, t

from workbench.statistics.intervals import (
    MIN_PROMPTS,
    bootstrap_interval,
    difference_interval,
    median_interval,
)

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(scope="module")
def coverage():
    """The benchmark, whose cases are simulated here with fewer samples."""
    spec = importlib.util.spec_from_file_location("coverage_of_intervals", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def within(share, times, low=0.92, high=0.98):
    """Whether a share can be that of an interval which covers between the two."""
    return (
        binomtest(round(share * times), times, low, alternative="less").pvalue > 0.005
        and binomtest(round(share * times), times, high, alternative="greater").pvalue > 0.005
    )


@pytest.mark.parametrize("n", [MIN_PROMPTS, 32, 64])
@pytest.mark.parametrize(
    "population",
    ["normal", "mixture, 20% 8 sd away", "mixture, 10% 8 sd away", "log-normal, sigma 1"],
)
def test_intervals_of_means_cover_skewed_scores(coverage, population, n):
    draw, mean = coverage.synthetic()[population]
    found = coverage.of_means(draw, mean, n)(np.random.default_rng(n), 600)
    assert np.isfinite(found).mean() > 0.95
    shown = found[np.isfinite(found)]
    assert within(shown.mean(), len(shown)), shown.mean()


def test_other_intervals_cover(coverage):
    for make in (coverage.difference_cases, coverage.rate_cases, coverage.area_cases):
        case = next(iter(make()))
        share, shown = coverage.measured(case, 400)
        assert shown == 1 and within(share, 400), (case.interval, share)


@pytest.mark.slow
def test_every_interval_that_is_shown_covers(coverage):
    # What no interval of a few prompts can hold: one prompt in a hundred or fewer moves the mean.
    beyond = ("mixture, 5%", "log-normal, sigma 2", "pocket: plain score, harmless", "pocket: KL")
    for make in coverage.CASES:
        for case in make():
            share, shown = coverage.measured(case, 2000)
            # Tango's and the median's are conservative where little can be told.
            most = 1.0 if case.interval in ("paired difference of rates", "median") else 0.98
            if not case.population.startswith(beyond) or case.interval == "median":
                assert within(share, round(2000 * shown), high=most), (case, share)


def test_width_is_that_of_students_interval_where_nothing_is_skewed():
    values = np.random.default_rng(1).normal(0, 2.0, size=400)
    low, high = bootstrap_interval(values)
    expected = 2 * t.ppf(0.975, 399) * values.std(ddof=1) / np.sqrt(len(values))
    assert high - low == pytest.approx(expected, rel=0.08)
    assert low < values.mean() < high


def test_an_interval_reaches_to_where_the_tail_is():
    values = np.random.default_rng(2).lognormal(size=60)
    low, high = bootstrap_interval(values)
    assert high - values.mean() > 1.3 * (values.mean() - low)
    mirrored = bootstrap_interval(-values)
    assert mirrored[1] - -values.mean() < -values.mean() - mirrored[0]


def test_confidence_orders_widths():
    values = np.random.default_rng(1).normal(size=50)
    widths = [np.subtract(*bootstrap_interval(values, c)[::-1]) for c in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths)


def test_cells_do_not_depend_on_each_other():
    values = np.random.default_rng(2).normal(size=(300, 3, 30))
    low, high = bootstrap_interval(values)
    assert low.shape == high.shape == (300, 3)
    for cell in ((0, 0), (100, 1), (299, 2)):
        alone = bootstrap_interval(values[cell])
        np.testing.assert_allclose([low[cell], high[cell]], alone)


def test_equal_values_have_an_interval_of_no_width():
    for value in (1.5, 0.1, 0.0):
        low, high = bootstrap_interval(np.full((2, 40), value))
        np.testing.assert_allclose([low, high], value)


def test_too_few_prompts_have_no_interval():
    values = np.random.default_rng(3).normal(size=(2, MIN_PROMPTS))
    assert np.isfinite(bootstrap_interval(values)).all()
    for n in (0, 1, MIN_PROMPTS - 1):
        assert np.isnan(bootstrap_interval(values[:, :n])).all()


def test_a_mean_that_one_prompt_makes_has_no_interval():
    values = np.random.default_rng(4).normal(scale=1e-4, size=(2, 32))
    values[0, 5] = 1.0
    low, high = bootstrap_interval(values)
    assert np.isnan([low[0], high[0]]).all() and np.isfinite([low[1], high[1]]).all()
    alone = np.zeros(32)
    alone[3] = 1.0
    assert np.isnan(bootstrap_interval(alone)).all()


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_a_cell_that_is_not_finite_has_no_interval_and_spoils_no_other(broken):
    values = np.random.default_rng(3).normal(size=(3, 30))
    expected = bootstrap_interval(values), median_interval(values)
    values[1, 4] = broken
    found = bootstrap_interval(values), median_interval(values)
    for bound, untouched in zip(np.vstack(found), np.vstack(expected), strict=True):
        assert np.isnan(bound[1])
        np.testing.assert_array_equal(bound[[0, 2]], untouched[[0, 2]])


def test_the_same_seed_gives_the_same_interval():
    values = np.random.default_rng(4).normal(size=30)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_inputs_stay_as_they_are():
    values = np.random.default_rng(5).normal(size=(2, 30)).astype(np.float32)
    before = values.copy()
    bootstrap_interval(values)
    median_interval(values)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("n", [6, 9, 32, 101])
def test_the_medians_interval_covers_whatever_the_distribution(n):
    values = np.random.default_rng(n).lognormal(sigma=3, size=(3000, n))
    low, high = median_interval(values)
    share = ((low <= 1) & (high >= 1)).mean()
    assert within(share, 3000, 0.95, 1.0)
    # No narrower pair of values would do: one step in on either side covers too seldom.
    ordered = np.sort(values)
    inner = [
        np.take_along_axis(ordered, np.argmax(ordered == end[:, None], 1)[:, None] + step, 1)
        for end, step in ((low, 1), (high, -1))
    ]
    assert ((inner[0] <= 1) & (inner[1] >= 1)).mean() < 0.95


def test_five_values_tell_no_median():
    assert np.isnan(median_interval(np.arange(5.0))).all()
    assert np.isnan(median_interval(np.empty((2, 0)))).all()


def test_an_interval_of_a_difference_adds_distances_in_squares():
    ends = difference_interval(
        (np.array(5.0), np.array(2.0), np.array(9.0)),
        (np.array(1.0), np.array(-2.0), np.array(5.0)),
    )
    assert np.array(ends) == pytest.approx([4 - 5, 4 + 5])
