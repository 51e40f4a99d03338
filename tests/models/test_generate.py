"""Replies: equal to Hugging Face's, in order, reproducible, whatever a checkpoint's habits."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import PromptError
from workbench.models.generate import generate_ids, stop_ids
from workbench.models.loading.load import load_model

PROMPTS = ["How far is the sea?", "hi", "Name a colour that nobody likes.", "42 plus 7"]


@pytest.fixture
def own(zoo, make_network, make_tokenizer):
    """A Llama whose settings a test may change."""
    return load_model(make_network("llama"), tokenizer=make_tokenizer())


def greedy(specimen, tokens, n_new, stops):
    """New tokens by argmax of plain forwards over the whole sequence, one prompt at a time."""
    replies = []
    for row in range(len(tokens)):
        ids = tokens.ids[row, tokens.mask[row]][None]
        prompt = ids.shape[1]
        while ids.shape[1] < prompt + n_new and (ids.shape[1] == prompt or ids[0, -1] not in stops):
            logits, _ = specimen.read(ids)
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        replies.append(ids[0, prompt:].tolist())
    return replies


def cut(ids, stops):
    """Each row up to its first stop token."""
    rows = []
    for row in ids.tolist():
        end = next((index + 1 for index, token in enumerate(row) if token in stops), len(row))
        rows.append(row[:end])
    return rows


def test_greedy_replies_equal_plain_forwards(specimen):
    tokens = specimen.model.tokens(PROMPTS)
    stops = stop_ids(specimen.model)
    ids = generate_ids(specimen.model, tokens, max_new_tokens=8)
    assert cut(ids, stops) == greedy(specimen, tokens, 8, stops)
    assert len({tuple(row) for row in ids.tolist()}) > 1, "prompts should be answered differently"


def test_greedy_replies_equal_hugging_faces_own_generation(specimen):
    tokens = specimen.model.tokens(PROMPTS)
    expected = specimen.plain.generate(
        input_ids=tokens.ids,
        attention_mask=tokens.mask.long(),
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
    )[:, tokens.ids.shape[1] :]
    assert torch.equal(generate_ids(specimen.model, tokens, max_new_tokens=8), expected)


def test_replies_of_a_trained_model_are_text(craftgpt):
    replies = craftgpt.generate(["how are you?", "tell me about cats"], max_new_tokens=12)
    assert all(reply and "[inst]" not in reply and reply == reply.strip() for reply in replies)
    assert replies[::-1] == craftgpt.generate(["tell me about cats", "how are you?"], 12)


def test_padding_is_told_apart_from_the_same_token_in_a_prompt(craftgpt):
    prompts = ["hi", "tell me about cats", "what is your favourite food to eat?"]
    tokens = craftgpt.tokens(prompts)
    assert tokens.ids[0, 0] == tokens.ids[-1, 0], "padding is this template's first token"
    alone = [craftgpt.generate(prompt, max_new_tokens=8)[0] for prompt in prompts]
    assert craftgpt.generate(prompts, max_new_tokens=8) == alone


@settings(max_examples=10)
@given(order=st.permutations(range(len(PROMPTS))), batch_tokens=st.integers(1, 800))
def test_replies_come_in_the_order_of_the_prompts(zoo, order, batch_tokens):
    model = copy.copy(zoo["llama"].model)
    alone = [model.generate(prompt, max_new_tokens=4)[0] for prompt in PROMPTS]
    model.batch_tokens = batch_tokens
    replies = model.generate([PROMPTS[index] for index in order], max_new_tokens=4)
    assert replies == [alone[index] for index in order]


def test_every_stop_token_ends_a_reply(own):
    tokens = own.tokens(PROMPTS)
    free = generate_ids(own, tokens, max_new_tokens=6)
    stops = {int(free[0, 2]), int(free[1, 3])}
    own.network.generation_config.eos_token_id = sorted(stops)
    assert set(stop_ids(own)) == stops | {own.tokenizer.eos_token_id}
    stopped = generate_ids(own, tokens, max_new_tokens=6)
    assert cut(stopped, stops) == cut(free, stops)
    assert len(cut(stopped, stops)[0]) <= 3
    after = stopped[0, len(cut(stopped, stops)[0]) :]
    assert (after == own.tokenizer.pad_token_id).all()


def test_stop_tokens_come_from_generation_config_config_and_tokenizer(own):
    own.network.generation_config.eos_token_id = [7, 9]
    own.network.config.eos_token_id = 11
    assert stop_ids(own) == sorted({7, 9, 11, own.tokenizer.eos_token_id})
    own.network.generation_config.eos_token_id = None
    own.network.config.eos_token_id = None
    assert stop_ids(own) == [own.tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "habit",
    [
        {"repetition_penalty": 5.0},
        {"no_repeat_ngram_size": 1},
        {"min_new_tokens": 8},
        {"max_length": 5},
        {"do_sample": True, "temperature": 9.0, "top_k": 2},
        {"num_beams": 3},
        {"bad_words_ids": [[token] for token in range(200)]},
        {"suppress_tokens": list(range(200))},
        {"use_cache": False},
        {"num_return_sequences": 2, "do_sample": True},
    ],
    ids=lambda habit: next(iter(habit)),
)
def test_a_checkpoints_own_generation_settings_do_not_count(own, habit):
    tokens = own.tokens(PROMPTS)
    plain = generate_ids(own, tokens, max_new_tokens=8)
    for name, value in habit.items():
        setattr(own.network.generation_config, name, value)
    before = own.network.generation_config.to_dict()
    assert torch.equal(generate_ids(own, tokens, max_new_tokens=8), plain)
    assert own.network.generation_config.to_dict() == before


def test_sampling_does_not_see_the_checkpoints_own_settings(own):
    plain = own.generate(PROMPTS, max_new_tokens=8, do_sample=True)
    own.network.generation_config.min_p = 0.9
    own.network.generation_config.top_k = 1
    own.network.generation_config.temperature = 0.01
    assert own.generate(PROMPTS, max_new_tokens=8, do_sample=True) == plain


def test_sampling_is_reproducible_and_leaves_the_global_generator_alone(zoo):
    model = zoo["llama"].model
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = model.generate(PROMPTS, max_new_tokens=8, do_sample=True, seed=5)
    assert torch.equal(torch.rand(2), expected)
    assert model.generate(PROMPTS, max_new_tokens=8, do_sample=True, seed=5) == first
    assert model.generate(PROMPTS, max_new_tokens=8, do_sample=True, seed=6) != first
    assert model.generate(PROMPTS, max_new_tokens=8) != first


def test_sampling_draws_anew_in_every_batch(zoo):
    model = copy.copy(zoo["llama"].model)
    model.batch_tokens = 1
    replies = model.generate(["hi"] * 4, max_new_tokens=8, do_sample=True)
    assert len(set(replies)) > 1


def test_sampling_follows_the_models_own_distribution(zoo):
    model = zoo["llama"].model
    tokens = model.tokens(["hi"] * 4000)
    temperature = 2.0
    p = torch.softmax(model.logits("hi")[0] / temperature, -1)
    drawn = generate_ids(model, tokens, max_new_tokens=1, do_sample=True, temperature=temperature)
    share = torch.bincount(drawn[:, 0], minlength=len(p)) / len(tokens)
    # Ten standard errors at the most frequent token; a top-k or top-p cut would show at once.
    assert (share - p).abs().max() < 0.08
    assert len(drawn.unique()) > 60


def test_cold_sampling_is_greedy(zoo):
    model = zoo["llama"].model
    cold = model.generate(PROMPTS, max_new_tokens=6, do_sample=True, temperature=1e-4)
    assert cold == model.generate(PROMPTS, max_new_tokens=6)


def test_a_reply_that_does_not_fit(zoo):
    model = zoo["gpt2"].model
    longest = int(model.tokens(PROMPTS).lengths.max())
    room = model.max_tokens - longest
    assert model.max_tokens == 256
    with pytest.raises(PromptError, match=rf"prompt of {longest} tokens and {room + 1} new ones"):
        model.generate(PROMPTS, max_new_tokens=room + 1)


def test_a_reply_that_just_fits(craftgpt):
    room = craftgpt.max_tokens - int(craftgpt.tokens(["hi"]).lengths.max())
    assert craftgpt.generate(["hi"], max_new_tokens=room)


def test_the_running_forward_is_forgotten_afterwards(zoo):
    model = zoo["llama"].model
    model.generate(PROMPTS, max_new_tokens=2)
    assert model.current is None
    assert not model.network._forward_pre_hooks
