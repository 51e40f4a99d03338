"""The transfer matrix of a model whose two mechanisms are known, its laws and its errors."""

import copy

import numpy as np
import pytest
import torch
import xarray as xr

import workbench as wb
import workbench.analysis.transfer.matrix as module
from workbench.analysis.transfer.controls import controls_like_longest
from workbench.analysis.transfer.matrix import measure_transfer
from workbench.artifact import load_dataset, save_dataset
from workbench.control_kinds import range_in_words
from workbench.errors import AxisError, StudyError
from workbench.scores.judges import judge_name
from workbench.statistics.intervals import binomial_interval, bootstrap_interval

EARLY, LATE = ["kites", "xylophones"], ["quilts", "zithers"]
OWN = {"early": EARLY, "late": LATE}


def measured(organism, directions=None, **settings):
    settings = {"judge": None, "refusal_tokens": organism.refusal_tokens, **settings}
    directions = [organism.early, organism.late] if directions is None else directions
    return measure_transfer(organism.model, directions, organism.harmful, **settings)


def spread_of(organism):
    """Prompts one by one, where the planted directions stand."""
    layers = sorted({organism.early.layers[0], organism.late.layers[0]})
    return [
        wb.collect_activations(
            organism.model, prompts, layers=layers, positions=[-1], per_prompt=True
        )
        for prompts in (organism.harmful, organism.harmless)
    ]


def by_category(organism, layer):
    """Mean differences by category at the last position."""
    acts = [
        wb.collect_activations(organism.model, prompts, layers=[layer], positions=[-1])
        for prompts in (organism.harmful, organism.harmless)
    ]
    return wb.mean_difference(*acts, by="category")


@pytest.fixture(scope="module")
def matrix(two_components):
    """The two planted directions, in windows of one layer; read-only."""
    return measured(two_components, own=OWN, harmless=two_components.harmless, windows=1)


def test_each_direction_undoes_its_own_categories_and_no_other(matrix):
    ablated = matrix.sel(mode="ablate")
    for name, own, other in (("early", EARLY, LATE), ("late", LATE, EARLY)):
        row = ablated.sel(name=name)
        assert (row["score"].sel(category=own) < -4).all()
        np.testing.assert_allclose(row["effect"].sel(category=other), 0, atol=1e-4)
        assert abs(row["effect"].sel(category="harmless")) < 1e-4
    assert (matrix["plain_score"].sel(category=EARLY + LATE) > 3).all()
    assert matrix["plain_score"].sel(category="harmless") < -5


def test_either_direction_suffices_on_harmless_prompts(matrix):
    added = matrix.sel(mode="add", category="harmless")
    assert (added["score"] > 3).all() and (added["effect"] > 9).all()


def test_the_two_layer_bands_and_nothing_else(matrix):
    bands = {"early": (EARLY, range(1, 5)), "late": (LATE, range(6, 8))}
    for name, (own, layers) in bands.items():
        effect = matrix["window_effect"].sel(name=name)
        inside = effect["window_first"].isin(list(layers))
        assert (effect.sel(category=own).where(inside, -99) < -8).all()
        assert (np.abs(effect.sel(category=own).where(~inside, 0)) < 0.5).all()
        rest = [category for category in matrix["category"].values if category not in own]
        assert (np.abs(effect.sel(category=rest)) < 0.5).all()


def test_planted_directions_make_two_blocks_of_categories(matrix):
    assert matrix["block"].sel(mode="ablate").values.tolist() == [1, 2]
    block = matrix["category_block"].sel(mode="ablate")
    assert dict(zip(block["category"].values, block.values.tolist(), strict=True)) == {
        **dict.fromkeys(EARLY, 1), **dict.fromkeys(LATE, 2), "harmless": 0
    }  # fmt: skip
    order = matrix["category_order"].sel(mode="ablate").values
    assert set(matrix["category"].values[order[:2]]) == set(EARLY)
    assert matrix["category"].values[order[-1]] == "harmless"
    assert "asymmetry" not in matrix


