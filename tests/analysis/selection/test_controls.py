"""Controls: lengths and spreads as promised, no signal in them, ranks that hold their level."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analysis.selection.controls import control_kinds
from workbench.errors import AxisError, StudyError
from workbench.statistics.ranks import beside, is_outside, rank_p_value

WIDTH, STRETCH = 12, 5.0


def activations(label, n, shift=0.0, seed=0, layers=(1, 2), width=WIDTH):
    """Prompts that spread most along the first axis, and are shifted along the second."""
    values = np.random.default_rng(seed).standard_normal((n, len(layers), 1, width))
    values[..., 0] *= STRETCH
    values[..., 1] += shift
    return wb.Activations(
        torch.from_numpy(values).float(),
        (1,) * n,
        ("",) * n,
        (label,) * n,
        tuple(f"{label} {row}" for row in range(n)),
        layers,
        (-1,),
        "resid_pre",
    )


@pytest.fixture(scope="module")
def pair():
    return activations("harmful", 200, shift=20.0), activations("harmless", 200, seed=1)


@pytest.fixture(scope="module")
def direction(pair):
    return wb.mean_difference(*pair)


def test_controls_have_the_length_of_the_direction_at_each_place(pair, direction):
    found = wb.selection.control_directions(direction, pair, kinds=["isotropic", "covariance"], n=5)
    assert found.values.shape == (10, 2, 1, WIDTH)
    assert (found.layers, found.positions, found.site) == ((1, 2), (-1,), "resid_pre")
    assert control_kinds(found) == ["isotropic"] * 5 + ["covariance"] * 5
    torch.testing.assert_close(found.norms, direction.norms.expand(10, -1, -1))


def test_isotropic_controls_prefer_no_axis_and_others_those_in_which_prompts_vary(pair, direction):
    found = wb.selection.control_directions(
        direction, pair, kinds=["isotropic", "covariance"], n=400
    )
    units = found.unit().values[:, 0, 0].square()
    isotropic, covariance = units[:400].mean(0), units[400:].mean(0)
    torch.testing.assert_close(isotropic, torch.full((WIDTH,), 1 / WIDTH), atol=0.02, rtol=0)
    # One axis of variance 25 among eleven of 1: about half of the squared length.
    assert 0.4 < float(covariance[0]) < 0.6


def test_no_control_holds_the_signal(pair, direction):
    """The shift is four times as long as any spread: what kept a part of it would point there."""
    found = wb.selection.control_directions(
        direction, pair, kinds=["covariance", "permuted"], n=100
    )
    along = found.unit().values[:, 0, 0, 1].abs()
    # Mean of the absolute share of one axis of variance 1 beside one of 25; the signal has .97.
    assert along[:100].mean() < 0.25
    assert along[100:].mean() < 0.25


def test_permuted_controls_are_as_short_as_the_noise_of_the_estimate(pair, direction):
    found = wb.selection.control_directions(direction, pair, kinds=["permuted"], n=200)
    # Variance of a difference of two means of 200, in the axis of variance 25 and in eleven of 1.
    expected = (STRETCH**2 + WIDTH - 1) * 2 / 200
    assert float(found.norms[:, 0, 0].square().mean()) == pytest.approx(expected, rel=0.25)


def test_a_control_is_the_same_however_many_follow_and_another_with_another_seed(pair, direction):
    kinds = ["isotropic", "covariance", "permuted"]
    few, many, other = (
        wb.selection.control_directions(direction, pair, kinds=kinds, n=n, seed=seed)
        for n, seed in ((2, 3), (6, 3), (2, 4))
    )
    for name in few.names:
        torch.testing.assert_close(few.at(name=name).values, many.at(name=name).values)
        assert not torch.allclose(few.at(name=name).values, other.at(name=name).values)


def test_where_a_direction_is_zero_so_are_its_controls(pair):
    values = torch.zeros(1, 2, 1, WIDTH)
    values[0, 1, 0, 0] = 2.0
    direction = wb.Directions(values, ("r",), (1, 2), (-1,))
    flat = [replace(each, values=each.values.clone()) for each in pair]
    for each in flat:
        each.values[:, 0] = 7.0  # a token that is the same in every prompt
    found = wb.selection.control_directions(direction, flat, kinds=["isotropic", "covariance"], n=3)
    assert found.degenerate[:, 0].all()
    assert not found.degenerate[:, 1].any()


def test_what_no_controls_can_be_drawn_from(pair, direction):
    def drawn(activations=pair, kinds=("covariance",), of=direction, **settings):
        return wb.selection.control_directions(of, activations, kinds=kinds, **settings)

    few = activations("harmful", 7, shift=20.0), pair[1]
    with pytest.raises(StudyError, match=r"7 prompts are labelled 'harmful': .* at least 8"):
        drawn(few)
    with pytest.raises(StudyError, match=r"need activations\. Pass what collect_activations"):
        drawn(None)
    with pytest.raises(StudyError, match="need single prompts: collect with per_prompt=True"):
        drawn([replace(each, ids=()) for each in pair])
    with pytest.raises(StudyError, match="between two, found 'harmful'"):
        drawn(pair[0], ["permuted"])
    with pytest.raises(AxisError, match="layer 2, position -1 was not collected"):
        drawn([activations(label, 9, layers=(1,)) for label in ("harmful", "harmless")])
    with pytest.raises(AxisError, match="12 wide, the activations 8"):
        drawn([activations(label, 9, width=8) for label in ("harmful", "harmless")])
    with pytest.raises(AxisError, match="read at resid_pre, the activations at mlp_out"):
        drawn([replace(each, site="mlp_out") for each in pair])
    with pytest.raises(StudyError, match="layer 1, position -1 all prompts of a label have one"):
        drawn([replace(each, values=torch.ones_like(each.values)) for each in pair])
    with pytest.raises(AxisError, match="each at most once"):
        drawn(kinds=["isotropic", "isotropic"])
    with pytest.raises(StudyError, match="n must be at least 1, found 0"):
        drawn(n=0)
    two = wb.Directions(torch.ones(2, 1, 1, 3), ("a", "b"), (1,), (-1,))
    with pytest.raises(AxisError, match="controls are of one direction, found a, b"):
        drawn(of=two)


def test_a_vector_like_its_controls_leaves_their_range_in_two_of_21_cases():
    rng = np.random.default_rng(0)
    # Skewed: no normal theory would hold its level here.
    values = rng.exponential(size=(20_000, 21))
    value, controls = values[:, 0], values[:, 1:]
    p, outside = rank_p_value(value, controls), is_outside(value, controls)
    assert (outside == (p <= 2 / 21 + 1e-9)).all()
    for rank in (1, 3, 10):
        # Two-sided, so it holds its level.
        assert (p <= 2 * rank / 21 + 1e-9).mean() == pytest.approx(2 * rank / 21, abs=0.01)
    assert p.max() == 1
    assert rank_p_value(100.0, np.arange(20.0)) == pytest.approx(2 / 21)
    assert is_outside(-1.0, np.arange(20.0)) and not is_outside(19.0, np.arange(20.0))
    assert np.isnan(rank_p_value(np.nan, np.arange(20.0)))


def test_a_value_is_ranked_within_each_kind_and_the_wider_one_decides():
    narrow, wide = np.linspace(-1, 1, 20), np.linspace(-5, 5, 20)
    kinds = ["isotropic"] * 20 + ["covariance"] * 20
    outside, p = beside([3.0, 9.0, np.nan], np.concatenate([narrow, wide]), kinds)
    assert outside.tolist() == [False, True, False]
    np.testing.assert_allclose(p, [rank_p_value(3.0, wide), 2 / 21, np.nan])
    assert beside(3.0, narrow, kinds[:20])[0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["isotopic"], "no kind 'isotopic': isotropic, covariance, permuted"),
        ("isotropic", r"found 'isotropic'\. Pass kinds=\['isotropic'\]"),
        ([], "each at most once"),
    ],
)
def test_kinds_that_are_none(direction, kinds, message):
    with pytest.raises(AxisError, match=message):
        wb.selection.control_directions(direction, kinds=kinds)


def test_shuffled_labels_of_few_prompts_are_as_long_as_differences_of_as_few(pair):
    harmful, harmless = activations("harmful", 60), activations("harmless", 10, seed=1)
    r = wb.mean_difference(harmful, harmless)
    drawn = wb.selection.control_directions(
        r, [harmful, harmless], kinds=["permuted"], n=200, n_shuffled=6
    )
    spread = torch.cat([harmful.values, harmless.values])[:, 0, 0].var(0)
    expected = spread * (1 / 6 + 1 / 10)
    found = drawn.values[:, 0, 0].square().mean(0)
    torch.testing.assert_close(found.sum(), expected.sum(), rtol=0.15, atol=0)
    with pytest.raises(StudyError, match=r"n_shuffled= is for kinds=\['permuted'\]"):
        wb.selection.control_directions(r, n_shuffled=6)


@pytest.mark.parametrize("n", [0, 40])
def test_shuffled_labels_need_prompts_on_both_sides(n):
    r = wb.Directions.from_vector(torch.ones(WIDTH), layer=1, position=-1)
    sets = [activations(label, 20) for label in ("harmful", "harmless")]
    with pytest.raises(StudyError, match=f"n_shuffled must be from 1 to 20, .* found {n}"):
        wb.selection.control_directions(r, sets, kinds=["permuted"], n_shuffled=n)
