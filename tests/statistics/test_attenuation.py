"""Directions with known cosines in noise: estimates are unbiased, intervals cover, tests hold."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from workbench.activations import Activations
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.estimate import mean_difference
from workbench.few import few_resamples, n_averaged, too_few
from workbench.statistics.attenuation import FEWEST, interval, mean, pair_mean, ratio

COSINES, LENGTHS = (0.0, 0.5, 0.9), (2.0, 3.0, 4.0)
"""Planted cosines, and lengths in units of one coordinate's noise: reliability 0.67 to 0.89."""

D_MODEL, N, N_HARMLESS = 64, 40, 160


def simulated(seed, shifts, repeats=10, n=N, n_resamples=100, extra=(), n_harmless=N_HARMLESS):
    """The map of planted directions; repeats are the layer axis, conditions the position axis.

    Args:
        seed: of the noise, of a common offset and of the resampling.
        shifts: true directions, [category condition d_model].
        repeats: independent draws of the noise.
        n: prompts per category.
        n_resamples: replicates.
        extra: categories of further prompts.
        n_harmless: prompts that all categories are set against.
    """
    draw = torch.Generator().manual_seed(seed)
    offset = 5 * torch.randn(D_MODEL, generator=draw)
    n_categories, n_conditions = shifts.shape[:2]

    def acts(label, categories, shift):
        size = (len(categories), repeats, n_conditions, D_MODEL)
        ids = tuple(f"{label} {seed} {row}" for row in range(len(categories)))
        return Activations(
            torch.randn(size, generator=draw) + offset + shift,
            (1,) * len(ids), tuple(categories), (label,) * len(ids), ids,
            tuple(range(repeats)), tuple(range(-n_conditions, 0)), "resid_pre",
        ).with_resamples(n_resamples, seed)  # fmt: skip

    category = torch.cat(
        [torch.arange(n * n_categories) % n_categories, torch.tensor([*extra]).int()]
    )
    harmful = acts("harmful", ["abcdef"[c] for c in category], shifts[category][:, None])
    harmless = acts("harmless", "x" * n_harmless, 0)
    return cosine_similarity_map(mean_difference(harmful, harmless, by="category"))


def planted(cosines, lengths):
    """Two directions for every cosine and length, [category condition d_model]."""
    rows = []
    for cosine in cosines:
        for length in lengths:
            one, other = torch.zeros(2, D_MODEL)
            one[0], other[0], other[1] = length, length * cosine, length * (1 - cosine**2) ** 0.5
            rows.append(torch.stack([one, other]))
    return torch.stack(rows, 1)


@pytest.fixture(scope="module")
def maps():
    """A hundred maps of every planted cosine at every length, [seed · repeat condition …]."""
    shifts = planted(COSINES, LENGTHS)
    found = [simulated(seed, shifts).isel(name=0, name_other=1) for seed in range(10)]
    return {
        name: np.concatenate([each[name].values for each in found])
        for name in ("cosine", "disattenuated", "ceiling", "p_permuted", "cosine_interval",
                     "disattenuated_interval", "reliability", "null")
    }  # fmt: skip


CONDITIONS = [(c, length) for c in COSINES for length in LENGTHS]


@pytest.mark.parametrize("condition", range(len(CONDITIONS)), ids=map(str, CONDITIONS))
def test_the_disattenuated_cosine_is_the_planted_one(maps, condition):
    truth, length = CONDITIONS[condition]
    assert maps["disattenuated"][:, condition].mean() == pytest.approx(truth, abs=0.05)
    # The plain cosine is not, or there would be nothing to do.
    if length == 2.0 and truth != 0.5:
        assert abs(maps["cosine"][:, condition].mean() - truth) > 0.05


@pytest.mark.parametrize("condition", range(len(CONDITIONS)), ids=map(str, CONDITIONS))
def test_intervals_cover(maps, condition):
    truth = {"disattenuated": CONDITIONS[condition][0]}
    # The plain cosine's interval is about what other prompts of the same number would give.
    truth["cosine"] = maps["cosine"][:, condition].mean()
    for name, value in truth.items():
        low, high = np.moveaxis(maps[f"{name}_interval"][:, condition], -1, 0)
        covered = (low <= value) & (value <= high)
        assert 0.90 <= covered.mean(), name
        # Nor are they wide for nothing: twice the spread of the estimates, a little more.
        spread = maps[name][:, condition].std()
        assert 2.5 * spread < (high - low).mean() < 7 * spread, name


