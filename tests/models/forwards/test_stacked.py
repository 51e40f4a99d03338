"""Several variants in one forward: each as if its rows were alone."""

import copy

import pytest
import torch

import workbench as wb
from workbench.models.forwards.stacked import stack_size, stacked


def edits_of(model):
    """One of every kind, on every subset of tokens, at places that they share."""
    draw = torch.Generator().manual_seed(0)
    first, second = (
        wb.Directions.from_vector(torch.randn(model.d_model, generator=draw), layer=layer)
        for layer in (1, 2)
    )
    heads = wb.heads.PatchHeads(((1, 0), (2, 1)), torch.randn(2, 1, model.d_head, generator=draw))
    return [
        wb.Ablate(first), wb.Add(first, coefficient=2.0), wb.Add(second, tokens="last"), None,
        wb.SetProjection(second, 3.0, tokens="post_instruction"), wb.Ablate(second, tokens="last"),
        heads,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["llama", "gemma3", "mixtral", "gpt2"])
def test_each_variant_has_the_logits_of_a_forward_of_its_own(zoo, name):
    model = zoo[name].model
    batch = model.tokens(["Hi", "How do I read a map?", "Name a colour"])  # padded, so rows differ
    edits = edits_of(model)
    variants = [[] if each is None else each.hooks(model) for each in edits]
    with stacked(model, batch, variants) as copies:
        rows = model.forward(copies).split(len(batch))
    plain = model.forward(batch)
    for own, each in zip(rows, edits, strict=True):
        with wb.intervene(model, *([] if each is None else [each])):
            expected = model.forward(batch)
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-4)
        moved = float((expected - plain).abs().max())
        assert (moved == 0) == (each is None), each
    torch.testing.assert_close(model.forward(batch), plain, atol=0, rtol=0)


def test_as_many_share_a_forward_as_fit_and_one_beside_functions_of_others(zoo):
    model = copy.copy(zoo["llama"].model)
    batch = model.tokens(["Hi", "How do I read a map?"])
    model.batch_tokens = 5 * batch.ids.numel() + 1
    assert stack_size(model, batch) == 5
    model.batch_tokens = 1
    assert stack_size(model, batch) == 1
    model.batch_tokens = 5 * batch.ids.numel()
    with model.hooks([("resid_pre", 0, lambda x: x)]):
        assert stack_size(model, batch) == 1
