"""Thinking blocks in text, in replies, and as part of a prompt."""

import pytest
import torch

from workbench.errors import AxisError, ModelError, PromptError
from workbench.models import generate as module
from workbench.models.loading.load import load_model
from workbench.models.thinking import answer_after_thinking, opened_block
from workbench.scores.refusal import find_refusal_tokens

TAGS = [
    ("<think>", "</think>"),
    ("<THINKING>", "</THINKING>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
    ("Here is my thought process:", "Here is my response:"),
]
ALWAYS = (
    "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>a:<think>\n{% endif %}"
)


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_the_answer_stands_after_the_last_closing_tag(opening, closing):
    thoughts = f"{opening}We weigh it.\nI cannot say."
    assert answer_after_thinking(f"{thoughts}{closing}\n\nTake flour.") == "\n\nTake flour."
    assert answer_after_thinking(thoughts) is None
    twice = f"{thoughts}{closing} first {opening}Again.{closing} second"
    if opening not in ("analysis", "Here is my thought process:"):
        assert answer_after_thinking(twice) == " second"
        assert answer_after_thinking(f"{thoughts}{closing}\n{opening}Once more") is None


def test_a_block_that_the_template_opened():
    assert answer_after_thinking("We weigh it.</think>Take flour.") == "Take flour."
    assert opened_block("<|im_end|>\nassistant\n<think>\n") == "<think>\n"
    assert opened_block("assistant<think>\n\n</think>\n\n") == ""
    assert opened_block("</think>assistant") == ""


def test_replies_that_do_not_think_are_left_alone():
    for reply in ("Take flour.", "", "Write <think> before your thoughts.", "analysis of bread"):
        assert answer_after_thinking(reply) == reply


def test_wrappers_around_an_answer_are_left_out():
    assert answer_after_thinking("<think>a</think>\n<answer>Take flour.</answer>") == "Take flour."


@pytest.fixture
def thinking(make_network, make_tokenizer, monkeypatch):
    """A model whose template and replies a test dictates."""

    def dictate(template, replies, **settings):
        tokenizer = make_tokenizer(template, **settings)
        model = load_model(make_network("llama"), tokenizer=tokenizer)
        asked = {}

        def generate_ids(model, tokens, **settings):
            rows = []
            for row in range(len(tokens)):
                text = tokenizer.decode(tokens.ids[row, tokens.mask[row]])
                reply = next(own for prompt, own in replies.items() if f">{prompt}<" in text)
                rows.append(tokenizer(reply, add_special_tokens=False)["input_ids"])
            asked.update(settings)
            width = min(max(map(len, rows)), settings["max_new_tokens"])
            return torch.tensor([(row + [0] * width)[:width] for row in rows])

        monkeypatch.setattr(module, "generate_ids", generate_ids)
        return model

    return dictate


def test_what_the_template_opened_stands_in_the_reply(thinking):
    model = thinking(ALWAYS, {"hi": "We weigh", "no": "It is bread.</think>\nSure.<|im_end|>"})
    assert model.tokens(["hi"]).opened == "<think>\n"
    assert model.generate(["hi", "no"], max_new_tokens=60) == [
        "<think>\nWe weigh",
        "<think>\nIt is bread.</think>\nSure.",
    ]


def test_special_tokens_that_mark_thinking_stay_in_the_reply(thinking, make_tokenizer):
    template = ALWAYS.replace("<think>\n", "")
    reply = "<think>It is bread.</think>Sure.<pad><|im_end|>"
    model = thinking(template, {"hi": reply}, specials=["<think>", "</think>"])
    assert model.generate(["hi"]) == ["<think>It is bread.</think>Sure."]
    channels = ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"]
    reply = (
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>No."
    )
    model = thinking(template, {"hi": reply + "<|im_end|>"}, specials=channels)
    assert model.generate(["hi"], max_new_tokens=200) == [reply]
    model = thinking(template, {"hi": "Sure.<|end|>"}, specials=["<|end|>"])
    assert model.generate(["hi"]) == ["Sure."]


THOUGHTS = {
    "hi": "We weigh.</think>\n\nSure.<|im_end|>",
    "no": "No.</think>\nI cannot.<|im_end|>",
    "hello": "Hm.</think>\nSure.<|im_end|>",
    "open": "We weigh and weigh and never end",
    "mute": "We weigh.</think>\n\n",
}


def test_prompts_go_on_with_the_models_own_thinking(thinking):
    model = thinking(ALWAYS, THOUGHTS)
    plain, tokens = model.tokens(["hi", "no"]), model.tokens(["hi", "no"], after="thinking")
    for row, thought in enumerate(["We weigh.</think>\n\n", "No.</think>\n"]):
        prompt = model.tokenizer.decode(plain.ids[row, plain.mask[row]])
        assert model.tokenizer.decode(tokens.ids[row, tokens.mask[row]]) == prompt + thought
        instruction = tokens.ids[row, tokens.subset("instruction")[row]]
        assert model.tokenizer.decode(instruction) == ["hi", "no"][row]
    scored = model.logits(["hi", "no"], after="thinking")
    assert torch.allclose(scored, model.logits(tokens))
    alone = model.logits(["no"], after="thinking")
    torch.testing.assert_close(scored[1:], alone, rtol=1e-4, atol=1e-4)
    found = find_refusal_tokens(model, words=["I", "Sorry"], after="thinking")
    assert found == tuple(model.tokenizer.convert_tokens_to_ids(["I", "S"]))


def test_names_of_positions_that_are_no_longer_true_are_refused(thinking):
    tokens = thinking(ALWAYS, THOUGHTS).tokens(["hi", "no"], after="thinking")
    for read in (
        lambda: tokens.post_instruction,
        lambda: tokens.subset("post_instruction"),
        lambda: tokens.t_inst,
    ):
        with pytest.raises(AxisError, match="go on with the model's own thinking"):
            read()
    assert tokens.subset("last").sum() == 2


@pytest.mark.parametrize(
    ("prompt", "width"), [("open", 30), ("mute", len("We weigh.</think>\n\n"))]
)
def test_thinking_that_does_not_end_is_named(thinking, prompt, width):
    model = thinking(ALWAYS, THOUGHTS)
    with pytest.raises(PromptError, match=rf"within {width} tokens for 1 of 2 prompts \(rows 1\)"):
        model.logits(["no", prompt], after="thinking", max_thinking_tokens=width)


def test_bad_places_to_score(thinking, unchecked):
    model = thinking(ALWAYS, THOUGHTS)
    with pytest.raises(ModelError, match="no place 'answer' to score: prompt, thinking"):
        model.tokens(["hi"], after="answer")
    with pytest.raises(ModelError, match="own thinking already"):
        model.tokens(model.tokens(["hi"], after="thinking"), after="thinking")