def test_intervals_of_the_plain_bootstrap_would_not_cover(maps):
    # What recommends the first-order change: percentiles of resampled cosines are off by far.
    shifts = planted([0.9], [4.0])
    draw = torch.Generator().manual_seed(0)
    missed = 0
    for _ in range(40):
        a, b, x = (
            torch.randn(n, D_MODEL, generator=draw) + shift
            for n, shift in ((N, shifts[0, 0]), (N, shifts[1, 0]), (N_HARMLESS, 0))
        )
        means = []
        for rows in (a, b, x):
            weights = torch.poisson(torch.ones(100, len(rows)), generator=draw)
            means.append(weights @ rows / weights.sum(1, keepdim=True))
        cosines = torch.cosine_similarity(means[0] - means[2], means[1] - means[2], dim=1)
        low, high = cosines.quantile(torch.tensor([0.025, 0.975])).tolist()
        missed += not low <= maps["cosine"][:, CONDITIONS.index((0.9, 4.0))].mean() <= high
    assert missed > 10


def test_reliability_is_the_share_that_is_not_noise(maps):
    for condition, (_, length) in enumerate(CONDITIONS):
        noise = D_MODEL * (1 / N + 1 / N_HARMLESS)
        expected = length**2 / (length**2 + noise)
        assert maps["reliability"][:, condition].mean() == pytest.approx(expected, abs=0.03)


def test_the_ceiling_is_the_cosine_of_equal_directions():
    shifts = planted([1.0, 0.5], LENGTHS)
    found = simulated(3, shifts, repeats=40).isel(name=0, name_other=1)
    cosine, ceiling = found["cosine"].mean("layer").values, found["ceiling"].mean("layer").values
    np.testing.assert_allclose(ceiling[:3], cosine[:3], atol=0.03)
    # It does not depend on where the directions really point.
    np.testing.assert_allclose(ceiling[3:], ceiling[:3], atol=0.05)
    assert (cosine[:3] < 0.95).all()


def test_permutations_reject_equal_categories_at_their_nominal_rate():
    # 200 maps of two categories that are one, at two lengths.
    shifts = planted([1.0], [0.5, 3.0])
    p = np.concatenate(
        [
            simulated(seed, shifts, repeats=50)["p_permuted"].isel(name=0, name_other=1)
            for seed in range(4)
        ]
    )
    for level in (0.05, 0.2):
        for condition in range(2):
            rejected = int((p[:, condition] <= level).sum())
            assert binomtest(rejected, len(p), level).pvalue > 0.01
    assert (p > 0).all()


def test_permutations_reject_categories_that_differ(maps):
    for condition, (cosine, length) in enumerate(CONDITIONS):
        if cosine < 0.9 or length == 4.0:
            assert (maps["p_permuted"][:, condition] <= 0.05).mean() > 0.9


@pytest.mark.parametrize("ratio_of_lengths", [1, 2, 4])
def test_one_direction_of_other_lengths_is_one_direction(ratio_of_lengths):
    # Reliabilities of the shorter from 0.6 to 0.98: 240 maps of two categories.
    rows = torch.zeros(2, 3, D_MODEL)
    rows[0, :, 0] = torch.tensor([1.5, 3.0, 10.0])
    rows[1] = rows[0] * ratio_of_lengths
    maps = [simulated(seed, rows, repeats=20, n=30).isel(name=0, name_other=1) for seed in range(4)]
    told = np.concatenate([each["p_one_direction"].values for each in maps]) <= 0.05
    assert told.mean() <= 0.05
    # Prompts are of two distributions all the same, and that is what permuting them asks.
    permuted = np.concatenate([each["p_permuted"].values for each in maps]) <= 0.05
    assert (permuted[:, 2].mean() > 0.4) == (ratio_of_lengths > 1)


def test_two_directions_are_told_apart_where_noise_allows():
    found = simulated(0, planted([0.9], [3.0, 10.0]), repeats=40, n=30).isel(name=0, name_other=1)
    power = (found["p_one_direction"] <= 0.05).mean("layer").values
    assert power[0] < 0.9 < power[1]


