import dataclasses
import re

import pytest

from workbench.errors import PromptError
from workbench.prompts.prompt import Prompt, listed, proper_text, whole_number


def test_a_prompt_is_stripped_and_frozen():
    prompt = Prompt(" a ", "\n Bake bread. \t", "harmless", " cooking ")
    assert prompt == Prompt("a", "Bake bread.", "harmless", "cooking")
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompt.text = "other"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("text", ["a\x00b", "\u200b", "שלום", "a\u2028b", "👩‍👩‍👧", "x" * 10**6])
def test_odd_text_is_kept_as_it_is(text):
    assert Prompt("a", text, "harmless").text == text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("a", "", "harmful"), "the text of prompt 'a' is empty."),
        (("a", " \n ", "harmful"), "the text of prompt 'a' is empty."),
        (("a", "x\ud800", "harmful"), "not valid Unicode: a lone surrogate at character 2."),
        (("", "x", "harmful"), "a prompt's id is empty."),
        (("a", "x", "harmful", ""), "the category of prompt 'a' is empty."),
        (("a", "x", "bad"), "has the label 'bad'. Expected harmful, harmless, borderline."),
    ],
)
def test_what_is_not_a_prompt_is_refused(fields, message):
    with pytest.raises(PromptError, match=message):
        Prompt(*fields)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "the text is missing."),
        (float("nan"), "the text is nan (float), not text."),
        (b"x", "the text is b'x' (bytes), not text."),
        (["x" * 10**5], "(list), not text."),
    ],
)
def test_what_is_not_text_is_refused_in_few_words(value, message):
    with pytest.raises(PromptError, match=re.escape(message)) as caught:
        proper_text("the text", value)
    assert len(str(caught.value)) < 200


def test_values_are_listed_in_order_and_not_without_end():
    assert listed({"b", "a"}) == "a, b"
    assert listed(["b", "a"]) == "b, a"
    assert listed([str(n) for n in range(60)]).endswith("49 and 10 more")


@pytest.mark.parametrize("value", [-1, 1.5, "3", None])
def test_whole_numbers_only(value):
    with pytest.raises(PromptError, match=f"n must be a whole number from 0 on, not {value!r}."):
        whole_number("n", value)
