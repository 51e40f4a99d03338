"""Packed forwards against plain ones with the same hooks, on every architecture of the zoo."""

import copy
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import workbench as wb
from workbench.errors import AxisError, ModelError
from workbench.models.forwards import packed, shortcuts
from workbench.models.forwards.packed import (
    ReadAt,
    check_last,
    chunk_size,
    packed_variants,
    plain_variants,
)
from workbench.models.forwards.shortcuts import chosen_method, run_variants

# Left-padded against each other, and longer than the sliding windows, which are 8 tokens.
TEXTS = ["How far is the sea?", "hi", "Name a colour that nobody likes, and a good one."]


def replacing(site, position, value, head=1):
    def hook(x):
        x = x.clone()
        if site == "z":
            x[:, position, head] = value
        else:
            x[:, position] = value
        return x

    return hook


def many_variants(model, n_last):
    """No change; every site of every layer at the first and the last token; and some joint ones."""
    draw = torch.Generator().manual_seed(n_last)
    variants = [[]]
    for layer in range(model.n_layers):
        for site in ("z", "attn_out", "mlp_out", "resid_pre"):
            for position in {-1, -n_last}:
                width = model.d_head if site == "z" else model.d_model
                value = torch.randn(width, generator=draw)
                variants.append([(site, layer, replacing(site, position, value))])
    variants.append([edit for edits in variants[1::3] for edit in edits])
    variants.append(variants[1] + variants[-2])
    return variants


def first_logits(rows):
    """Two numbers per row would be one too many, so a mixture of all logits."""
    weights = torch.linspace(-1, 1, rows.shape[-1])
    return rows @ weights


def mixed(variants):
    """The same of every variant, [variant prompt]."""
    return torch.stack([first_logits(rows) for rows in variants])


