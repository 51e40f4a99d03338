"""Concept or words: the two corners of a model whose two components are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import workbench as wb
from workbench.analysis.meaning.concept import measure_concept
from workbench.errors import AxisError, StudyError
from workbench.statistics.auc import auc_interval

EARLY, LATE = ["kites", "xylophones"], ["quilts", "zithers"]
OWN = {"early": EARLY, "late": LATE}


def collected(organism, prompts=None, **settings):
    prompts = organism.harmful + organism.harmless if prompts is None else prompts
    settings = {"positions": [-1], "per_prompt": True, **settings}
    return wb.collect_activations(organism.model, prompts, **settings)


@pytest.fixture(scope="module")
def acts(two_components):
    """Single prompts at the last position of every layer; read-only."""
    return collected(two_components)


def plane(organism, acts, directions=None, **settings):
    directions = [organism.early, organism.late] if directions is None else directions
    settings = {"own": OWN, **settings}
    return measure_concept(
        organism.model, directions, acts, refusal_tokens=organism.refusal_tokens, **settings
    )


def test_the_two_components_stand_in_different_corners(two_components, acts):
    found = plane(two_components, acts)
    early, late = found.sel(name="early", layer=3), found.sel(name="late", layer=7)
    assert (early["auc"] == 1).all() and (late["auc"] == 1).all()
    assert early["words"] < 1e-6
    # late is 0.9 of the row of N and something that nothing reads
    assert float(late["words"]) == pytest.approx(0.81, abs=0.02)
    assert late["words"] > found.attrs["random_words_high"]
    assert late["words"] > late["other_words_interval"].sel(bound="high")
    assert np.isnan(found["words"].sel(name="early", layer=7))


def test_a_category_is_told_from_harmless_prompts_but_not_from_its_block(two_components, acts):
    harmful, harmless = (
        collected(two_components, each, per_prompt=False)
        for each in (two_components.harmful, two_components.harmless)
    )
    directions = wb.mean_difference(harmful, harmless, by="category")
    # The planted vectors have no noise, so that prompts that were seen flatter nothing here.
    directions = replace(directions, prompt_keys=())
    found = plane(two_components, acts, directions, own=None).sel(name="kites")
    # After layer 4 a reply that begins with S is on its way, and the direction has become words.
    assert (found["words"].sel(layer=[2, 3, 4]) < 0.01).all()
    assert (found["words"].sel(layer=[5, 6, 7]) > 0.8).all()
    assert (found["auc"].sel(contrast="harmless", layer=range(1, 8)) == 1).all()
    assert (found["auc"].sel(contrast="harmful", layer=range(2, 8)) < 1).all()


@pytest.mark.parametrize("by", [None, "category"])
def test_single_prompts_that_the_directions_were_estimated_on_are_refused(two_components, by):
    """A few among others, in a set that nobody has seen as a whole."""
    harmful, harmless = two_components.harmful, two_components.harmless
    train = [collected(two_components, each[::2], per_prompt=False) for each in (harmful, harmless)]
    directions = wb.mean_difference(*train, by=by)
    again = harmful[1::2] + harmful[:4:2]
    tested = collected(two_components, again)
    own = {"own": {name: set(harmful.categories) for name in directions.names}}
    with pytest.raises(StudyError, match=f"2 of {len(again)} prompts are among the prompts that"):
        plane(two_components, tested, directions, **own)
    # Under other ids they are the same prompts.
    renamed = wb.PromptSet(tuple(replace(p, id=f"new-{i}") for i, p in enumerate(again)))
    with pytest.raises(StudyError, match=f"2 of {len(again)} prompts"):
        plane(two_components, collected(two_components, renamed), directions, **own)
    plane(two_components, collected(two_components, harmful[1::2]), directions, **own)


def test_areas_are_scikit_learns(two_components, acts):
    draw = torch.Generator().manual_seed(0)
    vector = torch.randn(1, 1, 1, 32, generator=draw)
    noisy = replace(acts, values=acts.values + 2 * torch.randn(acts.values.shape, generator=draw))
    directions = wb.Directions(vector, ("kites",), (3,), (-1,))
    found = plane(two_components, noisy, directions, own=None, confidence=0.9)
    projections = (noisy.at(3, -1) @ vector.flatten()).numpy()
    label, category = np.array(noisy.labels), np.array(noisy.categories)
    own = category == "kites"
    harmless = label == "harmless"
    for contrast, kept in (
        ("all", own | True),
        ("harmful", ~harmless),
        ("harmless", own | harmless),
    ):
        cell = found.sel(name="kites", layer=3, contrast=contrast)
        expected = roc_auc_score(own[kept], projections[kept])
        assert float(cell["auc"]) == pytest.approx(expected)
        sizes = int(own.sum()), int(kept.sum() - own.sum())
        assert cell["auc_interval"].values == pytest.approx(auc_interval(expected, *sizes, 0.9))
    assert int(found["n_own"][0]) == 6


def test_random_directions_hold_the_share_that_is_said(two_components, acts):
    vectors = torch.randn(300, 1, 1, 32, generator=torch.Generator().manual_seed(0))
    names = tuple(f"r{row}" for row in range(300))
    directions = wb.Directions(vectors, names, (3,), (-1,))
    own = {name: EARLY for name in names}
    found = plane(two_components, acts, directions, own=own, n_random=1)
    assert found.attrs["random_words"] == 2 / 32
    assert float(found["words"].mean()) == pytest.approx(2 / 32, rel=0.15)
    above = float((found["words"] > found.attrs["random_words_high"]).mean())
    assert above == pytest.approx(0.025, abs=0.02)


def test_one_token_twice_over_does_not_count_twice(two_components, acts):
    model, (s, n) = two_components.model, two_components.refusal_tokens
    found = measure_concept(model, two_components.late, acts, refusal_tokens=[s, n], own=OWN)
    again = measure_concept(model, two_components.late, acts, refusal_tokens=[s, n, n], own=OWN)
    assert float(again["words"][0, 0]) == pytest.approx(float(found["words"][0, 0]))
    assert again.attrs["random_words"] == found.attrs["random_words"]


def test_nobody_to_compare_with_is_nan(two_components):
    prompts = two_components.harmful.where(category=EARLY)
    acts = collected(two_components, prompts)
    found = plane(two_components, acts, two_components.early)
    assert np.isnan(found["auc"]).all() and np.isnan(found["auc_interval"]).all()
    assert np.isfinite(found["words"]).all()


def test_vectors_that_are_rounding_noise_are_left_out(two_components, acts):
    values = torch.stack([torch.full((32,), 1e-9), torch.ones(32)]).view(1, 2, 1, 32)
    found = plane(two_components, acts, wb.Directions(values, ("early",), (0, 3), (-1,)))
    assert found["layer"].values.tolist() == [3]


def test_what_does_not_go_together(two_components, acts):
    early = two_components.early
    with pytest.raises(StudyError, match="detection needs single prompts"):
        plane(two_components, collected(two_components, per_prompt=False))
    with pytest.raises(AxisError, match=r"at resid_pre do not go with .* at attn_out"):
        plane(two_components, collected(two_components, site="attn_out"))
    with pytest.raises(AxisError, match="directions of width 16"):
        plane(two_components, acts, wb.Directions(torch.ones(1, 1, 1, 16), ("early",), (3,), (-1,)))
    with pytest.raises(AxisError, match="layer 3, position -1 was not collected"):
        plane(two_components, collected(two_components, layers=[7]))
    with pytest.raises(AxisError, match="all of them are zero"):
        plane(two_components, acts, replace(early, values=0 * early.values))
    with pytest.raises(AxisError, match="expected one position"):
        plane(
            two_components, acts, wb.Directions(torch.ones(1, 1, 2, 32), ("early",), (3,), (-2, -1))
        )
    with pytest.raises(AxisError, match="two directions are named 'early'"):
        plane(two_components, acts, [early, early])
    with pytest.raises(StudyError, match="the category 'early' of direction 'early'"):
        plane(two_components, acts, own=None)
    with pytest.raises(AxisError, match=r"token ids must lie in 0\.\.263"):
        measure_concept(two_components.model, early, acts, refusal_tokens=[999], own=OWN)


def test_prompts_of_the_estimate_are_refused(two_components):
    harmful, harmless = (
        collected(two_components, each)
        for each in (two_components.harmful, two_components.harmless)
    )
    directions = wb.mean_difference(harmful, harmless, by="category").at(layer=[3, 7])
    with pytest.raises(StudyError, match="the prompts that the directions were estimated on"):
        plane(two_components, harmful, directions, own=None)


def test_pocket_twos_components_differ_in_words(organism):
    from workbench.models.organisms import organism_card, organism_path

    model, components = organism("pocket-two")
    carried = {
        each["name"]: each["categories"]
        for each in organism_card("pocket-two")["settings"]["components"]
    }
    planted = wb.Directions.load(organism_path("pocket-two") / "planted.safetensors")
    vectors = [planted.at(name=name, layer=each["layer"]) for name, each in components.items()]
    harmful, harmless = (wb.load_prompts(label).sample(80) for label in ("harmful", "harmless"))
    acts = wb.collect_activations(model, harmful + harmless, positions=[-1], per_prompt=True)
    tokens = wb.find_refusal_tokens(model, harmful, harmless)
    found = measure_concept(model, vectors, acts, refusal_tokens=tokens, own=carried)
    layer = {name: each["layer"] for name, each in components.items()}
    first, second = sorted(carried, key=lambda name: layer[name])
    words = {name: float(found["words"].sel(name=name, layer=layer[name])) for name in carried}
    assert words[second] > 2 * words[first]
    assert words[second] > found.attrs["random_words_high"]
    for name in carried:
        assert found["auc"].sel(name=name, layer=layer[name], contrast="all") > 0.9
