"""Asymmetry and blocks of matrices whose shape is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.analysis.transfer.blocks import asymmetry, profile_blocks


def by_prompt(matrix, n=40, noise=0.0, seed=0):
    """Effects on the prompts of each category, around the columns of a matrix."""
    rng = np.random.default_rng(seed)
    matrix = np.asarray(matrix, dtype=float)
    return [column[:, None] + noise * rng.normal(size=(len(matrix), n)) for column in matrix.T]


def two_blocks(sizes, inside=-10.0, outside=0.0):
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return np.where(owner[:, None] == owner, inside, outside), owner


@pytest.mark.parametrize("sizes", [(3, 3), (1, 7), (2, 2, 4), (1, 1)])
def test_blocks_are_found_whatever_their_sizes_and_order(sizes):
    matrix, owner = two_blocks(sizes)
    shuffled = np.random.default_rng(1).permutation(len(owner))
    order, block = profile_blocks(matrix[np.ix_(shuffled, shuffled)])
    same = block[:, None] == block
    np.testing.assert_array_equal(same, owner[shuffled][:, None] == owner[shuffled])
    # Numbered from 1 in the order in which they stand.
    assert block[order].tolist() == sorted(block) and block.min() == 1


def test_rows_that_share_more_than_half_of_what_they_do_are_one_block():
    assert set(profile_blocks(two_blocks((3, 3), outside=-5.5)[0])[1]) == {1}
    assert set(profile_blocks(two_blocks((3, 3), outside=-4.5)[0])[1]) == {1, 2}
    assert set(profile_blocks(two_blocks((3, 3), outside=-4.5)[0], cut=0.6)[1]) == {1}


def test_equal_and_opposite_effects_are_not_the_same():
    assert profile_blocks(np.array([[-4.0, -4.0], [4.0, 4.0]]))[1].tolist() == [1, 2]


@pytest.mark.parametrize("effects", [np.zeros((3, 3)), np.ones((1, 4)), np.zeros((0, 2))])
def test_without_effects_or_rows_there_is_one_block(effects):
    order, block = profile_blocks(effects)
    assert order.tolist() == list(range(len(effects)))
    assert set(block) <= {1}


@given(st.floats(0.01, 100))
def test_blocks_do_not_depend_on_the_unit(scale):
    matrix = two_blocks((2, 3))[0] + np.random.default_rng(0).normal(size=(5, 5))
    for found, expected in zip(profile_blocks(scale * matrix), profile_blocks(matrix), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_symmetric_matrix_has_index_zero_and_one_way_effects_have_one():
    matrix = np.array([[-9.0, -4, -2], [-4, -9, -1], [-2, -1, -9]])
    found = asymmetry(by_prompt(matrix))
    assert found.index == 0 and found.interval == (0, 0) and found.noise == 0
    assert asymmetry(by_prompt(np.triu(matrix))).index == 1
    # (2 + 0 + 1) / (6 + 4 + 3)
    other = np.array([[0.0, -4, -2], [-2, 0, -1], [-2, -2, 0]])
    assert asymmetry(by_prompt(other)).index == pytest.approx(3 / 13)


def test_noise_is_what_a_symmetric_matrix_shows_by_chance():
    matrix = np.full((4, 4), -3.0)
    found = [asymmetry(by_prompt(matrix, 6, 2.0, seed), n_resamples=300) for seed in range(250)]
    # 5 % and a standard error and a half; of resampled means alone it is more than 10 %.
    assert np.mean([each.index > each.noise for each in found]) <= 0.07
    planted = matrix + np.triu(np.full((4, 4), -3.0), k=1)
    strong = asymmetry(by_prompt(planted, 12, 2.0))
    assert strong.noise < strong.interval[0] < strong.index < strong.interval[1]
    wide = asymmetry(by_prompt(planted, 12, 2.0), confidence=0.5)
    assert wide.interval[1] - wide.interval[0] < strong.interval[1] - strong.interval[0]


def test_nothing_off_the_diagonal_has_no_index():
    for matrix in (np.diag([-3.0, -4.0]), [[-2.0]]):
        found = asymmetry(by_prompt(matrix))
        assert np.isnan([found.index, *found.interval, found.noise]).all()


def test_one_prompt_says_nothing_about_others():
    rng = np.random.default_rng(0)
    found = asymmetry([rng.normal(size=(2, n)) for n in (1, 9)])
    assert np.isnan(found.noise) and np.isfinite(found.index)


def test_categories_may_have_different_numbers_of_prompts():
    rng = np.random.default_rng(0)
    effects = [rng.normal(size=(3, n)) for n in (1, 2, 5)]
    # Run-time checks look at one category at random, so once would not show it.
    for _ in range(20):
        assert np.isfinite(asymmetry(effects, n_resamples=10).index)