@pytest.mark.parametrize("layer", [3, 7])
def test_estimated_directions_recover_the_two_blocks(two_components, layer):
    found = measured(two_components, by_category(two_components, layer), modes=["ablate"])
    assert found["category"].values.tolist() == found["name"].values.tolist()
    block = found["block"].sel(mode="ablate")
    of = dict(zip(block["name"].values, block.values.tolist(), strict=True))
    assert of["kites"] == of["xylophones"] != of["quilts"] == of["zithers"]
    order = found["order"].values[0]
    np.testing.assert_array_equal(order, found["category_order"].values[0])
    assert [*block.values[order]] == [1, 1, 2, 2]
    # Both directions of a block do the same, so the matrix is symmetric.
    assert float(found["asymmetry"][0]) <= float(found["asymmetry_noise"][0]) < 0.1
    # In layer 3 the late mechanism has not spoken yet.
    late = found["effect"].sel(name=LATE, category=LATE)
    assert (late < -8).all() if layer == 7 else (np.abs(late) < 0.5).all()


def test_numbers_are_means_over_prompts_with_their_intervals(matrix, two_components):
    with wb.intervene(two_components.model, wb.Ablate(two_components.early)):
        logits = two_components.model.logits(two_components.harmful.where(category="kites"))
    scores = wb.refusal_score(logits, two_components.refusal_tokens).numpy()
    plain = two_components.model.logits(two_components.harmful.where(category="kites"))
    plain = wb.refusal_score(plain, two_components.refusal_tokens).numpy()
    cell = matrix.sel(name="early", category="kites", mode="ablate")
    mine = matrix["prompt_category"] == "kites"
    kept = matrix["score_by_prompt"].sel(name="early", mode="ablate")[mine]
    np.testing.assert_allclose(kept, scores, atol=1e-4)
    assert float(cell["score"]) == pytest.approx(scores.mean(), abs=1e-4)
    assert float(cell["effect"]) == pytest.approx((scores - plain).mean(), abs=1e-4)
    for name, values in (("score", scores), ("effect", scores - plain)):
        expected = bootstrap_interval(values)
        np.testing.assert_allclose(cell[f"{name}_interval"], expected, atol=1e-4)
    assert int(matrix["n"].sel(category="kites")) == 6
    assert matrix["plain_score"].sel(category="kites") == pytest.approx(plain.mean(), abs=1e-4)


def test_rates_count_what_the_judge_calls_refused(two_components, monkeypatch):
    said = {"S": "refused", "N": "refused", "Y": "complied"}
    monkeypatch.setattr(
        module,
        "judge_replies",
        lambda replies, judge, prompts=None: [said[each[0]] for each in replies],
    )
    found = measured(
        two_components, own=OWN, harmless=two_components.harmless, judge="rules", max_new_tokens=1
    )
    ablated = found["rate"].sel(mode="ablate")
    assert ablated.sel(name="early").values.tolist() == [0, 0, 1, 1, 0]
    assert ablated.sel(name="late").values.tolist() == [1, 1, 0, 0, 0]
    assert found["rate"].sel(mode="add", category="harmless").values.tolist() == [1, 1]
    assert found["plain_rate"].values.tolist() == [1, 1, 1, 1, 0]
    cell = found["rate_interval"].sel(name="late", mode="ablate", category="kites")
    assert cell.values == pytest.approx(binomial_interval(6, 6))
    assert found["refused_by_prompt"].sel(name="late", mode="ablate").sum() == 12
    assert found.attrs["judge"] == judge_name("rules")


def test_nobody_is_judged_unless_asked(matrix):
    assert not [name for name in matrix if "rate" in str(name) or "refused" in str(name)]


def test_scores_do_not_depend_on_the_batch(two_components, matrix):
    small = copy.copy(two_components)
    object.__setattr__(small, "model", copy.copy(two_components.model))
    small.model.batch_tokens = 120
    found = measured(small, own=OWN, harmless=two_components.harmless)
    for name in ("score_by_prompt", "plain_score_by_prompt"):
        np.testing.assert_allclose(found[name], matrix[name], atol=1e-4)