def test_pairs_are_corrected_together_and_the_mean_asks_about_all():
    rows = torch.zeros(5, 1, D_MODEL)
    rows[:, 0, 0] = torch.tensor([4.0, 4.0, 8.0, 8.0, 16.0])
    equal = simulated(2, rows, repeats=60, n=20).squeeze("position")
    p = equal["p_one_direction"].transpose("layer", "name", "name_other").values
    assert np.isnan(p[:, np.eye(5, dtype=bool)]).all()
    np.testing.assert_array_equal(p, p.swapaxes(1, 2))
    assert (np.nanmin(p, axis=(1, 2)) <= 0.05).mean() <= 0.05
    assert (equal["mean_p_one_direction"] <= 0.05).mean() <= 0.05
    rows[4, 0, 1] = 12.0
    one_differs = simulated(2, rows, repeats=60, n=20).squeeze("position")
    p = one_differs["p_one_direction"].transpose("layer", "name", "name_other").values
    assert (p[:, 4, :4] <= 0.05).mean() > 0.9 and (p[:, :4, :4] <= 0.05).mean() < 0.05
    assert (one_differs["mean_p_one_direction"] <= 0.05).mean() > 0.9


@pytest.mark.parametrize("cosine", [0.0, 0.9])
def test_intervals_cover_with_the_fewest_prompts(cosine):
    covered = []
    for seed in range(12):
        shifts = planted([cosine], [7.0])
        found = simulated(seed, shifts, repeats=10, n=FEWEST).isel(name=0, name_other=1)
        low, high = found["disattenuated_interval"].transpose("bound", ...).values
        covered.append((low <= cosine) & (cosine <= high))
    assert np.mean(covered) >= 0.9


def test_categories_of_few_prompts_have_cosines_without_intervals():
    shifts = torch.zeros(4, 1, D_MODEL)
    shifts[:, 0, 0], shifts[1, 0, 1] = 5.0, 3.0
    prompts = [0] * 20 + [1] * 20 + [2] * 3 + [3] * 4
    found = simulated(0, shifts, repeats=5, n=0, n_resamples=200, extra=prompts).squeeze("position")
    assert found.attrs["too_few"] == {"c": 3, "d": 4} and found.attrs["fewest"] == FEWEST
    assert found.attrs["averaged"] == ["a", "b"] and "means are" not in too_few(found)
    assert set(found.attrs["baselines"]) >= {"reliability", "disattenuated", "ceiling"}
    assert found["cosine"].notnull().all() and found["p_permuted"].notnull().all()
    for name in ("cosine_interval", "disattenuated", "disattenuated_interval", "ceiling",
                 "p_one_direction"):  # fmt: skip
        few = found[name].sel(name=["c", "d"]), found[name].sel(name_other=["c", "d"])
        assert all(each.isnull().all() for each in few), name
        assert found[name].sel(name="a", name_other="b").notnull().all(), name
    assert found["reliability"].sel(name=["c", "d"]).isnull().all()
    assert found["reliability"].sel(name=["a", "b"]).notnull().all()
    # The mean is of the pairs that have intervals, and lies in its own.
    np.testing.assert_allclose(found["mean_cosine"], found["cosine"].sel(name="a", name_other="b"))
    low, high = found["mean_cosine_interval"].transpose("bound", "layer").values
    assert ((low < found["mean_cosine"]) & (found["mean_cosine"] < high)).all()


def test_few_harmless_prompts_are_too_few_for_every_category():
    shifts = planted([0.5], [3.0])
    found = simulated(0, shifts, repeats=2, n_harmless=FEWEST - 1)
    assert found.attrs["too_few"] == {"harmless prompts": FEWEST - 1}
    assert found["mean_cosine"].notnull().all() and found["mean_cosine_interval"].isnull().all()
    assert found["disattenuated"].isnull().all() and found["reliability"].isnull().all()
    # Means of what is left are over all, and both the map and its words say so.
    assert found.attrs["averaged"] == ["a", "b"] and n_averaged(found) == 2
    assert "harmless prompts 7; means are over all pairs, since" in too_few(found)
    assert set(found.attrs["baselines"]) == {"null"} & set(found.data_vars)
    assert simulated(0, shifts, repeats=2, n_harmless=FEWEST).attrs["too_few"] == {}


