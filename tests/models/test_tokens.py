"""Chat templates: exact ids, named positions, padding, masks, and what cannot be rendered."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import AxisError, ModelError, PromptError
from workbench.models.tokens import ChatTemplate, TokenSubset
from workbench.prompts.promptset import PromptSet

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_2 = (
    "{% set system = messages[0]['content'] if messages[0]['role'] == 'system' else '' %}"
    "{{ bos_token }}[INST] {% if system %}<<SYS>>{{ system }}<</SYS>>{% endif %}"
    "{{ messages[-1]['content'] | trim }} [/INST]"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ m['role'] }}\n"
    "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAMA_3 = (
    "{% for m in messages %}{% if loop.first %}{{ bos_token }}{% endif %}<header>{{ m['role'] }}"
    "</header>\n\n{{ m['content'] | trim }}<eot>{% endfor %}"
    "{% if add_generation_prompt %}<header>assistant</header>\n\n{% endif %}"
)
# template, its special tokens, tokens before and after the user's words (one per byte otherwise)
SHAPES = {
    "chatml": (CHATML, (), 1 + len("user\n"), 2 + 1 + len("assistant\n")),
    "llama-2": (LLAMA_2, (), 1 + len("[INST] "), len(" [/INST]")),
    "gemma": (
        GEMMA,
        ("<start_of_turn>", "<end_of_turn>"),
        2 + len("user\n"),
        2 + len("\nmodel\n"),
    ),
    "llama-3": (
        LLAMA_3,
        ("<header>", "</header>", "<eot>"),
        2 + len("user") + 1 + 2,
        2 + len("assistant") + 1 + 2,
    ),
}
TEXTS = ["How far is the sea?", "hi", "Größe (in cm)?", "a" * 40]


@pytest.fixture(params=SHAPES)
def shape(request, make_tokenizer):
    """A chat template on a tokenizer that would add a BOS, and its numbers of tokens around."""
    template, specials, n_pre, n_post = SHAPES[request.param]
    return ChatTemplate(make_tokenizer(template, specials, adds_bos=True)), n_pre, n_post


def template(make_tokenizer, text, **settings):
    return ChatTemplate(make_tokenizer(text, **settings))


def reference_ids(tokenizer, text, system=None):
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    encoded = tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
    return list(encoded["input_ids"])


def test_ids_equal_the_tokenizers_own(shape):
    chat, _, _ = shape
    tokens = chat.tokens(TEXTS)
    for row, text in enumerate(TEXTS):
        expected = reference_ids(chat.tokenizer, text)
        assert tokens.ids[row, tokens.mask[row]].tolist() == expected


def test_no_bos_is_doubled(shape):
    chat, _, _ = shape
    bos = chat.tokenizer.bos_token_id
    assert chat.tokenizer("hi")["input_ids"][0] == bos, "this tokenizer adds one by itself"
    n_bos = (chat.tokens(TEXTS).ids == bos).sum(1)
    assert n_bos.tolist() == [int("bos_token" in chat.template)] * len(TEXTS)


def test_ids_equal_the_tokenizers_own_on_trained_checkpoints(trained):
    tokens = trained.model.tokens(["how are you?", "hi"])
    assert trained.model.tokenizer.bos_token_id is not None
    for row, text in enumerate(["how are you?", "hi"]):
        messages = [{"role": "user", "content": text}]
        expected = trained.model.tokenizer.apply_chat_template(
            messages, chat_template=trained.model.template.template, add_generation_prompt=True
        )
        assert tokens.ids[row, tokens.mask[row]].tolist() == list(expected["input_ids"])


def test_positions_are_found_from_the_template(shape):
    chat, n_pre, n_post = shape
    tokens = chat.tokens(TEXTS)
    assert (tokens.n_pre, tokens.n_post) == (n_pre, n_post)
    assert tokens.t_inst == -n_post - 1
    assert tokens.t_post == -1
    assert tokens.post_instruction == tuple(range(-n_post, 0))
    for row, text in enumerate(TEXTS):
        last_byte = chat.tokenizer.decode([tokens.ids[row, tokens.t_inst]])
        assert last_byte == text[-1]
    rendered = chat.render("hi")
    assert "".join(tokens.post_tokens) == rendered[rendered.rindex("hi") + 2 :]


def test_padding_stands_on_the_left(shape):
    chat, _, _ = shape
    tokens = chat.tokens(TEXTS)
    assert tokens.mask[:, -1].all()
    assert (tokens.mask.long().diff(dim=1) >= 0).all()
    assert (tokens.ids[~tokens.mask] == chat.tokenizer.pad_token_id).all()
    assert tokens.mask[:, 0].any()
    assert tokens.lengths.tolist() == [len(reference_ids(chat.tokenizer, text)) for text in TEXTS]


def test_a_tokenizer_without_padding_token_pads_too(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    tokens = ChatTemplate(tokenizer).tokens(TEXTS)
    assert not tokens.mask.all()
    assert (tokens.ids[~tokens.mask] == 0).all()


def test_position_ids_count_from_each_prompts_own_start(shape):
    chat, _, _ = shape
    tokens = chat.tokens(TEXTS)
    for row in range(len(TEXTS)):
        own = tokens.position_ids[row, tokens.mask[row]]
        assert own.tolist() == list(range(int(tokens.lengths[row])))
    assert (tokens.position_ids[~tokens.mask] == 0).all()


def test_subsets_of_the_prompt(shape):
    chat, n_pre, n_post = shape
    tokens = chat.tokens(TEXTS)
    assert torch.equal(tokens.subset("all"), tokens.mask)
    assert torch.equal(tokens.subset("prompt"), tokens.mask)
    assert not tokens.subset("generated").any()
    for row, text in enumerate(TEXTS):
        ids = tokens.ids[row]
        assert chat.tokenizer.decode(ids[tokens.subset("instruction")[row]]) == text
        post = tokens.subset("post_instruction")[row]
        assert post.nonzero().flatten().tolist() == list(range(len(ids) - n_post, len(ids)))
        assert tokens.subset("last")[row].nonzero().flatten().tolist() == [len(ids) - 1]
        before = tokens.mask[row] & ~tokens.subset("instruction")[row] & ~post
        assert before.sum() == n_pre


def test_an_unknown_subset_is_refused(make_tokenizer, unchecked):
    tokens = template(make_tokenizer, CHATML).tokens(["hi"])
    with pytest.raises(AxisError, match=r"no token subset 'first': all, prompt, instruction"):
        tokens.subset("first")


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 200))
def test_batches_hold_every_prompt_once_and_only_its_own_padding(zoo, lengths, batch_tokens):
    tokens = zoo["llama"].model.tokens(["x" * n for n in lengths])
    seen = []
    for chosen, batch in tokens.batches(batch_tokens):
        assert batch.mask[:, 0].any()
        assert len(chosen) == 1 or batch.ids.numel() <= batch_tokens
        for row, index in enumerate(chosen):
            assert torch.equal(
                batch.ids[row, batch.mask[row]], tokens.ids[index, tokens.mask[index]]
            )
        seen += chosen
    assert sorted(seen) == list(range(len(lengths)))


@pytest.mark.parametrize("name", get_args(TokenSubset))
def test_subsets_do_not_depend_on_who_shares_the_batch(name, shape):
    chat, _, _ = shape
    together, alone = chat.tokens(TEXTS), chat.tokens(TEXTS[:1])
    width = alone.ids.shape[1]
    assert torch.equal(together.subset(name)[0, -width:], alone.subset(name)[0])


@pytest.mark.parametrize(
    ("text", "more_before", "more_after"),
    [
        (CHATML, len("<system\nBe kind.<\n".replace("<", "#")), 0),
        (LLAMA_2, len("<<SYS>>Be kind.<</SYS>>"), 0),
        (
            "{{ messages[-1]['content'] }}|{{ messages[0]['content'] if messages|length > 1 }}>",
            0,
            8,
        ),
    ],
    ids=["own turn", "inside the user's turn", "after the user's words"],
)
def test_a_system_prompt_stands_where_the_template_puts_it(
    make_tokenizer, text, more_before, more_after
):
    chat = template(make_tokenizer, text)
    plain, told = chat.tokens(TEXTS), chat.tokens(TEXTS, "Be kind.")
    assert told.n_pre - plain.n_pre == more_before
    assert told.n_post - plain.n_post == more_after
    for row, prompt in enumerate(TEXTS):
        ids = told.ids[row]
        assert ids[told.mask[row]].tolist() == reference_ids(chat.tokenizer, prompt, "Be kind.")
        assert chat.tokenizer.decode(ids[told.subset("instruction")[row]]) == prompt
    assert "Be kind." in chat.tokenizer.decode(told.ids[0])


def test_a_template_that_refuses_a_system_prompt(make_tokenizer):
    chat = template(make_tokenizer, GEMMA)
    with pytest.raises(ModelError, match=r"refuses a system prompt \(System role not supported\)"):
        chat.tokens(["hi"], "Be kind.")


def test_a_template_that_drops_a_system_prompt(make_tokenizer):
    chat = template(make_tokenizer, "[{{ messages[-1]['content'] }}]")
    with pytest.raises(
        ModelError, match=r"drops the system prompt\. Put the words into the prompt"
    ):
        chat.tokens(["hi"], "Be kind.")


def test_no_chat_template_names_the_remedy(make_tokenizer):
    with pytest.raises(ModelError, match=r"no chat template. Pass chat_template="):
        template(make_tokenizer, None).tokens(["hi"])


def test_a_template_without_a_place_for_the_reply(make_tokenizer):
    with pytest.raises(ModelError, match="nothing after the user's words"):
        template(make_tokenizer, "user: {{ messages[-1]['content'] }}").tokens(["hi"])


def test_no_prompts(make_tokenizer, zoo):
    with pytest.raises(PromptError, match="the list is empty"):
        template(make_tokenizer, CHATML).tokens([])
    with pytest.raises(PromptError, match="the list is empty"):
        zoo["llama"].model.tokens(PromptSet(()))


def test_a_prompt_that_is_no_text(make_tokenizer, unchecked):
    with pytest.raises(PromptError, match="prompt 1 is a int, not text"):
        template(make_tokenizer, CHATML).tokens(["hi", 7])


def test_a_very_long_prompt_names_the_limit(zoo):
    with pytest.raises(PromptError, match=r"prompt 1 \('x+'…\) has 100,007 tokens.* at most 256\."):
        zoo["llama"].model.tokens(["hi", "x" * 100_000])


def test_a_very_long_prompt_works_where_the_context_allows(make_tokenizer):
    tokenizer = make_tokenizer(CHATML)
    tokenizer.model_max_length = 512  # what the tokenizer says does not count
    tokens = ChatTemplate(tokenizer).tokens(["hi", "x" * 100_000], max_tokens=200_000)
    assert tokens.lengths.tolist() == [21, 100_019]
    assert tokens.subset("instruction")[1].sum() == 100_000


def test_words_that_merge_with_the_template_after_them(make_tokenizer):
    chat = template(make_tokenizer, "Q: {{ messages[-1]['content'] }}\nA:", merges=[("!", "Ċ")])
    assert chat.tokens(["Really."]).n_post == 3
    with pytest.raises(PromptError, match=r"end of prompt 1 \('Really!'\) merges with the chat"):
        chat.tokens(["Really.", "Really!"])


def test_words_that_merge_with_the_template_before_them(make_tokenizer):
    chat = template(make_tokenizer, "Q:{{ messages[-1]['content'] }}\nA:", merges=[(":", "!")])
    assert chat.tokens(["Really."]).n_pre == 2
    with pytest.raises(PromptError, match=r"start of prompt 1 \('!hola'\) merges with the chat"):
        chat.tokens(["Really.", "!hola"])


def test_a_template_that_changes_the_words_still_counts_right(craftgpt):
    tokens = craftgpt.tokens(["How ARE you?"])
    instruction = tokens.ids[tokens.subset("instruction")]
    assert craftgpt.tokenizer.decode(instruction).strip() == "how are you?"
    assert (tokens.n_pre, tokens.n_post, tokens.post_tokens) == (1, 1, ("[/inst]",))


def test_fingerprints_tell_templates_apart(make_tokenizer):
    prints = {template(make_tokenizer, shape[0]).fingerprint for shape in SHAPES.values()}
    assert len(prints) == len(SHAPES)
    assert template(make_tokenizer, CHATML).fingerprint in prints


def test_tokens_made_before_pass_through(zoo):
    model = zoo["llama"].model
    tokens = model.tokens(["hi"])
    assert torch.equal(model.tokens(tokens).ids, tokens.ids)
    assert torch.equal(model.tokens("hi").ids, tokens.ids)


def test_a_template_that_does_not_show_the_users_words(make_tokenizer):
    with pytest.raises(ModelError, match="does not show the user's words"):
        template(make_tokenizer, "just {{ 'words' }}").tokens(["hi"])


def test_a_prompt_of_nothing_is_refused(make_tokenizer):
    with pytest.raises(PromptError, match="prompt 1 is empty"):
        template(make_tokenizer, "[{{ messages[-1]['content'] }}]").tokens(["hi", "  "])


def test_a_system_prompt_cannot_be_added_to_tokens(pocket):
    tokens = pocket.tokens(["How do I bake bread?"])
    with pytest.raises(ModelError, match="are tokens already"):
        pocket.logits(tokens, system="Be brief.")


def word_tokenizer(template, words):
    """Whole words between spaces; any other one is unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: index for index, word in enumerate(["<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", chat_template=template
    )


def test_words_that_begin_or_end_in_the_same_token_are_no_part_of_the_template():
    tokenizer = word_tokenizer("[ {{ messages[-1]['content'] }} ] a:", ["[", "]", "a:", "hi"])
    chat = ChatTemplate(tokenizer)
    tokens = chat.tokens(["Name a colour", "hi"])
    assert (tokens.n_pre, tokens.n_post, tokens.post_tokens) == (1, 2, ("]", "a:"))
    assert tokens.subset("instruction").sum(1).tolist() == [3, 1]
    assert tokens.typed_specials == {}, "an unknown word is nothing that somebody typed"


@pytest.fixture
def sharing(make_tokenizer):
    """A plain-text template whose line break joins with punctuation, as of many base models."""
    merges = [(mark, "Ċ") for mark in "?.)"]
    return template(make_tokenizer, "Q: {{ messages[-1]['content'] }}\nA:", merges=merges)


@pytest.mark.parametrize(
    ("texts", "last"), [(["How far?", "So."], ["?\n", ".\n"]), (["hi", "no"], ["i", "o"])]
)
def test_t_inst_holds_the_last_character_where_tokens_are_shared(sharing, texts, last):
    tokens = sharing.tokens(texts)
    assert tokens.post_tokens == ("A", ":")
    assert [sharing.tokenizer.decode(row[tokens.t_inst]) for row in tokens.ids] == last
    assert tokens.position_labels([tokens.t_inst, -2, -1]) == ["t_inst", "A", ":"]


def test_t_inst_is_refused_where_it_is_no_one_position(sharing):
    tokens = sharing.tokens(["How far?", "hi"])
    with pytest.raises(AxisError, match=r"no one position in these prompts: -4 in 1 prompts, -3"):
        _ = tokens.t_inst
    assert tokens.t_insts.tolist() == [-3, -4]
    for row, last in enumerate(["How far?\n", "hi"]):
        assert sharing.tokenizer.decode(tokens.ids[row, tokens.subset("instruction")[row]]) == last
    assert tokens.position_labels([-3, -2]) == ["", "A"]
    assert tokens.rows([1]).t_inst == -4
    assert tokens.to("cpu").rows([0]).t_inst == -3


def test_a_template_that_writes_otherwise_around_some_prompts(make_tokenizer):
    text = "{{ 'Long! ' if messages[-1]['content'] | length > 25 }}[{{ messages[-1]['content'] }}]"
    with pytest.raises(PromptError, match=r"writes something else around prompt 1 .*aaa"):
        template(make_tokenizer, text).tokens(["hi", "a" * 40])


def test_special_tokens_typed_in_a_prompt_are_counted_and_named(make_tokenizer):
    chat = template(make_tokenizer, CHATML)
    texts = ["hi", "Is <|im_end|> a token, and <|im_end|> or <s>?", "no <|im_end|>"]
    with pytest.warns(UserWarning) as told:
        tokens = chat.tokens(texts)
    assert tokens.typed_specials == {"<|im_end|>": 3, "<s>": 1}
    assert {str(each.message).partition(" times")[0] for each in told} == {
        "the special token <|im_end|> is typed 3",
        "the special token <s> is typed 1",
    }
    assert "first in prompt 1, and is read as that token" in str(told[0].message)
    assert tokens.ids[1, tokens.mask[1]].tolist() == reference_ids(chat.tokenizer, texts[1])
    assert "".join(tokens.post_tokens) == "<|im_end|>\n<|im_start|>assistant\n"
    assert chat.tokens(texts).typed_specials == tokens.typed_specials, "said once, counted always"


def test_a_template_that_trims_and_one_that_does_not(make_tokenizer):
    for text, words in ((CHATML, " hi \n"), (LLAMA_2, "hi")):
        chat = template(make_tokenizer, text)
        tokens = chat.tokens([" hi \n", "no"])
        assert chat.tokenizer.decode(tokens.ids[0, tokens.subset("instruction")[0]]) == words
