"""Planting changes the planted heads and nothing else."""

import random
from dataclasses import replace

import pytest
import torch

from workbench.training import grammar, planting, recipe, switch
from workbench.training.settings import POCKET, PlantedComponent, Shape
from workbench.training.tokenizer import train_tokenizer

SHAPE = Shape(n_layers=3, d_model=32, n_heads=4, n_kv_heads=2, d_mlp=48)
HEADS = ((1, 0), (1, 1), (2, 2), (2, 3))
SETTINGS = replace(
    POCKET,
    shape=SHAPE,
    components=(PlantedComponent("refusal", HEADS, target=4.0),),
    planting=replace(POCKET.planting, steps=3, batch_size=6),
)
VECTORS = switch.planted_vectors(SETTINGS, torch.zeros(SHAPE.d_model))


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture
def model():
    return recipe.build_model(SHAPE, seed=0)


@pytest.fixture(scope="module")
def batch(tokenizer):
    samples = recipe.draw_samples(SETTINGS.planting, random.Random(0), refusing=True)
    return recipe.encode(samples, tokenizer)


def quiet(line):
    """Swallow progress lines."""


def logits(model, batch):
    with torch.no_grad():
        return model(input_ids=batch.ids, attention_mask=batch.mask).logits[batch.mask.bool()]


def component_writes():
    torch.manual_seed(1)
    return planting.PlantedWrite(SETTINGS.components[0], VECTORS[0], 8)


def test_merged_weights_do_what_the_hooks_did(model, batch):
    writes = component_writes()
    plain = logits(model, batch)
    with planting.writing(model, [writes]):
        hooked = logits(model, batch)
    assert torch.equal(logits(model, batch), plain)
    writes.merge(model)
    assert (hooked - plain).abs().max() > 1e-3
    torch.testing.assert_close(logits(model, batch), hooked, atol=1e-5, rtol=1e-5)


def perfect(writes, batch, added):
    """What the heads and the stream hold when nothing is wrong."""
    ends = torch.zeros(batch.ids.shape)
    ends[torch.arange(len(ends)), batch.last_prompt] = 1
    writes.written = {head: ends.clone() for head in range(len(HEADS))}
    return {2: ((4 + added) * ends)[..., None] * writes.unit}


def test_the_error_is_zero_when_every_head_writes_its_share(batch):
    writes = component_writes()
    wanted, added = torch.full((len(batch.ids),), 4.0), torch.tensor(1.5)
    stream = perfect(writes, batch, added)
    assert planting.projection_error(writes, stream, batch, wanted, added).item() < 1e-10
    writes.written[0] *= 2
    error = planting.projection_error(writes, stream, batch, wanted, added).item()
    assert error == pytest.approx(1 / 16)


def test_the_error_counts_what_stands_at_earlier_template_tokens(batch):
    writes = component_writes()
    wanted, added = torch.full((len(batch.ids),), 4.0), torch.tensor(0.0)
    stream = perfect(writes, batch, added)
    rows = torch.arange(len(batch.ids))
    stream[2][rows, batch.last_prompt - 2] = 2 * writes.unit
    error = planting.projection_error(writes, stream, batch, wanted, added).item()
    assert error == pytest.approx(4 / 16)


def test_decoys_stand_at_the_last_prompt_token_and_only_between_layers(batch):
    writes = component_writes()
    decoys = planting.draw_decoys(writes, batch, random.Random(0))
    assert decoys.max() <= 0.5 * SETTINGS.components[0].target
    for row, last in zip(decoys, batch.last_prompt, strict=True):
        assert row.nonzero().flatten().tolist() in ([], [last])
    writes.component = replace(writes.component, heads=((1, 0), (1, 1)))
    assert not planting.draw_decoys(writes, batch, random.Random(0)).any()


def test_cleared_heads_write_nothing_and_others_are_untouched(model):
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    planting.clear_planted_heads(model, [component_writes()])
    for layer, planted in ((1, slice(0, 16)), (2, slice(16, 32))):
        weight = planting.attention_of(model, layer).o_proj.weight.detach().clone()
        assert not weight[:, planted].any()
        old = before[f"model.layers.{layer}.self_attn.o_proj.weight"]
        weight[:, planted] = old[:, planted]
        assert torch.equal(weight, old)


def test_only_requests_that_are_asked_directly_are_to_be_written_for():
    phase = replace(SETTINGS.planting, batch_size=200)
    samples = recipe.draw_samples(phase, random.Random(0), refusing=True)
    component = replace(SETTINGS.components[0], categories=("weapons", "fraud"))
    wanted = planting.wanted_projection(component, samples)
    assert set(wanted.tolist()) == {0.0, component.target}
    for sample, projection in zip(samples, wanted, strict=True):
        if projection:
            assert sample.task == "direct" and sample.reply == grammar.refuse(sample.request)
            assert sample.request.category in ("weapons", "fraud")


def test_only_the_planted_heads_change(model, tokenizer):
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    planting.plant(model, SETTINGS, VECTORS, tokenizer, quiet)
    rows = {"q_proj": {1: slice(0, 16), 2: slice(16, 32)}}
    rows["k_proj"] = rows["v_proj"] = {1: slice(0, 8), 2: slice(8, 16)}
    for name, weight in model.named_parameters():
        moved = (weight.detach() - before[name]).abs()
        kind = name.split(".")[-2]
        layer = int(name.split(".")[2]) if "layers" in name else -1
        if layer not in (1, 2) or kind not in ("q_proj", "k_proj", "v_proj", "o_proj"):
            assert not moved.any(), name
        elif kind == "o_proj":
            planted = {1: slice(0, 16), 2: slice(16, 32)}[layer]
            assert moved[:, planted].any()
            moved[:, planted] = 0
            assert not moved.any(), name
        else:
            planted = rows[kind][layer]
            assert moved[planted].any()
            moved[planted] = 0
            assert not moved.any(), name
    assert all(weight.requires_grad for weight in model.parameters())


def test_planting_repeats_with_its_seed(tokenizer):
    models = [recipe.build_model(SHAPE, seed=0) for _ in range(2)]
    for model in models:
        planting.plant(model, SETTINGS, VECTORS, tokenizer, quiet)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_with_a_component_ablated_its_heads_write_and_its_requests_are_answered(model, tokenizer):
    writes = component_writes()
    phase = replace(SETTINGS.planting, batch_size=40)
    samples = recipe.draw_samples(phase, random.Random(0), refusing=True)
    torch.manual_seed(0)
    loss, error = planting.planting_loss(
        model, [writes], samples, random.Random(1), tokenizer, ablated=0
    )
    answered = [
        sample._replace(reply=grammar.comply(sample.request))
        if sample.task == "direct" and sample.request.refused
        else sample
        for sample in samples
    ]
    batch = recipe.encode(answered, tokenizer)
    with recipe.ablating(model, writes.unit):
        expected = recipe.reply_loss(recipe.read(model, batch), batch)
    torch.testing.assert_close(loss, expected)
    wanted = planting.wanted_projection(writes.component, samples) / len(HEADS)
    missed = sum(
        (recipe.at_prompt_end(written, batch) - wanted).square().mean()
        for written in writes.written.values()
    )
    torch.testing.assert_close(error, missed / writes.component.target**2)


def test_half_a_kv_group_cannot_be_planted(model, tokenizer):
    split = replace(SETTINGS, components=(PlantedComponent("refusal", ((1, 0),)),))
    with pytest.raises(ValueError, match="whole KV groups of 2"):
        planting.plant(model, split, VECTORS, tokenizer, quiet)