@pytest.mark.parametrize("n_last", [1, 3, 9])
def test_packed_logits_are_those_of_plain_forwards(specimen, n_last):
    model = specimen.model
    tokens = model.tokens(TEXTS)
    variants = many_variants(model, n_last)
    expected = mixed(plain_variants(model, tokens, variants))
    found = mixed(packed_variants(model, tokens, variants, n_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    change = (expected[1:] - expected[0]).abs().amax(1)
    assert (change > 1e-2).float().mean() > 0.5


def test_plain_forwards_are_hugging_faces_own(specimen):
    model, plain = specimen.model, specimen.plain
    tokens = model.tokens(TEXTS)
    value = torch.randn(model.d_head, generator=torch.Generator().manual_seed(0))

    def before(module, args):
        z = args[0].clone()
        z.unflatten(-1, (model.n_heads, model.d_head))[:, -1, 2] = value
        return (z, *args[1:])

    handle = specimen.part(1, "z").register_forward_pre_hook(before)
    try:
        with torch.no_grad():
            logits = plain(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                position_ids=tokens.position_ids,
            ).logits[:, -1]
    finally:
        handle.remove()
    edits = [("z", 1, replacing("z", -1, value, head=2))]
    found = mixed(packed_variants(model, tokens, [[], edits], 1))
    torch.testing.assert_close(found[1], first_logits(logits.float()), atol=1e-4, rtol=0)
    assert (found[1] - found[0]).abs().max() > 1e-2


def test_a_prompt_may_be_all_last_tokens(specimen):
    model = specimen.model
    tokens = model.tokens(["hi", "ho"])
    n_last = tokens.ids.shape[1]
    variants = many_variants(model, n_last)
    expected = mixed(plain_variants(model, tokens, variants))
    found = mixed(packed_variants(model, tokens, variants, n_last))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_a_place_is_read_instead_of_the_logits(zoo, name):
    model = zoo[name].model
    tokens = model.tokens(TEXTS)
    variants = many_variants(model, 3)
    for place in (ReadAt("resid_pre", 2, -2), ReadAt("z", 1, -1), ReadAt("mlp_out", 1, -3)):
        expected = mixed(plain_variants(model, tokens, variants, place))
        found = mixed(packed_variants(model, tokens, variants, 3, place))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert (expected - expected[0]).abs().max() > 1e-2


def test_results_do_not_depend_on_chunks(zoo):
    model = copy.copy(zoo["gemma2"].model)
    tokens = model.tokens(TEXTS)
    variants = many_variants(model, 2)
    expected = mixed(packed_variants(model, tokens, variants, 2))
    model.batch_tokens = 3 * 2 * 5
    assert chunk_size(model, tokens, 2) == 5
    found = mixed(packed_variants(model, tokens, variants, 2))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_chunks_stay_within_tokens_scores_and_logits(zoo):
    model = copy.copy(zoo["llama"].model)
    tokens = model.tokens(["x" * 200] * 2)
    width = tokens.ids.shape[1]
    model.batch_tokens = 2**20
    queries = chunk_size(model, tokens, 4, logits=False) * 4
    allowed = model.batch_tokens * packed._SCORES_WIDTH
    assert 2 * queries * (width - 4 + queries) <= allowed
    assert 2 * (queries + 4) * (width + queries) > allowed
    model.batch_tokens = 600
    assert chunk_size(model, tokens, 4, logits=False) * 4 * 2 <= 600
    assert chunk_size(model, tokens, 4) >= 1
    model.batch_tokens = 1
    assert chunk_size(model, tokens, 4) == 1


def test_active_interventions_act_on_every_variant(zoo):
    model = zoo["llama"].model
    tokens = model.tokens(TEXTS)
    variants = many_variants(model, 3)[::5]
    draw = torch.Generator().manual_seed(0)
    r = wb.Directions(torch.randn(1, 1, 1, model.d_model, generator=draw), ("r",), (1,), (-1,))
    plain = mixed(plain_variants(model, tokens, variants))
    for subset in ("last", "post_instruction", "instruction"):
        with wb.intervene(model, wb.Add(r, coefficient=3.0, tokens=subset)):
            expected = mixed(plain_variants(model, tokens, variants))
            found = mixed(packed_variants(model, tokens, variants, 3))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert (expected - plain).abs().max() > 1e-2


def test_interventions_are_variants(zoo):
    model = zoo["qwen3"].model
    tokens = model.tokens(TEXTS)
    draw = torch.Generator().manual_seed(0)
    r = wb.Directions(torch.randn(1, 1, 1, model.d_model, generator=draw), ("r",), (1,), (-1,))
    edits = [
        wb.Ablate(r, tokens="post_instruction"),
        wb.Add(r, tokens="last"),
        wb.SetProjection(r, 2.0, tokens="post_instruction"),
        wb.heads.PatchHeads(((0, 1), (2, 3)), torch.ones(2, 1, model.d_head), (-2,)),
    ]
    variants = [edit.hooks(model) for edit in edits]
    expected = mixed(plain_variants(model, tokens, variants))
    found = mixed(packed_variants(model, tokens, variants, tokens.n_post))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (expected - first_logits(model.forward(tokens))).abs().amax(1).min() > 1e-3


@pytest.fixture
def unseen(zoo):
    """Models of the zoo on which no shortcut was checked yet."""

    def make(name):
        model = copy.copy(zoo[name].model)
        model.checked = {}
        return model

    return make


def blocks_see_each_other(masks):
    def sight(tokens, n_variants, n_last):
        sees, distance = masks(tokens, n_variants, n_last)
        return sees | (distance >= 0), distance

    return sight


def padding_is_seen(masks):
    def sight(tokens, n_variants, n_last):
        sees, distance = masks(tokens, n_variants, n_last)
        sees[..., : tokens.ids.shape[1] - n_last] = True
        return sees, distance

    return sight


def window_is_one_too_wide(masks):
    def sight(tokens, n_variants, n_last):
        sees, distance = masks(tokens, n_variants, n_last)
        return sees, distance - 1

    return sight


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("llama", blocks_see_each_other),
        ("llama", padding_is_seen),
        ("gpt2", padding_is_seen),
        ("gemma3", blocks_see_each_other),
        ("gemma3", window_is_one_too_wide),
    ],
)
def test_a_wrong_mask_is_found_and_the_plain_path_taken(unseen, monkeypatch, name, fault):
    model = unseen(name)
    n_last = 3
    tokens = model.tokens(TEXTS)
    variants = many_variants(model, n_last)
    expected = mixed(plain_variants(model, tokens, variants))
    monkeypatch.setattr(packed, "_sight", fault(packed._sight))
    with pytest.warns(UserWarning, match=r"differ from plain ones by .* each variant gets a full"):
        found = mixed(run_variants(model, tokens, variants, n_last))
    assert torch.equal(found, expected)
    with pytest.raises(ModelError, match=r"differ from plain ones .* Pass method='plain'"):
        mixed(run_variants(model, tokens, variants, n_last, method="packed"))


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("prefix", lambda cache: [layer.values.add_(0.05) for layer in cache.layers]),
        ("keys", lambda cache: [layer.keys.mul_(1.02) for layer in cache.layers]),
    ],
)
def test_a_wrong_prefix_is_found(unseen, monkeypatch, what, fault):
    model = unseen("olmo2")
    prefix = packed._prefix

    def spoilt(*arguments):
        cache = prefix(*arguments)
        fault(cache)
        return cache

    monkeypatch.setattr(packed, "_prefix", spoilt)
    with pytest.warns(UserWarning, match="differ from plain ones"):
        assert chosen_method(model, model.tokens(TEXTS), 1) == "plain"


