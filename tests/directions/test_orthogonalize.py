"""Orthogonalizing: the formula, its laws, and what does not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.directions.direction import Directions
from workbench.directions.orthogonalize import orthogonalize
from workbench.errors import AxisError


def random_directions(seed, names=1, layers=3, positions=2, d_model=16, site="resid_pre"):
    values = torch.randn(
        names, layers, positions, d_model, generator=torch.Generator().manual_seed(seed)
    )
    labels = tuple(f"r{i}" for i in range(names))
    return Directions(values, labels, tuple(range(layers)), tuple(range(-positions, 0)), site)


def along(directions, against):
    return (directions.values * against.unit().values).sum(-1)


@given(st.integers(0, 999), st.floats(-1, 2), st.floats(0.01, 100))
def test_the_formula(seed, strength, length):
    w = random_directions(seed, names=2)
    r = random_directions(seed + 1000)
    r = Directions(length * r.values, r.names, r.layers, r.positions)
    found = orthogonalize(w, r, strength=strength)
    unit = r.values / r.values.norm(dim=-1, keepdim=True)
    expected = w.values - strength * (w.values * unit).sum(-1, keepdim=True) * unit
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(along(found, r), (1 - strength) * along(w, r), rtol=1e-3, atol=1e-4)


@given(st.integers(0, 999))
def test_nothing_is_left_and_it_happens_once(seed):
    w, r = random_directions(seed), random_directions(seed + 1000)
    once = orthogonalize(w, r)
    assert along(once, r).abs().max() < 1e-5
    torch.testing.assert_close(orthogonalize(once, r).values, once.values, rtol=1e-4, atol=1e-5)
    assert torch.equal(orthogonalize(w, r, strength=0.0).values, w.values)
    # It keeps whatever length is left.
    assert (once.norms <= w.norms + 1e-5).all()
    expected = (w.norms**2 - along(w, r) ** 2).sqrt()
    torch.testing.assert_close(once.norms, expected, rtol=1e-3, atol=1e-3)


def test_inputs_stay_as_they_are():
    w, r = random_directions(1), random_directions(2)
    before = w.values.clone(), r.values.clone()
    found = orthogonalize(w, r)
    assert torch.equal(w.values, before[0])
    assert torch.equal(r.values, before[1])
    assert (found.names, found.layers, found.positions) == (w.names, w.layers, w.positions)


def test_one_vector_serves_all():
    w, r = random_directions(1, names=2), random_directions(2)
    one = r.at(layer=1, position=-1)
    found = orthogonalize(w, one)
    assert along(found, one).abs().max() < 1e-5


def with_zeros(directions, layer, scale=0.0):
    """The same, where one layer is zero or, with a scale, only noise."""
    values = directions.values.clone()
    values[:, layer] *= scale
    return Directions(values, directions.names, directions.layers, directions.positions)


@pytest.mark.parametrize("scale", [0.0, 1e-9])
def test_a_grid_with_a_layer_of_noise_is_orthogonalized_everywhere_else(scale):
    # As mean differences at layer 0, where the template's tokens are the same in every prompt.
    w, r = (with_zeros(random_directions(seed, names=1), 0, scale) for seed in (1, 2))
    found = orthogonalize(w, r)
    assert torch.equal(found.values[:, 0], w.values[:, 0])
    others = [1, 2]
    expected = orthogonalize(w.at(layer=others), r.at(layer=others))
    assert torch.equal(found.at(layer=others).values, expected.values)
    made = found.provenance["orthogonalized"]
    assert made["degenerate"] == [[0, -2], [0, -1]]
    assert expected.provenance["orthogonalized"]["degenerate"] == []


def test_a_vector_that_stays_whole_is_named():
    w, r = random_directions(1, names=2), with_zeros(random_directions(2), 1)
    with pytest.warns(
        UserWarning, match=r"at 2 places \(layer 1, position -2, layer 1, position -1"
    ):
        found = orthogonalize(w, r)
    assert torch.equal(found.values[:, 1], w.values[:, 1])
    assert not torch.equal(found.values[:, 0], w.values[:, 0])


def test_a_grid_with_a_vector_that_is_not_finite_is_refused():
    bad = with_zeros(random_directions(2), 1, float("nan"))
    with pytest.raises(AxisError, match=r"r0 at layer 1, position -2 is zero or not finite"):
        orthogonalize(random_directions(1), bad)


def test_matching_is_by_label_and_not_by_place():
    w, r = random_directions(1), random_directions(2)
    shuffled = r.at(layer=[2, 0, 1], position=[-1, -2])
    torch.testing.assert_close(orthogonalize(w, shuffled).values, orthogonalize(w, r).values)


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (random_directions(2, d_model=8), "width 16 at resid_pre cannot be orthogonalized against"),
        (random_directions(2, site="mlp_out"), "against width 16 at mlp_out"),
        (random_directions(2, names=2), "expected one name to orthogonalize against"),
        (random_directions(2, layers=2), "no layer 2 in these directions"),
        (random_directions(2, positions=1), "no position -2 in these directions"),
        (
            Directions(torch.zeros(1, 1, 1, 16), ("zero",), (0,), (-1,)),
            "zero at layer 0, position -1 is zero.* Nothing can be orthogonalized",
        ),
    ],
)
def test_what_does_not_fit(against, message):
    with pytest.raises(AxisError, match=message):
        orthogonalize(random_directions(1), against)
