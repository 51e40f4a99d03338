"""A model that is not what Hugging Face computes is refused; of one that is, blocks are known."""

import os
import subprocess

import pytest
import torch
from architectures import HYBRID, MORE_WRITERS, random_network

import workbench as wb
from workbench.errors import AxisError, ModelError
from workbench.models import checks
from workbench.models.generate import generate_ids
from workbench.models.loading import boot

PROMPTS = ["How far is the sea?", "hi", "Name a colour that nobody likes."]
# Blocks that write by other ways than attention and MLP, or norm or scale the stream itself.
OTHERWISE = (*HYBRID, *MORE_WRITERS, "bloom_post_norm", "opt_post_norm")
UNKNOWN = "gemma3n"  # TransformerLens does not wrap its text model

WRONG = {
    "falcon_alibi": "first at z of layer 0",
    "falcon_alibi_parallel": "first at z of layer 0",
    "gpt2_unscaled": "first at z of layer 0",
    "openai_gpt": "resid_post at layer 0",
    "hrm_text": "without one stream through",
}


def load(name, make_tokenizer):
    return wb.load_model(random_network(name), tokenizer=make_tokenizer())


def some_direction(d_model, seed=1):
    vector = torch.randn(d_model, generator=torch.Generator().manual_seed(seed))
    return wb.Directions(
        values=vector[None, None, None],
        names=("r",),
        layers=(1,),
        positions=(-1,),
        site="resid_pre",
    )


def streams(model, tokens):
    """What enters each block and leaves the last, by hooks on the network's own modules."""
    found = []

    def keep(module, args, kwargs):
        found.append((args[0] if args else kwargs["hidden_states"]).detach())

    blocks = [block.original_component for block in model.bridge.blocks]
    handles = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in blocks]
    # The wrapper around the last block is the last that can change what it gives.
    handles.append(
        model.bridge.blocks[-1].register_forward_hook(
            lambda module, args, out: found.append(out[0] if isinstance(out, tuple) else out)
        )
    )
    try:
        model.forward(tokens)
    finally:
        for handle in handles:
            handle.remove()
    return [x[tokens.mask].float() for x in found]


@pytest.mark.parametrize("name", [name for name in OTHERWISE if name != UNKNOWN])
def test_nothing_is_left_along_an_ablated_direction_whatever_writes(name, make_tokenizer):
    model = load(name, make_tokenizer)
    direction = some_direction(model.d_model)
    unit = direction.unit().vector
    tokens = model.tokens(PROMPTS[:1] * 2)
    plain = [(x @ unit).abs().max() for x in streams(model, tokens)]
    with wb.intervene(model, wb.Ablate(direction)):
        left = [(x @ unit).abs().max() for x in streams(model, tokens)]
    assert len(left) == model.n_layers + 1
    assert max(left) < 1e-4 * max(plain)
    # And prompts do not depend on who shares the batch with them.
    alone = torch.cat([model.logits(prompt) for prompt in PROMPTS])
    torch.testing.assert_close(model.logits(PROMPTS), alone, rtol=1e-4, atol=1e-4 * alone.std())


@pytest.mark.parametrize("saved", [False, True], ids=["loaded", "folder"])
def test_alibi_that_is_counted_twice_is_refused(saved, make_tokenizer, tmp_path):
    network = random_network("falcon_alibi")
    if saved:
        network.save_pretrained(tmp_path)
        make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"logits are off by .* first at z of layer 0 .*4\.3"):
        wb.load_model(tmp_path) if saved else wb.load_model(network, tokenizer=make_tokenizer())


def test_a_network_that_was_refused_is_refused_again(make_tokenizer):
    network = random_network("falcon_alibi")
    for _ in range(2):
        with pytest.raises(ModelError, match="logits are off by"):
            wb.load_model(network, tokenizer=make_tokenizer())


def test_a_network_is_wrapped_twice_only_as_it_was(make_tokenizer):
    network = random_network("llama")
    first = wb.load_model(network, tokenizer=make_tokenizer())
    second = wb.load_model(network, tokenizer=make_tokenizer())
    assert second.reference is first.reference
    assert second.weights_fingerprint == first.weights_fingerprint
    with torch.no_grad():
        network.lm_head.weight.mul_(2)
    with pytest.raises(ModelError, match="wrapped already, and its weights have changed since"):
        wb.load_model(network, tokenizer=make_tokenizer())


