"""Ranking of SAE features: planted ones, chance levels by simulation, and scipy as the oracle."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import ttest_ind

import workbench as wb
from workbench.analysis.meaning.features import rank_features
from workbench.directions.sae.autoencoder import SparseAutoencoder
from workbench.errors import AxisError, StudyError

D_MODEL, N = 24, 60


def autoencoder(decoder=None, site="resid_pre"):
    """An SAE of which only the decoder matters."""
    if decoder is None:
        decoder = torch.randn(N, D_MODEL, generator=torch.Generator().manual_seed(0))
    return SparseAutoencoder("sae", site, 3, decoder, None, provenance={"weights": "w"})


def encoded(label, n, shift=(), seed=0, positions=(-2, -1)):
    """Sparse random activations, with a shift at position -1 of some features."""
    rng = np.random.default_rng(seed)
    values = np.maximum(0, rng.normal(-0.5, 1, (n, len(positions), N))).astype(np.float32)
    values[..., 0] = 0
    for feature, more in shift:
        values[:, -1, feature] += more
    return xr.DataArray(
        values,
        dims=("prompt", "position", "feature"),
        coords={
            "prompt": [f"{label}-{row}" for row in range(n)], "position": list(positions),
            "feature": range(N), "label": ("prompt", [label] * n),
            "category": ("prompt", ["c"] * n),
        },
        attrs={"sae": "sae", "sae_weights": "w", "model": "m"},
    )  # fmt: skip


def vector(values, site="resid_pre", layer=5):
    return wb.Directions(values[None, None, None], ("refusal",), (layer,), (-1,), site)


@pytest.fixture
def sets():
    return encoded("harmful", 40, [(7, 2.0), (11, 1.0)]), encoded("harmless", 30, seed=1)


def test_a_planted_row_is_first_by_cosine_and_a_planted_shift_by_difference(sets):
    sae = autoencoder()
    direction = vector(3 * sae.decoder[20] + 0.5 * torch.randn(D_MODEL))
    by_cosine = rank_features(sae, direction, *sets, position=-1)
    assert by_cosine.attrs["by"] == "cosine"
    assert by_cosine["feature"].values[0] == 20
    assert by_cosine["cosine"].values[0] > 0.9
    assert (np.diff(by_cosine["cosine"].values) <= 0).all()
    by_difference = rank_features(sae, None, *sets, position=-1)
    assert by_difference["feature"].values[:2].tolist() == [7, 11]
    assert by_difference["difference"].values[0] > by_difference.attrs["chance_difference"]
    by_area = rank_features(sae, direction, *sets, position=-1, by="auc")
    assert by_area["feature"].values[:2].tolist() == [7, 11]
    assert {"cosine", "difference"} <= set(by_area)


def test_cosines_are_signed_and_do_not_depend_on_length():
    sae = autoencoder()
    along, against, longer = (
        rank_features(sae, vector(scale * sae.decoder[4])) for scale in (1, -1, 50)
    )
    assert along["cosine"].sel(feature=4) == pytest.approx(1)
    xr.testing.assert_allclose(
        along.sortby("feature")["cosine"], -against.sortby("feature")["cosine"]
    )
    xr.testing.assert_allclose(along["cosine"], longer["cosine"])
    decoder = sae.decoder.clone()
    decoder[9] = 0
    silent = rank_features(autoencoder(decoder), vector(sae.decoder[4]))
    assert silent["cosine"].sel(feature=9) == 0


def test_differences_and_areas_are_those_of_scipy_and_sklearn(sets):
    from sklearn.metrics import roc_auc_score

    found = rank_features(autoencoder(), None, *sets, position=-1, confidence=0.9)
    found = found.sortby("feature")
    rows = [each.sel(position=-1).values.astype(float) for each in sets]
    varies = slice(1, None)
    test = ttest_ind(*(each[:, varies] for each in rows), equal_var=False)
    ends = test.confidence_interval(0.9)
    np.testing.assert_allclose(found["difference_interval"].values[varies, 0], ends.low)
    np.testing.assert_allclose(found["difference_interval"].values[varies, 1], ends.high)
    np.testing.assert_allclose(found["difference"], rows[0].mean(0) - rows[1].mean(0), atol=1e-12)
    np.testing.assert_allclose(found["rate_negative"], (rows[1] > 0).mean(0))
    is_positive = np.repeat([1, 0], [40, 30])
    areas = [roc_auc_score(is_positive, np.concatenate(rows)[:, feature]) for feature in range(N)]
    np.testing.assert_allclose(found["auc"], areas)
    assert found["auc"].values[0] == 0.5
    assert np.isnan(found["difference_interval"].values[0]).all(), "what never varies has none"


def test_chance_of_a_cosine_is_that_of_random_vectors():
    draw = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(400, N, D_MODEL, generator=draw), dim=-1)
    largest = rows[..., 0].abs().max(1).values
    found = rank_features(autoencoder(), vector(torch.ones(D_MODEL)), confidence=0.9)
    share = float((largest < found.attrs["chance_cosine"]).float().mean())
    assert share == pytest.approx(0.9, abs=0.04)


def test_chance_of_a_difference_is_seldom_reached_without_one():
    reached = []
    for seed in range(40):
        pair = encoded("a", 20, seed=2 * seed), encoded("b", 25, seed=2 * seed + 1)
        found = rank_features(autoencoder(), None, *pair, position=-1, n_permutations=100)
        largest = float(np.abs(found["difference"]).max())
        reached.append(largest > found.attrs["chance_difference"])
    assert np.mean(reached) <= 0.15


def test_positions_are_chosen_and_recorded(sets):
    found = rank_features(autoencoder(), None, *sets, position=-2)
    assert found.attrs["position"] == -2
    assert found["difference"].values[0] < 1.2, "the shift stands at the other position"
    one = [each.sel(position=[-1]) for each in sets]
    assert rank_features(autoencoder(), None, *one)["feature"].values[0] == 7
    with pytest.raises(AxisError, match=r"several positions in these encodings: \[-2, -1\]"):
        rank_features(autoencoder(), None, *sets)
    with pytest.raises(AxisError, match=r"no position -5 in these encodings: \[-2, -1\]"):
        rank_features(autoencoder(), None, *sets, position=-5)


def test_a_direction_of_another_space_is_refused():
    sae = autoencoder()
    with pytest.raises(AxisError, match="direction of width 8 at resid_pre cannot be compared"):
        rank_features(sae, vector(torch.ones(8)))
    with pytest.raises(AxisError, match="Both must be of the stream, or both of z"):
        rank_features(sae, vector(torch.ones(D_MODEL), site="z"))
    rank_features(autoencoder(site="mlp_out"), vector(torch.ones(D_MODEL)))
    with pytest.raises(AxisError, match="expected one vector, found 2"):
        rank_features(sae, sae.direction([1, 2]))
    with pytest.raises(AxisError, match="points nowhere"):
        rank_features(sae, vector(torch.zeros(D_MODEL)))


def test_prompts_in_both_sets_are_found_by_text_and_counted_ones_are_not_taken_for_the_same(sets):
    counted = [
        each.assign_coords(prompt=[str(row) for row in range(each.sizes["prompt"])])
        for each in sets
    ]
    ranked = rank_features(autoencoder(), None, *counted, position=-1)
    assert ranked["feature"].values[0] == 7
    texts = [
        each.assign_coords(text=("prompt", [f"{name} {i}" for i in range(each.sizes["prompt"])]))
        for name, each in zip(("Ask", "Tell"), counted, strict=True)
    ]
    xr.testing.assert_identical(rank_features(autoencoder(), None, *texts, position=-1), ranked)
    texts[1]["text"][3] = "Ask 5"
    with pytest.raises(StudyError, match="1 prompts are in both sets, such as 'Ask 5'"):
        rank_features(autoencoder(), None, *texts, position=-1)


def test_what_cannot_be_ranked_is_refused(sets):
    sae = autoencoder()
    positive, negative = sets
    with pytest.raises(StudyError, match="nothing to rank by: pass direction="):
        rank_features(sae)
    with pytest.raises(StudyError, match="pass both"):
        rank_features(sae, None, positive)
    with pytest.raises(StudyError, match="40 prompts are in both sets, such as 'harmful-0'"):
        rank_features(sae, None, positive, positive, position=-1)
    with pytest.raises(StudyError, match="at least 2 prompts of either set, found 1"):
        rank_features(sae, None, positive, negative[:1], position=-1)
    with pytest.raises(StudyError, match="expected encodings by sae, found those of other"):
        other = negative.assign_attrs(sae="other", sae_weights="v")
        rank_features(sae, None, positive, other, position=-1)
    with pytest.raises(StudyError, match="cannot rank by 'cosine': this ranking holds difference"):
        rank_features(sae, None, positive, negative, by="cosine", position=-1)
    with pytest.raises(StudyError, match=r"confidence 1\.5 is not between 0 and 1"):
        rank_features(sae, vector(torch.ones(D_MODEL)), confidence=1.5)
    with pytest.raises(StudyError, match="0 permutations of the labels: expected at least 1"):
        rank_features(sae, None, positive, negative, position=-1, n_permutations=0)
