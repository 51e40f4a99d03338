"""Batches, and the hooks that add to the stream and take out of it."""

import random
from dataclasses import replace

import pytest
import torch

from workbench.training import recipe
from workbench.training.settings import POCKET, Shape
from workbench.training.tokenizer import train_tokenizer

SHAPE = Shape(n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_mlp=48)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


def drawn(count, seed=0):
    phase = replace(POCKET.switch, batch_size=count)
    return recipe.draw_samples(phase, random.Random(seed), refusing=False)


def test_targets_stand_on_replies_only(tokenizer):
    batch = recipe.encode(drawn(8), tokenizer)
    for ids, targets, last in zip(batch.ids, batch.targets, batch.last_prompt, strict=True):
        assert (targets[: last + 1] == -100).all()
        reply = targets[targets != -100]
        assert reply[-1] == tokenizer.eos_token_id
        assert torch.equal(reply, ids[last + 1 : last + 1 + len(reply)])


def test_ablating_leaves_no_projection_and_is_undone(tokenizer):
    model = recipe.build_model(SHAPE, seed=0)
    batch = recipe.encode(drawn(2), tokenizer)
    unit = torch.nn.functional.normalize(torch.ones(SHAPE.d_model), dim=0)

    seen = []
    for part in (*model.model.layers, model.model.norm):
        part.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def largest_projection():
        seen.clear()
        with torch.no_grad():
            model(input_ids=batch.ids)
        return max((state @ unit).abs().max().item() for state in seen)

    assert largest_projection() > 1e-2
    with recipe.ablating(model, unit):
        assert largest_projection() < 1e-5
    assert largest_projection() > 1e-2


def test_adding_reaches_the_next_layer_and_is_undone(tokenizer):
    model = recipe.build_model(SHAPE, seed=0)
    batch = recipe.encode(drawn(2), tokenizer)
    vector = torch.ones(*batch.ids.shape, SHAPE.d_model)

    seen = []
    model.model.layers[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def second_layer_input():
        with torch.no_grad():
            model(input_ids=batch.ids)
        return seen[-1]

    plain = second_layer_input()
    with recipe.adding(model, [(0, vector)]):
        torch.testing.assert_close(second_layer_input(), plain + vector)
    assert torch.equal(second_layer_input(), plain)