def test_a_window_over_all_layers_is_the_plain_ablation(two_components):
    found = measured(two_components, own=OWN, windows=8)
    assert found["window"].values.tolist() == ["0..7"]
    np.testing.assert_allclose(
        found["window_effect"].sel(window="0..7"), found["effect"].sel(mode="ablate"), atol=1e-5
    )
    named = measured(two_components, own=OWN, windows=[range(8), (5, 0)], modes=["ablate"])
    assert named["window"].values.tolist() == ["0..7", "0, 5"]
    assert named["window_last"].values.tolist() == [7, 5]
    np.testing.assert_allclose(
        named["window_score"].sel(window="0..7"), found["window_score"][..., 0], atol=1e-5
    )


def test_doing_nothing_has_no_effect(two_components):
    found = measured(two_components, own=OWN, strength=0.0, coefficient=0.0, windows=4)
    assert np.abs(found["effect"]).max() == 0
    assert np.abs(found["window_effect"]).max() == 0
    assert (found["block"] == 1).all() and (found["category_block"] == 1).all()


def test_the_result_is_saved_and_read_back(matrix, tmp_path):
    read = load_dataset(
        save_dataset(tmp_path / "transfer.safetensors", matrix, kind="transfer"), kind="transfer"
    )
    assert read.attrs == matrix.attrs
    assert read["effect"].equals(matrix["effect"])
    assert read["prompt_category"].values.tolist() == matrix["prompt_category"].values.tolist()


def test_directions_that_do_not_fit(two_components):
    early, model = two_components.early, two_components.model

    def vector(values, name="early"):
        return wb.Directions(values.view(1, 1, 1, -1), (name,), (3,), (-1,))

    with pytest.raises(AxisError, match="early at layer 3, position -1 is zero or not finite"):
        measured(two_components, vector(torch.zeros(32)), own=OWN)
    with pytest.raises(AxisError, match="a direction of width 16 does not fit"):
        measured(two_components, vector(torch.ones(16)), own=OWN)
    with pytest.raises(AxisError, match="two directions are named 'early'"):
        measured(two_components, [early, early], own=OWN)
    several = wb.Directions(torch.ones(1, 2, 1, model.d_model), ("early",), (2, 3), (-1,))
    with pytest.raises(AxisError, match=r"expected one layer and position .* Choose with \.at"):
        measured(two_components, several, own=OWN)
    with pytest.raises(AxisError, match="no directions"):
        measured(two_components, [])


def test_categories_that_no_prompt_has_and_judges_that_are_none(two_components):
    with pytest.raises(StudyError, match="the category 'early' of direction 'early': kites, qu"):
        measured(two_components)
    with pytest.raises(StudyError, match="category 'sails' of direction 'late'"):
        measured(two_components, own={"early": EARLY, "late": ["sails"]})
    with pytest.raises(StudyError, match="own= says nothing of direction 'late'"):
        measured(two_components, own={"early": EARLY})
    with pytest.raises(StudyError, match="are all labelled harmful"):
        measured(two_components, own=OWN, harmless=two_components.harmful)
    named = wb.PromptSet((wb.Prompt("h", "kkk", "harmful", "harmless"),), "named")
    with pytest.raises(StudyError, match="a category is named 'harmless'"):
        measure_transfer(
            two_components.model, two_components.early, named + two_components.harmful,
            harmless=two_components.harmless, own=OWN,
        )  # fmt: skip
    with pytest.raises(StudyError, match="no judge 'llm'"):
        measured(two_components, own=OWN, judge="llm")


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (0, r"no window of 0 layers in 8: expected 1\.\.8"),
        (9, "no window of 9 layers"),
        ([], "at least one layer each"),
        ([()], "at least one layer each"),
        ([(1, 2), (2, 1)], "each window once"),
        ([(1, 1)], r"a layer appears twice in the window \[1, 1\]"),
        ([(7, 8)], r"no layer 8 in .*: layers 0\.\.7"),
    ],
)
def test_windows_that_are_none(two_components, windows, message):
    with pytest.raises(AxisError, match=message):
        measured(two_components, own=OWN, windows=windows)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("modes", [(), ("ablate", "ablate"), ("remove",), "ablate"])
