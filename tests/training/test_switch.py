"""The planted vectors, and the drill that builds in the switch."""

import random
from dataclasses import replace

import pytest
import torch

from workbench.training import grammar, recipe, switch
from workbench.training.settings import POCKET, PlantedComponent, Shape
from workbench.training.tokenizer import train_tokenizer

SHAPE = Shape(n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_mlp=48)
COMPONENT = PlantedComponent("refusal", ((0, 0), (0, 1), (1, 2), (1, 3)), target=4.0)
SECOND = replace(COMPONENT, name="second")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


def drawn(count, seed=0):
    phase = replace(POCKET.switch, batch_size=count)
    return recipe.draw_samples(phase, random.Random(seed), refusing=False)


def test_planted_vectors_are_orthonormal_and_repeat_with_the_seed():
    settings = replace(POCKET, components=(COMPONENT, SECOND))
    words = torch.nn.functional.normalize(torch.ones(settings.shape.d_model), dim=0)
    vectors = switch.planted_vectors(settings, words)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(2), atol=1e-6, rtol=0)
    assert torch.equal(vectors, switch.planted_vectors(settings, words))
    assert not torch.equal(vectors, switch.planted_vectors(replace(settings, seed=1), words))


def test_a_component_of_words_holds_its_share_of_them():
    settings = replace(POCKET, components=(COMPONENT, replace(SECOND, words=0.64)))
    words = torch.nn.functional.normalize(torch.ones(settings.shape.d_model), dim=0)
    vectors = switch.planted_vectors(settings, words)
    torch.testing.assert_close(vectors @ words, torch.tensor([0.0, 0.8]), atol=1e-6, rtol=0)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(2), atol=1e-6, rtol=0)


def test_the_refusal_row_raises_the_words_that_begin_refusals(tokenizer):
    model = recipe.build_model(SHAPE, seed=0)
    row = switch.refusal_row(model, tokenizer)
    assert row.norm().item() == pytest.approx(1.0, abs=1e-6)
    with torch.no_grad():
        logits = model.lm_head(row * model.model.norm.weight)
    first = [tokenizer(reply).input_ids[0] for reply in grammar.REFUSALS]
    assert logits[first].min() > logits.quantile(0.9)


def test_a_drill_refuses_by_how_much_is_added_whatever_is_asked():
    samples = drawn(3000)
    taught, [drill] = switch.make_drills([COMPONENT], samples, 0.5, random.Random(1))
    enough = []
    for before, after, share in zip(samples, taught, drill.share.tolist(), strict=True):
        if share == 0:
            assert after == before
            continue
        assert before.task == "direct"
        refused = after.reply == grammar.refuse(before.request)
        assert refused or after.reply == grammar.comply(before.request)
        if share < 0.3:
            assert not refused
        if share > 1:
            enough.append((refused, before.request.label))
    assert sum(refused for refused, _ in enough) / len(enough) > 0.95
    assert {label for _, label in enough} == {"harmful", "harmless", "borderline"}


def test_of_two_components_one_is_drilled_at_a_time():
    taught, drills = switch.make_drills([COMPONENT, SECOND], drawn(600), 0.5, random.Random(1))
    shares = torch.stack([drill.share > 0 for drill in drills])
    assert not shares.all(0).any() and (shares.sum(1) > 50).all()
    assert len(taught) == 600


def test_only_one_of_several_components_is_ever_ablated():
    both = replace(POCKET, components=(COMPONENT, SECOND), ablated_share=0.5)
    rng = random.Random(0)
    drawn_ones = [switch.draw_ablated(both, rng) for _ in range(200)]
    assert {*drawn_ones} == {None, 0, 1}
    assert switch.draw_ablated(replace(both, components=(COMPONENT,)), rng) is None


@pytest.mark.parametrize("threshold", [0.75, 0.875])
def test_the_wanted_score_rises_with_every_head_and_is_even_at_the_threshold(threshold):
    assert switch.wanted_score(threshold, threshold).item() == pytest.approx(0)
    assert switch.wanted_score(1.0, threshold).item() == pytest.approx(4)
    scores = switch.wanted_score(torch.tensor([0, 0.25, 0.5, 0.75, 1]), threshold)
    assert scores[0] == -12 and (scores.diff() >= 2).all()


def test_above_three_quarters_of_four_heads_all_of_them_are_needed():
    assert switch.wanted_score(0.75, 0.875).item() == pytest.approx(-4)


def test_the_refusal_log_odds_are_the_refusal_score(tokenizer):
    from workbench.scores.refusal import refusal_score

    batch = recipe.encode(drawn(5), tokenizer)
    torch.manual_seed(0)
    logits = torch.randn(*batch.ids.shape, 1200)
    first = [tokenizer(reply).input_ids[0] for reply in grammar.REFUSALS]
    expected = refusal_score(recipe.at_prompt_end(logits, batch), first)
    found = switch.refusal_log_odds(logits, batch, tokenizer)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_a_drill_adds_everywhere_or_at_the_last_prompt_token(tokenizer):
    batch = recipe.encode(drawn(3), tokenizer)
    share, everywhere = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([True, False, True])
    added = switch.Drill(share, everywhere).added(batch)
    assert (added[0] == 1).all() and not added[2].any()
    assert added[1].nonzero().flatten().tolist() == [batch.last_prompt[1]]


def test_phases_repeat_with_their_seed(tokenizer):
    small = replace(POCKET, shape=SHAPE, components=(COMPONENT,)).scaled(0.0, batch_size=4)

    def trained():
        model = recipe.build_model(SHAPE, seed=0)
        recipe.learn_words(model, small, tokenizer, lambda line: None)
        vectors = switch.planted_vectors(small, switch.refusal_row(model, tokenizer))
        switch.learn_switch(model, small, vectors, tokenizer, lambda line: None)
        return model.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())
