"""Principal components: against plain linear algebra, with planted labels, and what cannot be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.activations import Activations
from workbench.analysis.geometry.pca import pca_projection
from workbench.errors import AxisError, StudyError

D_MODEL, LAYERS, POSITIONS = 16, (0, 2, 5), (-2, -1)


def acts(label, shift=0.0, n=30, seed=0, category="c"):
    """Noise, plus a shift along the first coordinate that grows with depth; layer 0 is constant."""
    draw = torch.Generator().manual_seed(seed)
    values = torch.randn(n, len(LAYERS), len(POSITIONS), D_MODEL, generator=draw) + 3
    values[:, 0] = 2.5
    values[:, 1, :, 0] += shift / 2
    values[:, 2, :, 0] += shift
    ids = tuple(f"{label}-{row}" for row in range(n))
    return Activations(
        values, (1,) * n, (category,) * n, (label,) * n, ids, LAYERS, POSITIONS, "resid_pre",
        {"model": "m", "prompts": label}, tuple(f"{label} <b>{row}" for row in range(n)),
    )  # fmt: skip


@pytest.fixture
def pair():
    return [acts("harmless", seed=1), acts("harmful", 8.0)]


def test_scores_are_projections_on_principal_components(pair):
    found = pca_projection(pair, n_components=3)
    values = torch.cat([each.at(5, -1) for each in pair]).double().numpy()
    centred = values - values.mean(0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    scores = found["score"].sel(layer=5, position=-1).values
    np.testing.assert_allclose(np.abs(scores), np.abs(centred @ axes[:3].T), atol=1e-6)
    share = lengths[:3] ** 2 / (lengths**2).sum()
    np.testing.assert_allclose(found["explained_variance"].sel(layer=5, position=-1), share)


def test_the_first_component_points_to_harmful_prompts_and_no_panel_flips(pair):
    found = pca_projection(pair, layers=[2, 5])
    for flipped in (pair, [replace(each, values=-each.values) for each in pair]):
        scores = pca_projection(flipped, layers=[2, 5])["score"].sel(component=1)
        means = scores.groupby("label").mean()
        assert (means.sel(label="harmful") > means.sel(label="harmless")).all()
    same = replace(pair[0], values=pair[0].values[:, [1, 1, 1]].clone())
    same.values[:, 1] *= -1
    scores = pca_projection(same)["score"]
    for component in (1, 2):
        one, other = (scores.sel(component=component, layer=layer) for layer in (0, 2))
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert found.attrs["positive"] == "harmful"


def test_a_planted_shift_is_found_and_labels_without_meaning_are_not(pair):
    found = pca_projection(pair)
    at = found.sel(layer=5, position=-1)
    assert float(at["cosine_with_mean_difference"]) > 0.95
    assert float(at["auc"]) == 1.0
    low, high = at["auc_interval"].values
    assert 0.85 < low < 1.0
    assert high == 1.0
    none = pca_projection([acts("harmless", seed=1), acts("harmful")]).sel(layer=5)
    assert (none["auc_interval"].sel(bound="low") < 0.6).all()
    assert (none["auc"] < 0.75).all()
    # Halfway there it lies between.
    assert (found["auc"].sel(layer=2) <= found["auc"].sel(layer=5)).all()


def test_a_token_that_is_the_same_in_every_prompt_gives_nan(pair):
    found = pca_projection(pair)
    for name in ("score", "explained_variance", "auc", "auc_interval"):
        assert found[name].sel(layer=0).isnull().all()
        assert found[name].sel(layer=5).notnull().all()


def test_prompts_are_labelled(pair):
    found = pca_projection(pair, positions=[-1])
    assert found["prompt"].values[0] == "harmless-0"
    assert found["text"].values[-1] == "harmful <b>29"
    assert set(found["label"].values) == {"harmless", "harmful"}
    assert found["category"].values[0] == "c"
    assert found.attrs["n"] == 60
    assert found.attrs["model"] == "m"
    without = [replace(each, texts=()) for each in pair]
    assert "text" not in pca_projection(without).coords


def test_which_labels_are_contrasted():
    sets = {label: acts(label, seed=row) for row, label in enumerate(("harmless", "borderline"))}
    sets["harmful"] = acts("harmful", 8.0, seed=3)
    three = pca_projection(list(sets.values()))
    assert (three.attrs["positive"], three.attrs["negative"]) == ("harmful", "harmless")
    two = pca_projection([sets["harmless"], sets["borderline"]])
    assert (two.attrs["positive"], two.attrs["negative"]) == ("borderline", "harmless")
    assert "auc" not in pca_projection(sets["harmful"])


def test_one_prompt_of_a_label_has_a_component_and_no_auc():
    found = pca_projection([acts("harmless"), acts("harmful", 8.0, n=1)]).sel(layer=5)
    assert found["auc"].isnull().all()
    assert found["cosine_with_mean_difference"].notnull().all()


def test_it_reads_a_model(zoo):
    texts = {"harmful": ["How far is it?", "hi", "What now"], "harmless": ["ok", "a b c", "Me too"]}
    sets = [
        wb.collect_activations(zoo["llama"].model, texts[label], per_prompt=True) for label in texts
    ]
    found = wb.geometry.pca_projection(sets)
    assert found["score"].sizes["layer"] == 3
    assert found["text"].values[0] == "How far is it?"


def test_what_cannot_be_projected(pair):
    means = replace(pair[0], ids=())
    with pytest.raises(StudyError, match=r"needs single prompts: collect with per_prompt=True"):
        pca_projection(means)
    with pytest.raises(StudyError, match="no activations"):
        pca_projection([])
    with pytest.raises(StudyError, match="no 17 components of 60 prompts of width 16"):
        pca_projection(pair, n_components=17)
    with pytest.raises(AxisError, match="layer 1, position -1 was not collected"):
        pca_projection(pair, layers=[1], positions=[-1])
    with pytest.raises(AxisError, match="site differ: resid_pre and mlp_out"):
        pca_projection([pair[0], replace(pair[1], site="mlp_out")])
    with pytest.raises(AxisError, match="widths differ: 16 and 4"):
        pca_projection([pair[0], replace(pair[1], values=pair[1].values[..., :4])])


def test_a_component_leans_to_any_difference_of_means_and_chance_says_how_far(pair):
    """One axis of ten times the spread: any labels differ along it, so every cosine is large."""
    cosines, p_values, passed = [], [], []
    for seed in range(20):
        sets = [acts(label, seed=100 + 2 * seed + own) for own, label in enumerate(("x", "y"))]
        for each in sets:
            each.values[..., 3] *= 10
        found = pca_projection(sets, layers=[5], positions=[-1]).squeeze()
        cosines.append(abs(float(found["cosine_with_mean_difference"])))
        p_values.append(float(found["cosine_p_value"]))
        passed.append(cosines[-1] > float(found["cosine_chance"]))
    assert np.median(cosines) > 0.8
    # 5 % of 20 is 1; 5 or more have a probability below 1 %.
    assert sum(passed) < 5 and sum(p <= 0.05 for p in p_values) < 5
    assert 0.3 < np.mean(p_values) < 0.7
    planted = pca_projection(pair).sel(layer=5, position=-1)
    assert planted["cosine_with_mean_difference"] > planted["cosine_chance"]
    assert planted["cosine_p_value"] == 1 / 201