def test_a_first_reply_under_a_hook_is_no_verdict_on_the_cache(make_tokenizer):
    model = load("llama", make_tokenizer)

    def push(x):
        x = x.clone()
        x[:, -1] += 5
        return x

    plain = model.generate("hello", max_new_tokens=4)
    with model.hooks([("resid_pre", 1, push)]):
        model.generate("hello", max_new_tokens=4)
    assert model.generate("hello", max_new_tokens=4) == plain


@pytest.mark.parametrize("name", WRONG)
def test_a_wrapper_that_computes_something_else_is_refused_with_the_place(name, make_tokenizer):
    with pytest.raises(ModelError, match=WRONG[name]):
        load(name, make_tokenizer)


def test_layers_without_attention_are_named(make_tokenizer):
    model = load("lfm2", make_tokenizer)
    assert model.layers_with("z") == model.layers_with("attn_out") == (1,)
    for site in ("attn_out", "z"):
        with pytest.raises(AxisError, match=r"layer 0 .*Lfm2DecoderLayer.* no .* with it: 1\."):
            wb.collect_activations(model, PROMPTS, site=site)
        acts = wb.collect_activations(model, PROMPTS, site=site, layers=model.layers_with(site))
        assert acts.layers == (1,)
    direction = some_direction(model.d_model)
    with pytest.raises(AxisError, match=r"no attn_out\. Layers with it: 1"):
        with wb.intervene(model, wb.Add(direction, layer=0, site="attn_out")):
            pass
    with pytest.raises(AxisError, match="no layer has heads"):
        _ = load("mamba", make_tokenizer).d_head


def test_heads_of_hybrids_are_patched_where_there_are_any(make_tokenizer):
    model = load("lfm2", make_tokenizer)
    with pytest.warns(UserWarning, match="packed forwards .* instead"):
        effects = wb.heads.patch_heads(model, PROMPTS[:1], PROMPTS[1:], refusal_tokens=[7])
    assert effects["layer"].values.tolist() == [1]
    assert abs(effects["effect"]).max() > 0


def test_widths_of_heads_may_differ_by_layer(make_tokenizer):
    model = load("gemma4", make_tokenizer)
    with pytest.raises(AxisError, match=r"no one width: 12 in layers \[0\]; 16 in layers \[1, 2\]"):
        wb.collect_activations(model, PROMPTS, site="z")
    assert wb.collect_activations(model, PROMPTS, site="z", layers=[1, 2]).values.shape[-1] == 64


def test_a_share_of_the_stream_is_not_ablated_where_parts_cannot_be_told(make_tokenizer):
    model = load("falcon_h1", make_tokenizer)
    with pytest.raises(ModelError, match=r"layers \[0, 1, 2\] .* strength must be 0 or 1"):
        with wb.intervene(model, wb.Ablate(some_direction(model.d_model), strength=0.5)):
            pass
    prompts = wb.PromptSet.from_texts(PROMPTS, "harmful")
    with pytest.raises(ModelError, match="does not add up"):
        wb.heads.direct_attribution(model, some_direction(model.d_model), prompts)


def test_a_stream_is_read_whole_where_layers_share_their_keys(make_tokenizer):
    """Asked for one position's logits by their count, such a network drops all other tokens."""
    model = load("gemma4_shared_kv", make_tokenizer)
    tokens = model.tokens(PROMPTS[:1])
    acts = wb.collect_activations(model, tokens, positions=[-5, -1], per_prompt=True)
    expected = [x[[-5, -1]] for x in streams(model, tokens)[:-1]]
    torch.testing.assert_close(acts.values[0], torch.stack(expected), rtol=1e-4, atol=1e-4)
    widths = []
    with model.hooks([("resid_pre", model.n_layers - 1, lambda x: widths.append(x.shape[1]))]):
        model.generate(tokens, max_new_tokens=2)
    assert widths[-2:] == [tokens.ids.shape[1], 1]


def test_where_padding_is_read_prompts_of_several_lengths_never_share_a_batch(make_tokenizer):
    model = load("recurrent_gemma", make_tokenizer)
    assert not model.pads
    tokens = model.tokens([*PROMPTS, "ho"])
    batches = model.batches(tokens)
    assert sorted(row for rows, _ in batches for row in rows) == [0, 1, 2, 3]
    assert all(batch.mask.all() for _, batch in batches)
    assert [rows for rows, _ in batches] == [[2], [0], [1, 3]]
    with pytest.raises(ModelError, match="reads padding as if it were text"):
        model.forward(tokens)
    replies = model.generate(tokens, max_new_tokens=3)
    assert replies == [model.generate(prompt, max_new_tokens=3)[0] for prompt in [*PROMPTS, "ho"]]


