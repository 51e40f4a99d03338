"""Principal angles: planted ones, random ones, and TransformerLens' own reference."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.activations import Activations
from workbench.directions.direction import Directions
from workbench.directions.subspaces import (
    _random_overlap,
    category_subspace,
    principal_angles,
    subspace_overlaps,
)
from workbench.errors import AxisError, StudyError

D_MODEL = 24


def spanned(*vectors, layers=(4,), positions=(-1,), site="resid_pre"):
    values = torch.stack(vectors)[:, None, None].expand(-1, len(layers), len(positions), -1)
    names = tuple(f"v{row}" for row in range(len(vectors)))
    return Directions(values.clone(), names, layers, positions, site)


def unit(index):
    return torch.eye(D_MODEL)[index]


def acts(label, basis=None, n=40, seed=0, d_model=D_MODEL):
    """Prompts that spread along a basis, with a little noise; layer 0 is the same in all."""
    draw = torch.Generator().manual_seed(seed)
    values = 0.01 * torch.randn(n, 2, 1, d_model, generator=draw) + 7
    values[:, 0] = 7
    if basis is not None:
        values[:, 1, 0] += 3 * torch.randn(n, len(basis), generator=draw) @ basis
    ids = tuple(f"{label}-{row}" for row in range(n))
    return Activations(
        values, (1,) * n, ("fraud",) * n, (label,) * n, ids, (0, 4), (-1,), "resid_pre"
    )


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0])
def test_planted_angles(degrees):
    turn = np.radians(degrees)
    tilted = np.cos(turn) * unit(0) + np.sin(turn) * unit(5)
    found = principal_angles(
        spanned(unit(0), unit(1)), spanned(tilted, unit(7) * 1e-2 + unit(1))
    ).squeeze()
    small = np.degrees(np.arctan(1e-2))
    expected = np.sort([degrees, small])
    np.testing.assert_allclose(found["angle"], expected, atol=1e-3)
    overlap = np.mean(np.cos(np.radians(expected)) ** 2)
    assert float(found["overlap"]) == pytest.approx(overlap, abs=1e-5)


def test_lengths_signs_and_mixtures_do_not_matter():
    a = spanned(unit(0), unit(1), unit(2))
    mixed = spanned(-5 * unit(0), unit(1) + unit(2), 1e-3 * unit(1))
    found = principal_angles(a, mixed).squeeze()
    np.testing.assert_allclose(found["angle"], 0, atol=1e-3)
    assert float(found["overlap"]) == pytest.approx(1)


def test_a_line_in_a_plane_overlaps_wholly():
    line, plane = spanned(unit(0) + unit(1)), spanned(unit(0), unit(1))
    for pair in ((line, plane), (plane, line)):
        found = principal_angles(*pair).squeeze()
        assert float(found["overlap"]) == pytest.approx(1)
        assert found["angle"].size == 1
        assert found.attrs["names_other"] == list(pair[1].names)


@pytest.mark.parametrize(("rank_a", "rank_b"), [(3, 3), (2, 5)])
def test_random_subspaces_have_the_reference(rank_a, rank_b):
    from transformer_lens.tools.analysis.projection_kernel import random_projection_kernel_moments

    draw = torch.Generator().manual_seed(0)
    overlaps = []
    for _ in range(200):
        pair = [spanned(*torch.randn(rank, D_MODEL, generator=draw)) for rank in (rank_a, rank_b)]
        found = principal_angles(*pair)
        overlaps.append(found["overlap"].item())
    sd = found["random_overlap_sd"].item()
    assert np.mean(overlaps) == pytest.approx(found["random_overlap"].item(), abs=4 * sd / 200**0.5)
    assert np.std(overlaps) == pytest.approx(sd, rel=0.2)
    if rank_a == rank_b:
        theirs = random_projection_kernel_moments(D_MODEL, rank_a)
        expected = (theirs.mean / rank_a, theirs.variance**0.5 / rank_a)
        assert _random_overlap(rank_a, rank_a, D_MODEL) == pytest.approx(expected)


def test_the_whole_space_overlaps_with_everything():
    assert _random_overlap(2, D_MODEL, D_MODEL) == (1.0, 0.0)
    assert _random_overlap(D_MODEL, 2, D_MODEL) == (1.0, 0.0)


def test_vectors_that_do_not_span_give_nan():
    twice = spanned(unit(0), 2 * unit(0))
    zero = spanned(unit(0), 0 * unit(1))
    for a in (twice, zero):
        found = principal_angles(a, spanned(unit(0), unit(1)))
        assert found["angle"].isnull().all()
        assert found["overlap"].isnull().all()


def test_a_category_spreads_along_what_was_planted():
    draw = torch.Generator().manual_seed(9)
    basis = torch.linalg.qr(torch.randn(D_MODEL, 2, generator=draw))[0].T
    found = category_subspace(acts("harmful", basis), acts("harmless", seed=1), "fraud", 2)
    assert found.names == ("fraud 1", "fraud 2")
    at = principal_angles(found.at(layer=4), spanned(*basis)).squeeze()
    assert float(at["angle"].max()) < 2
    torch.testing.assert_close(found.at(layer=4).norms, torch.ones(2, 1, 1))
    # A token that is the same in every prompt spans nothing.
    assert found.degenerate[:, 0].all()
    assert principal_angles(found, found)["angle"].sel(layer=0).isnull().all()


def test_a_shift_alone_is_the_first_dimension():
    harmful = acts("harmful")
    harmful.values[:, 1, 0] += 5 * unit(3)
    found = category_subspace(harmful, acts("harmless", seed=1), "fraud", 1).at(layer=4)
    assert abs(float(found.vector @ unit(3))) > 0.99


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (spanned(unit(0)[:8]), "width 24 at resid_pre and width 8"),
        (spanned(unit(0), site="mlp_out"), "at mlp_out cannot be compared"),
        (spanned(unit(0), layers=(5,)), "no layer 4 in these directions"),
        (spanned(unit(0), positions=(-2,)), "no position -1"),
    ],
)
def test_what_does_not_fit(other, message):
    with pytest.raises(AxisError, match=message):
        principal_angles(spanned(unit(0)), other)


def test_what_spans_no_subspace():
    harmful, harmless = acts("harmful"), acts("harmless")
    with pytest.raises(StudyError, match="a subspace needs single prompts"):
        category_subspace(replace(harmful, ids=()), harmless, "fraud")
    with pytest.raises(AxisError, match="no category 'arson' in these activations: fraud"):
        category_subspace(harmful, harmless, "arson")
    with pytest.raises(AxisError, match="site differ"):
        category_subspace(harmful, replace(harmless, site="z"), "fraud")
    for n_components in (0, 25):
        with pytest.raises(StudyError, match=f"cannot span {n_components} dimensions with 40"):
            category_subspace(harmful, harmless, "fraud", n_components)


def two_categories(shared):
    """Prompts of two categories that spread along one plane, or along one each."""
    planes = [torch.eye(D_MODEL)[:2], torch.eye(D_MODEL)[:2] if shared else torch.eye(D_MODEL)[4:6]]
    sets = [acts(name, planes[row], seed=row) for row, name in enumerate("ab")]
    return Activations(
        torch.cat([each.values for each in sets]),
        (1,) * 80,
        ("a",) * 40 + ("b",) * 40,
        ("harmful",) * 80,
        sets[0].ids + sets[1].ids,
        (0, 4),
        (-1,),
        "resid_pre",
    )


@pytest.mark.parametrize(("shared", "between"), [(True, 1.0), (False, 0.0)])
def test_categories_overlap_as_much_as_they_share(shared, between):
    found = subspace_overlaps(two_categories(shared), acts("harmless"), n_components=2)
    at = found.sel(layer=4, position=-1)
    for name in ("overlap", "half_overlap"):
        matrix = at[name].values
        np.testing.assert_allclose(matrix, matrix.T)
        np.testing.assert_allclose(np.diag(matrix), 1, atol=1e-3)
        assert matrix[0, 1] == pytest.approx(between, abs=1e-3)
    assert float(at["smallest_angle"][0, 1]) == pytest.approx(0 if shared else 90, abs=1.5)
    # At layer 0 every prompt is the same, and nothing is spanned.
    assert found["overlap"].sel(layer=0).isnull().all()


def test_one_category_has_nothing_to_overlap_with():
    with pytest.raises(StudyError, match="two or more categories of two or more prompts, found 1"):
        subspace_overlaps(acts("harmful", torch.eye(D_MODEL)[:2]), acts("harmless"))