def test_modes_that_are_none(two_components, modes):
    said = "modes are 'ablate' and 'add', each at most once|modes must be a list of one of 'ablate'"
    with pytest.raises((AxisError, StudyError), match=said):
        measured(two_components, own=OWN, modes=modes)


def test_random_vectors_do_what_they_do_as_directions_and_set_the_range(two_components):
    settings = {"own": OWN, "harmless": two_components.harmless}
    found = measured(two_components, n_random=20, **settings)
    vectors = controls_like_longest([two_components.early, two_components.late], 20, 0)
    longest = max(two_components.early.norms.item(), two_components.late.norms.item())
    assert all(each.norms.item() == pytest.approx(longest) for each in vectors)
    itself = measured(
        two_components, vectors, own={each.names[0]: EARLY for each in vectors},
        harmless=two_components.harmless,
    )  # fmt: skip
    order = found["category"].values
    expected = itself["effect"].sel(category=order).values
    np.testing.assert_allclose(found["random_effect"].values, expected, atol=1e-4)
    low, high = found["random_effect"].min("control"), found["random_effect"].max("control")
    assert found["outside"].equals((found["effect"] < low) | (found["effect"] > high))
    for name, own in OWN.items():
        cells = found.sel(name=name, category=own, mode="ablate")
        assert cells["outside"].all() and np.allclose(cells["p_value"], 2 / 21)
    plain = measured(two_components, **settings)
    assert "outside" not in plain and plain["effect"].equals(found["effect"])


def test_directions_of_shuffled_labels_and_of_the_spread_stand_beside_random_ones(two_components):
    settings = {"own": OWN, "harmless": two_components.harmless, "n_random": 20}
    alone = measured(two_components, **settings)
    found = measured(two_components, activations=spread_of(two_components), **settings)
    kinds = found["control_kind"].values.tolist()
    assert kinds == [kind for kind in ("isotropic", "covariance", "permuted") for _ in range(20)]
    random = found["random_effect"]
    first = random.isel(control=slice(20))
    np.testing.assert_allclose(first, alone["random_effect"], atol=1e-4)
    outside = xr.ones_like(found["outside"])
    for kind in dict.fromkeys(kinds):
        own = random.isel(control=np.array(kinds) == kind)
        low, high = own.min("control"), own.max("control")
        outside &= (found["effect"] < low) | (found["effect"] > high)
    assert found["outside"].equals(outside)
    lines = range_in_words(found)
    assert f"{int(outside.sum())} of {outside.size} effects" in lines
    assert "20 controls of each of 3 kinds, at most" in lines


def test_shuffled_labels_are_of_as_few_prompts_as_the_smallest_estimate(two_components):
    harmful, harmless = spread_of(two_components)
    own = {"early": ["kites"], "late": LATE}
    found = measured(
        two_components, own=own, n_random=20, activations=[harmful, harmless], modes=["add"]
    )
    longest = two_components.early
    drawn = wb.selection.control_directions(
        longest, [harmful, harmless], kinds=["permuted"], n=20, n_shuffled=6
    )
    first = drawn.at(name="permuted 1")
    itself = measured(two_components, [first], own={"permuted 1": EARLY}, modes=["add"])
    expected = itself["effect"].sel(name="permuted 1", category=found["category"])
    np.testing.assert_allclose(
        found["random_effect"].sel(control="permuted 1"), expected, atol=1e-4
    )
    everything = wb.selection.control_directions(
        longest, [harmful, harmless], kinds=["permuted"], n=20
    )
    assert float(drawn.norms.mean()) > float(everything.norms.mean())


def test_activations_that_nothing_is_drawn_from_are_refused(two_components):
    with pytest.raises(StudyError, match="activations= are for controls: pass n_random=20 too"):
        measured(two_components, own=OWN, activations=spread_of(two_components))
    with pytest.raises(StudyError, match="labels are permuted between two, found 'harmful'"):
        measured(two_components, own=OWN, n_random=20, activations=spread_of(two_components)[0])


@pytest.mark.parametrize("n", [-1, 1, 19])
def test_too_few_random_vectors_are_refused(two_components, n):
    with pytest.raises(StudyError, match=f"n_random must be 0 or at least 20, found {n}: "):
        measured(two_components, own=OWN, n_random=n)
