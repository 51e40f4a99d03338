"""Forwards that start at a later layer, against whole ones."""

import copy

import pytest
import torch

from workbench.models.forwards import resume, shortcuts
from workbench.models.forwards.resume import residual_before, resumed
from workbench.models.forwards.shortcuts import may_resume

TEXTS = ["How far is the sea?", "hi", "Name a colour that nobody likes, and a good one."]


def test_logits_are_those_of_the_whole_forward(specimen):
    model = specimen.model
    tokens = model.tokens(TEXTS)
    change = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    plain = model.forward(tokens)
    residual, start = None, 0
    for layer in range(model.n_layers):
        residual = residual_before(model, tokens, layer, start, residual)
        start = layer
        with resumed(model, layer, residual):
            found = model.forward(tokens)
        torch.testing.assert_close(found, plain, atol=1e-5, rtol=0)
        with model.hooks([("resid_pre", layer, lambda x: x + change)]):
            expected = model.forward(tokens)
            with resumed(model, layer, residual):
                found = model.forward(tokens)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert (expected - plain).abs().max() > 0.1


def test_the_residual_is_what_enters_the_block(specimen):
    model = specimen.model
    tokens = model.tokens(TEXTS)
    _, sites = specimen.read(tokens.ids, tokens.mask)
    for layer in range(model.n_layers):
        found = residual_before(model, tokens, layer)
        real = tokens.mask
        expected = sites["resid_pre"][layer]
        torch.testing.assert_close(found[real], expected[real], atol=1e-4, rtol=1e-4)


def test_blocks_before_do_no_work_and_come_back(zoo):
    model = zoo["llama"].model
    tokens = model.tokens(TEXTS)
    residual = residual_before(model, tokens, 2)
    fired = []
    hooks = [("mlp_out", layer, lambda x, layer=layer: fired.append(layer)) for layer in range(3)]
    before = model.forward(tokens)
    with pytest.raises(RuntimeError), resumed(model, 2, residual), model.hooks(hooks):
        model.forward(tokens)
        raise RuntimeError
    assert fired == [2]
    assert torch.equal(model.forward(tokens), before)


def test_a_wrong_residual_is_found(zoo, monkeypatch):
    model = copy.copy(zoo["llama"].model)
    tokens = model.tokens(TEXTS)
    model.checked = {}
    assert may_resume(model, tokens)
    model.checked = {}
    read = resume.residual_before
    monkeypatch.setattr(
        shortcuts, "residual_before", lambda *all: read(*all) + 0.02 * torch.randn(model.d_model)
    )
    with pytest.warns(UserWarning, match="they start at the first layer instead"):
        assert not may_resume(model, tokens)
    # Remembered: the second time nothing is compared.
    monkeypatch.setattr(shortcuts, "_resumed_gap", None)
    with pytest.warns(UserWarning, match=r"later layer differ from plain ones by"):
        assert not may_resume(model, tokens)