def test_the_mean_over_pairs_has_its_own_interval_and_null():
    shifts = torch.zeros(4, 1, D_MODEL)
    shifts[:, 0, 0] = 3
    for category in range(4):
        shifts[category, 0, category + 1] = 3
    found = simulated(1, shifts, repeats=30).squeeze("position")
    assert found["mean_disattenuated"].mean() == pytest.approx(0.5, abs=0.03)
    low, high = found["mean_disattenuated_interval"].transpose("bound", "layer").values
    assert ((low <= 0.5) & (high >= 0.5)).mean() >= 0.9
    pair = found["disattenuated_interval"].isel(name=0, name_other=1)
    width = (pair.sel(bound="high") - pair.sel(bound="low")).mean()
    assert (high - low).mean() < width
    assert (found["mean_cosine"] < found["mean_null"].sel(quantile=0.025)).all()
    assert (found["mean_p_permuted"] == found["mean_p_permuted"].min()).all()
    off = found["cosine"].values[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(found["mean_cosine"], off.mean(0))


def test_directions_no_longer_than_their_noise_are_not_measured():
    found = simulated(0, planted([0.5], [0.0]), repeats=20).isel(name=0, name_other=1, position=0)
    assert found["disattenuated_interval"].isnull().all()
    assert found["disattenuated"].isnull().any()
    # What is measured has an interval all the same.
    low, high = found["cosine_interval"].transpose("bound", "layer").values
    truth = float(found["cosine"].mean())
    assert ((low <= truth) & (truth <= high)).mean() >= 0.9
    assert (np.abs([low, high]) <= 1).all()


def test_layers_of_one_set_of_prompts_share_noise():
    # The second layer is the first one again: its noise is no evidence of agreement.
    draw = torch.Generator().manual_seed(0)

    def acts(label, n, shift):
        values = torch.randn(n, 1, 20, D_MODEL, generator=draw) + shift
        other = values + shift.roll(5)
        ids = tuple(f"{label} {row}" for row in range(n))
        return Activations(
            torch.cat([values, other], 1), (1,) * n, ("c",) * n, (label,) * n, ids, (0, 1),
            tuple(range(-20, 0)), "resid_pre",
        ).with_resamples(200)  # fmt: skip

    shift = torch.zeros(D_MODEL)
    shift[0] = 2.0
    d = mean_difference(acts("harmful", 40, shift), acts("harmless", 40, 0 * shift))
    found = cosine_similarity_map(d, over="layer").squeeze()
    true = 0.5**0.5
    cell = found.sel(layer=0, layer_other=1)
    assert cell["disattenuated"].mean() == pytest.approx(true, abs=0.05)
    assert cell["cosine"].mean() > true + 0.05
    low, high = cell["disattenuated_interval"].transpose("bound", "position").values
    assert ((low < true) & (true < high)).mean() >= 0.9


def test_ratios_of_what_is_not_positive_do_not_exist():
    found = ratio(np.ones((2, 2)), np.array([4.0, -1.0]), np.array([1.0, 0.0]))
    np.testing.assert_array_equal(found, [[0.5, np.nan], [np.nan, np.nan]])


def test_means_and_intervals_leave_out_replicates_that_say_nothing():
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean(values), [2.0, np.nan])
    draws = np.linspace(0, 1, 101)
    empty = np.r_[draws, [np.nan] * 50]
    np.testing.assert_allclose(interval(empty, empty, 0.9), [0.05, 0.95])
    # Ratios that do not exist, of replicates that do, are another matter.
    assert np.isnan(interval(empty, np.zeros(151), 0.9)).all()
    # Of 19 replicates none lies outside of 90 %.
    assert np.isnan(interval(draws[:19], draws[:19], 0.9)).all()
    few = np.r_[draws, [np.nan] * 5]
    np.testing.assert_allclose(interval(few, np.zeros(106), 0.9), [0.05, 0.95])


def test_the_mean_over_pairs_leaves_the_diagonal_out():
    values = np.array([[9.0, 1.0], [2.0, 9.0]])
    assert pair_mean(values) == 1.5
    values[0, 1] = np.nan
    assert np.isnan(pair_mean(values))


def test_too_few_resamples_have_no_intervals_and_say_so():
    found = simulated(0, planted([0.5], [3.0]), repeats=2, n_resamples=39)
    assert found["cosine_interval"].isnull().all() and found["disattenuated"].notnull().all()
    assert few_resamples(found) == "39 resamples are too few for 95% intervals"
    assert all(found[name].notnull().any() for name in found.attrs["baselines"])
    assert not few_resamples(simulated(0, planted([0.5], [3.0]), repeats=2, n_resamples=40))