def test_generation_that_reads_padding_answers_prompts_of_one_length_at_a_time(
    make_network, make_tokenizer, monkeypatch
):
    """Forwards are told of positions; in generation a network sets them itself."""
    network = make_network("gpt2")
    prepare = network.prepare_inputs_for_generation

    def forgetful(*args, **kwargs):
        found = prepare(*args, **kwargs)
        ids = found["input_ids"]
        seen = kwargs.get("past_key_values")
        start = 0 if seen is None else seen.get_seq_length()
        positions = torch.arange(start, start + ids.shape[1])
        return found | {"position_ids": positions.expand(len(ids), -1)}

    monkeypatch.setattr(network, "prepare_inputs_for_generation", forgetful)
    model = wb.load_model(network, tokenizer=make_tokenizer())
    assert not model.checked["generation"] and model.pads and not model.generation_pads
    tokens = model.tokens([*PROMPTS, "ho"])
    assert len(model.batches(tokens)) == 1  # forwards are as good as any
    with pytest.raises(ModelError, match="reads padding as if it were text"):
        generate_ids(model, tokens, max_new_tokens=3)
    replies = model.generate(tokens, max_new_tokens=3)
    assert replies == [model.generate(prompt, max_new_tokens=3)[0] for prompt in [*PROMPTS, "ho"]]
    row = wb.verify_model(model).sel(check="padding")
    assert row["verdict"] == "slower" and "generation reads padding" in str(row["note"].values)


def test_weights_that_break_after_loading_give_no_empty_replies(make_tokenizer):
    model = load("llama", make_tokenizer)
    model.generate("hi", max_new_tokens=2)
    with torch.no_grad():
        model.network.model.norm.weight[0] = float("nan")
    for sampled in (False, True):
        with pytest.raises(ModelError, match="logits that are not finite"):
            model.generate(PROMPTS, max_new_tokens=3, do_sample=sampled)


def test_a_cache_that_is_dropped_is_no_fault_of_the_prompts(make_tokenizer, monkeypatch):
    attention = type(load("llama", make_tokenizer).bridge.blocks[0].attn)
    own = attention.forward

    def forgetful(self, *args, **kwargs):
        # What a wrapper does that does not know the name of the argument.
        return own(self, *args, **{**kwargs, "past_key_values": None})

    monkeypatch.setattr(attention, "forward", forgetful)
    model = load("llama", make_tokenizer)
    with pytest.raises(ModelError, match=r"cache is lost .* no fault of the prompts.*transformers"):
        model.generate(PROMPTS, max_new_tokens=3)


def test_weights_of_eight_bits_are_refused_with_a_way_out(make_tokenizer):
    network = random_network("llama")
    down = network.model.layers[1].mlp.down_proj
    down.weight = torch.nn.Parameter(down.weight.data.to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(ModelError, match=r"also without the workbench .*dtype='float32'"):
        wb.load_model(network, tokenizer=make_tokenizer())


@pytest.mark.parametrize("name", ["gemma3_images", "qwen2_5_vl", "llava_onevision"])
def test_nothing_is_started_to_load_a_model_that_also_reads_images(
    name, make_tokenizer, monkeypatch, tmp_path
):
    from transformer_lens.model_bridge.sources.transformers import source

    started = []

    def start(*args, **kwargs):
        started.append(args)
        raise OSError("no process may be started")

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    monkeypatch.setattr(os, "system", start)
    own = source.load_modality_processor
    network = random_network(name)
    network.save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    model = wb.load_model(tmp_path)
    assert model.logits(PROMPTS).isfinite().all()
    assert not started
    assert source.load_modality_processor is own, "the library is left as it was"


def test_the_plain_network_is_read_before_it_is_wrapped(make_tokenizer, monkeypatch):
    seen = []
    own = boot.boot

    def watching(name, before, **settings):
        def first(network):
            seen.append(any("Bridge" in type(part).__name__ for part in network.modules()))
            return before(network)

        return own(name, first, **settings)

    monkeypatch.setattr("workbench.models.loading.load.boot", watching)
    model = load("granite", make_tokenizer)
    assert seen == [False]
    gaps = checks.site_gaps(model)
    assert {site for site, _ in gaps} >= {"resid_pre", "z", "resid_post"}
    assert max(gaps.values()) < 1e-5