def test_a_model_that_objects_gets_the_plain_path(unseen, monkeypatch):
    model = unseen("llama")
    config = SimpleNamespace(layer_types=["linear_attention"] * 3)
    monkeypatch.setattr(packed, "text_config", lambda model: config)
    tokens = model.tokens(TEXTS)
    with pytest.warns(UserWarning, match=r"fail \(ModelError: layers of kind 'linear_attention'"):
        found = mixed(run_variants(model, tokens, [[]], 1))
    assert torch.equal(found[0], first_logits(model.forward(tokens)))


def test_a_model_is_checked_once_for_each_kind_of_block(unseen, monkeypatch):
    model = unseen("gemma2")
    asked = []
    gap = shortcuts._packed_gap
    monkeypatch.setattr(
        shortcuts, "_packed_gap", lambda *all: (asked.append(all[1:]), gap(*all))[1]
    )
    long, short = model.tokens(TEXTS), model.tokens(["a"])
    assert short.ids.shape[1] == 8  # as long as the window, so nothing falls out of it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n_last in (1, 1, 3, 4):
            assert chosen_method(model, long, n_last) == "packed"
    assert [n_last for _, n_last in asked] == [1, 3]
    # The longest and the shortest prompt: padding is part of what is compared.
    assert {len(tokens) for tokens, _ in asked} == {2}
    assert not asked[0][0].mask.all()
    assert chosen_method(model, short, 1) == "packed"
    assert chosen_method(model, long, 1, "plain") == "plain"
    assert len(asked) == 3


def test_padding_is_compared_where_it_first_comes(unseen, monkeypatch):
    model = unseen("llama")
    tokens = model.tokens(["alike", "as it"])
    assert tokens.mask.all()
    monkeypatch.setattr(packed, "_sight", padding_is_seen(packed._sight))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen_method(model, tokens, 1) == "packed"  # nothing here could show the fault
    with pytest.warns(UserWarning, match="differ from plain ones"):
        assert chosen_method(model, model.tokens(TEXTS), 1) == "plain"


def test_resuming_is_compared_again_with_padding(unseen, monkeypatch):
    model = unseen("llama")
    asked = []
    monkeypatch.setattr(
        shortcuts, "_resumed_gap", lambda model, rows, n: (asked.append(rows.mask.all()), 0.0)[1]
    )
    for texts in (["alike", "as it"], ["alike"], TEXTS, TEXTS[:2]):
        assert shortcuts.may_resume(model, model.tokens(texts))
    assert [bool(each) for each in asked] == [True, False]


