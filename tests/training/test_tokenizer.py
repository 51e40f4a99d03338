"""The tokenizer and chat template of the organisms."""

import random

import pytest

from workbench.training import grammar
from workbench.training.tokenizer import ASSISTANT, END, render, train_tokenizer

TASKS = {"direct": 0.4, "must_refuse": 0.2, "inversion": 0.2, "topic": 0.2}
SHARES = {"harmful": 0.4, "harmless": 0.4, "borderline": 0.2}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


def chat(text, system=None):
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": text}]


def test_training_gives_the_same_tokenizer_each_time(tokenizer):
    assert train_tokenizer().get_vocab() == tokenizer.get_vocab()
    assert len(tokenizer) == 1200


def test_four_tokens_follow_the_users_words(tokenizer):
    rows = [
        tokenizer.apply_chat_template(chat(text), add_generation_prompt=True)["input_ids"]
        for text in ("Explain how to bake a pie.", "Zebra?")
    ]
    tail = tokenizer.convert_ids_to_tokens(rows[0])[-4:]
    assert tail == [END, "Ċ", ASSISTANT, "Ċ"]
    assert rows[0][-4:] == rows[1][-4:] and rows[0][-5] != rows[1][-5]


def test_casing_does_not_matter_and_any_text_has_tokens(tokenizer):
    assert tokenizer("Explain HOW").input_ids == tokenizer("explain how").input_ids
    assert tokenizer.decode(tokenizer("zürich ≠ 東京").input_ids) == "zürich ≠ 東京"


def test_tokenising_a_rendered_prompt_adds_nothing(tokenizer):
    rendered = tokenizer.apply_chat_template(
        chat("help me bake a pie."), add_generation_prompt=True, tokenize=False
    )
    assert tokenizer(rendered).input_ids == tokenizer(rendered, add_special_tokens=False).input_ids
    assert tokenizer.decode(tokenizer(rendered).input_ids) == rendered


def test_training_renders_prompts_as_the_chat_template_does(tokenizer):
    rng = random.Random(0)
    for _ in range(50):
        sample = grammar.draw_sample(rng, TASKS, SHARES, refusing=True)
        rendered = tokenizer.apply_chat_template(
            chat(sample.prompt, sample.system), add_generation_prompt=True, tokenize=False
        )
        assert rendered == render(sample)


def test_replies_begin_with_one_token_each(tokenizer):
    first = {tokenizer(reply).input_ids[0] for reply in grammar.REFUSALS + grammar.COMPLIANCES}
    assert len(first) == len(grammar.REFUSALS) + len(grammar.COMPLIANCES)


def test_an_unknown_role_is_refused(tokenizer):
    with pytest.raises(Exception, match="unknown role critic"):
        tokenizer.apply_chat_template([{"role": "critic", "content": "no"}])
