"""What controls do: the same as one by one, moved as far as the direction, as a sweep has it."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analysis.selection.control_effects import (
    CONDITIONS,
    Edits,
    judge_controls,
    score_controls,
    sweep_controls,
)
from workbench.analysis.selection.edits import edited_logits, first_layer
from workbench.analysis.selection.effects import collect_completions

LAYER = 5


@pytest.fixture(scope="module")
def place(pocket):
    """Some prompts, their mean difference in the middle of pocket, and controls beside it."""
    sets = {kind: wb.load_prompts(kind).sample(10) for kind in ("harmful", "harmless")}
    acts = {
        kind: wb.collect_activations(
            pocket, own, layers=[3, LAYER], positions=[-1], per_prompt=True
        )
        for kind, own in sets.items()
    }
    directions = wb.mean_difference(acts["harmful"], acts["harmless"])
    controls = wb.selection.control_directions(
        directions, list(acts.values()), kinds=["isotropic", "covariance"], n=2
    )
    return sets, acts, directions, controls


@pytest.fixture(scope="module")
def measured(pocket, place):
    sets, acts, directions, controls = place
    direction = directions.at(layer=LAYER)
    projection = wb.mean_projection(direction, acts["harmful"])
    edits = Edits(pocket, direction, controls.at(layer=LAYER), sets, projection, None)
    refusal = wb.find_refusal_tokens(pocket, sets["harmful"], sets["harmless"])
    rows = {kind: pocket.tokens(own) for kind, own in sets.items()}
    return edits, refusal, score_controls(pocket, edits, sets, rows, refusal)


def test_scores_are_those_of_one_intervention_at_a_time(pocket, place, measured):
    sets, _, directions, controls = place
    _, refusal, found = measured
    assert found["control"].values.tolist() == list(controls.names)
    direction, control = directions.at(layer=LAYER), controls.at(layer=LAYER, name="covariance 2")
    for kind, prompts in sets.items():
        own = found["set_of_prompt"].values == kind
        for name, vector in ((None, direction), ("covariance 2", control)):
            for condition, edit in (("ablated", wb.Ablate(vector)), ("added", wb.Add(vector))):
                with wb.intervene(pocket, edit):
                    expected = wb.refusal_score(pocket.logits(prompts), refusal).numpy()
                which = "score_by_prompt" if name is None else "control_score_by_prompt"
                at = found[which].sel(condition=condition)
                at = at if name is None else at.sel(control=name)
                np.testing.assert_allclose(at.values[own], expected, atol=1e-3)
        plain = wb.refusal_score(pocket.logits(prompts), refusal).numpy()
        np.testing.assert_allclose(found["plain_by_prompt"].values[own], plain, atol=1e-3)


def test_the_direction_leaves_the_range_of_its_controls_and_a_control_does_not(
    pocket, place, measured
):
    sets, _, _, controls = place
    _, refusal, found = measured
    added = found.sel(prompt_set="harmless", condition="added")
    assert bool(added["outside"]) and float(added["p_value"]) == pytest.approx(2 / 3)
    # A third of it, or so, is what any vector of that length does.
    assert float(added["effect"]) > 2 * float(added["control_effect"].max()) > 2
    rows = {kind: pocket.tokens(own) for kind, own in sets.items()}
    of_control = Edits(
        pocket, controls.at(layer=LAYER, name="isotropic 1"), controls.at(layer=LAYER), sets, 1.0,
        None,
    )  # fmt: skip
    again = score_controls(pocket, of_control, sets, rows, refusal)
    assert not again["outside"].sel(condition=["ablated", "added"]).any()


def test_a_projection_is_set_so_that_prompts_move_as_far_as_along_the_direction(place, measured):
    _, acts, directions, _ = place
    edits, *_ = measured
    unit = directions.at(layer=LAYER).unit().vector.double()
    for kind, own in acts.items():
        mean = own.mean()[own.layers.index(LAYER), 0]
        gaps = [
            edit.value - float(mean @ edit.direction.unit().vector.double())
            for edit in (edits.of("projection set", kind, n) for n in (None, "isotropic 1"))
        ]
        assert gaps[0] == pytest.approx(edits.projection - float(mean @ unit), abs=1e-4)
        assert gaps[1] == pytest.approx(gaps[0], abs=1e-4)


def test_the_sweep_of_controls_is_that_of_sweep_directions(pocket, place, measured):
    sets, _, directions, controls = place
    _, refusal, _ = measured
    rows = [pocket.tokens(own) for own in sets.values()]
    found = sweep_controls(pocket, directions.at(layer=LAYER), controls, *rows, refusal)
    for name, values in ((None, directions), ("isotropic 1", controls.at(name="isotropic 1"))):
        expected = wb.sweep_directions(pocket, values, **sets, refusal_tokens=refusal)
        at = expected.sel(position=-1)
        for score in ("bypass", "kl", "induce"):
            own = found[score] if name is None else found[f"control_{score}"].sel(control=name)
            own = own.sel(layer=LAYER) if "layer" in own.dims else own
            assert float(own) == pytest.approx(float(at[score].sel(layer=LAYER)), abs=1e-3)
        if name is not None:
            both = found["control_induce"].sel(control=name)
            np.testing.assert_allclose(both.values, at["induce"].values, atol=1e-3)


def test_replies_are_judged_beside_the_directions_own_on_the_same_prompts(pocket, place, measured):
    sets, _, directions, _ = place
    edits, *_ = measured
    direction = directions.at(layer=LAYER)
    some = {kind: own.sample(5) for kind, own in sets.items()}
    few = {kind: own.sample(3) for kind, own in some.items()}
    replies = collect_completions(
        pocket, direction, some, projection=edits.projection, max_new_tokens=12
    )
    found = judge_controls(
        pocket, edits, few, replies, ["isotropic 1"], judge="rules", max_new_tokens=12,
        system=None,
    )  # fmt: skip
    assert found["control_rate"].shape == (2, len(CONDITIONS), 1)
    assert found["n_judged"].values.tolist() == [3, 3]
    added = found.sel(prompt_set="harmless", condition="added")
    assert float(added["judged_rate"]) == 1.0 and float(added["control_rate"].max()) == 0.0


def test_edits_are_read_as_by_whole_forwards_and_by_their_number(pocket, place):
    sets, _, directions, _ = place
    late, early = directions.at(layer=LAYER), directions.at(layer=3)
    edits = [
        wb.Add(late), None, wb.Ablate(late, layers=(6, 7)), wb.SetProjection(early, 2.0),
        wb.Ablate(early), wb.Add(late, layer=2),
    ]  # fmt: skip
    assert [first_layer(edit) for edit in edits] == [LAYER, 0, 6, 3, 0, 2]
    batch = pocket.tokens(sets["harmless"])
    found = dict(edited_logits(pocket, batch, edits, "reading"))
    assert list(found) == [1, 4, 5, 3, 0, 2]  # those that begin early come first
    for index, edit in enumerate(edits):
        with wb.intervene(pocket, *([] if edit is None else [edit])):
            expected = pocket.forward(batch)
        torch.testing.assert_close(found[index], expected, atol=1e-3, rtol=1e-3)