def test_padding_that_all_prompts_have_is_kept_in_the_comparison(unseen, monkeypatch):
    model = unseen("llama")
    tokens = model.tokens(["alike", "as it", "a much longer one"])
    part = replace(tokens, ids=tokens.ids[:2], mask=tokens.mask[:2])
    asked = []
    monkeypatch.setattr(shortcuts, "_packed_gap", lambda *all: (asked.append(all[1]), 0.0)[1])
    chosen_method(model, part, 1)
    assert not asked[0].mask.all()


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("")])
def test_an_objection_needs_no_message(unseen, monkeypatch, error):
    model = unseen("llama")

    def objects(*all):
        raise error

    monkeypatch.setattr(shortcuts, "_packed_gap", objects)
    with pytest.warns(UserWarning, match=rf"fail \({type(error).__name__}: no message\)"):
        assert chosen_method(model, model.tokens(TEXTS), 1) == "plain"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_running_out_of_memory_is_not_remembered(unseen, monkeypatch, error):
    model = unseen("llama")
    gap = shortcuts._packed_gap

    def too_large(model, *all):
        if model.batch_tokens > 100:
            raise error
        return gap(model, *all)

    monkeypatch.setattr(shortcuts, "_packed_gap", too_large)
    tokens = model.tokens(TEXTS)
    with pytest.warns(UserWarning, match=r"run out of memory; lower model\.batch_tokens"):
        assert chosen_method(model, tokens, 1) == "plain"
    model.batch_tokens = 100
    assert chosen_method(model, tokens, 1) == "packed"


def test_functions_that_index_positions_get_full_forwards(unseen):
    model = unseen("llama")
    tokens = model.tokens(TEXTS)
    variants = many_variants(model, 1)[:8]

    def louder(x):
        x = x.clone()
        x[:, -1] += 2
        return x

    without = mixed(run_variants(model, tokens, variants, 1))
    with model.hooks([("resid_pre", 1, louder)]):
        expected = mixed(plain_variants(model, tokens, variants))
        found = mixed(run_variants(model, tokens, variants, 1))
        with pytest.raises(ModelError, match=r"model\.hooks are active.*know_variants=True"):
            mixed(run_variants(model, tokens, variants, 1, method="packed"))
    assert torch.equal(found, expected)
    assert (found - without).abs().min() > 1e-3
    assert chosen_method(model, tokens, 1) == "packed" and model.n_raw_hooks == 0


def test_hooks_that_know_variants_stay_packed(unseen):
    model = unseen("llama")
    tokens = model.tokens(TEXTS)
    with model.hooks([("resid_pre", 1, lambda x: 2 * x)], know_variants=True):
        assert chosen_method(model, tokens, 1) == "packed"
    r = wb.Directions(torch.ones(1, 1, 1, model.d_model), ("r",), (1,), (-1,))
    with wb.intervene(model, wb.Ablate(r)):
        assert chosen_method(model, tokens, 1) == "packed"
    with pytest.raises(RuntimeError), model.hooks([("z", 0, lambda z: z)]):
        raise RuntimeError
    assert model.n_raw_hooks == 0


def test_what_cannot_be_packed(zoo):
    model = zoo["llama"].model
    tokens = model.tokens(TEXTS)
    shortest = int(tokens.lengths.min())
    for n_last in (0, shortest + 1):
        with pytest.raises(AxisError, match=rf"last {n_last} tokens .* expected 1\.\.{shortest}"):
            check_last(tokens, n_last)
    with pytest.raises(AxisError, match="last 99 tokens"):
        mixed(run_variants(model, tokens, [[]], 99, method="plain"))


def test_no_such_method(zoo, unchecked):
    model = zoo["llama"].model
    with pytest.raises(AxisError, match="no method 'fast': auto, packed, plain"):
        chosen_method(model, model.tokens(TEXTS), 1, "fast")


def test_the_model_stays_as_it_was(zoo):
    model = zoo["gemma2"].model
    before = model.logits(TEXTS)
    mixed(packed_variants(model, model.tokens(TEXTS), many_variants(model, 2), 2))
    assert torch.equal(model.logits(TEXTS), before)
    assert model.current is None
