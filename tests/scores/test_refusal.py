"""Refusal score and KL against the formula written out, and the tokens they are made of."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench.scores.refusal as module
from workbench.errors import AxisError, StudyError
from workbench.models.loading.load import load_model
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import judge
from workbench.scores.refusal import find_refusal_tokens, kl_divergence, refusal_score

PROMPTS = ["How far is the sea?", "hi", "Name a colour that nobody likes.", "42 plus 7", "ok"]
logit_rows = st.lists(st.floats(-30, 30), min_size=5, max_size=5)


def by_hand(row, ids, eps=1e-8):
    weights = [math.exp(x - max(row)) for x in row]
    p = sum(weights[i] for i in ids) / sum(weights)
    return math.log(p + eps) - math.log(1 - p + eps)


def kl_by_hand(row, other, eps=1e-6):
    def softmax(x):
        weights = [math.exp(v - max(x)) for v in x]
        return [w / sum(weights) for w in weights]

    pairs = zip(softmax(row), softmax(other), strict=True)
    return sum(p * (math.log(p + eps) - math.log(q + eps)) for p, q in pairs)


@given(logit_rows, st.sets(st.integers(0, 4), min_size=1, max_size=4))
def test_the_score_is_the_log_odds(row, ids):
    found = refusal_score(torch.tensor([row], dtype=torch.float64), sorted(ids))
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(by_hand(row, ids), abs=1e-6)


@given(logit_rows, st.floats(-50, 50))
def test_a_shift_of_all_logits_changes_nothing(row, shift):
    logits = torch.tensor([row], dtype=torch.float64)
    other = logits.flip(1)
    torch.testing.assert_close(refusal_score(logits + shift, [1]), refusal_score(logits, [1]))
    torch.testing.assert_close(
        kl_divergence(logits + shift, other - shift), kl_divergence(logits, other)
    )


def test_sign_and_bounds():
    logits = torch.tensor([[10.0, 0, 0], [-10.0, 0, 0], [200.0, 0, 0], [-200.0, 0, 0]])
    likely, unlikely, sure, never = refusal_score(logits, [0]).tolist()
    assert likely > 0 > unlikely
    # eps 1e-8 in both logs bounds the score.
    assert sure == pytest.approx(-math.log(1e-8), abs=1e-6)
    assert never == pytest.approx(math.log(1e-8), abs=1e-6)
    assert refusal_score(logits, [0], eps=1e-4)[2] == pytest.approx(-math.log(1e-4), abs=1e-3)


def test_half_precision_logits_are_scored_in_float64():
    row = [[0.1, 5.0, -3.0]]
    found = refusal_score(torch.tensor(row, dtype=torch.bfloat16), [1])
    exact = torch.tensor(row, dtype=torch.bfloat16).double()
    torch.testing.assert_close(found, refusal_score(exact, [1]))


def test_complementary_tokens_have_opposite_scores():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(refusal_score(logits, [0, 2]), -refusal_score(logits, [1, 3]))


@pytest.mark.parametrize("ids", [[], [4], [-1], [1, 1], [0, 2, 99]])
def test_tokens_that_cannot_be_scored(ids):
    with pytest.raises(AxisError, match=r"must be distinct ids in 0\.\.3, found \["):
        refusal_score(torch.zeros(2, 4), ids)


@given(logit_rows, logit_rows)
def test_kl_is_the_formula(row, other):
    found = kl_divergence(
        torch.tensor([row], dtype=torch.float64), torch.tensor([other], dtype=torch.float64)
    )
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(kl_by_hand(row, other), abs=1e-9)
    assert found.item() > -1e-4


def test_kl_of_equal_distributions_is_zero():
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    assert kl_divergence(logits, logits + 2).abs().max() < 1e-12


def test_kl_is_not_symmetric():
    plain, changed = torch.tensor([[3.0, 0, 0]]), torch.tensor([[0.0, 0, 0]])
    assert kl_divergence(plain, changed).item() == pytest.approx(
        kl_by_hand([3.0, 0, 0], [0.0, 0, 0]), abs=1e-9
    )
    assert abs(kl_divergence(plain, changed) - kl_divergence(changed, plain)) > 0.01


@settings(max_examples=15)
@given(
    order=st.permutations(range(len(PROMPTS))),
    batch_tokens=st.integers(1, 200),
    name=st.sampled_from(["llama", "gemma3", "gpt2", "gpt_neox"]),
)
def test_scores_do_not_depend_on_who_shares_the_batch(zoo, order, batch_tokens, name):
    model = copy.copy(zoo[name].model)
    alone = torch.cat([model.logits(prompt) for prompt in PROMPTS])
    ids = alone.topk(3).indices[:, 1].unique().tolist()
    model.batch_tokens = batch_tokens
    together = model.logits([PROMPTS[row] for row in order])
    for score in (
        lambda logits: refusal_score(logits, ids),
        lambda logits: kl_divergence(logits, logits.roll(1, dims=1)),
    ):
        expected = score(alone)[list(order)]
        torch.testing.assert_close(score(together), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def answering(zoo, monkeypatch):
    """A model whose replies and first-token probabilities a test dictates."""

    def dictate(refusing, replies):
        """First-token probabilities (id → p) of refusing and of other prompts, and verdicts."""
        model = copy.copy(zoo["llama"].model)
        answers, logits = iter(replies), iter(refusing)

        def generate(tokens, **settings):
            return [next(answers) for _ in range(len(tokens))]

        def last_logits(tokens):
            rows = torch.full((len(tokens), 264), 1e-9)
            for row in rows:
                for token, p in next(logits).items():
                    row[token] = p
            return rows.log()

        monkeypatch.setattr(model, "generate", generate, raising=False)
        monkeypatch.setattr(model, "logits", last_logits, raising=False)
        monkeypatch.setattr(module, "judge", lambda texts, prompts: list(texts))
        return model

    return dictate


def test_refusal_tokens_are_those_that_separate_refusals(answering):
    sorry, i, sure, the, rare = 10, 11, 12, 13, 15
    refusing = {i: 0.5, sorry: 0.3, the: 0.16, rare: 0.04}
    other = {sure: 0.8, the: 0.16, 14: 0.04}
    model = answering([refusing] * 2 + [other] * 2, ["refused"] * 2 + ["complied"] * 2)
    # `the` begins as many other replies, and `rare` too few of the refusals.
    assert find_refusal_tokens(model, PROMPTS[:2], PROMPTS[2:4]) == (i, sorry)


def test_what_a_reply_says_counts_and_not_the_set_it_comes_from(answering):
    rows = [{10: 1.0}, {12: 1.0}, {12: 1.0}, {10: 1.0}]
    model = answering(rows, ["refused", "complied", "complied", "refused"])
    assert find_refusal_tokens(model, PROMPTS[:2], PROMPTS[2:4]) == (10,)


@pytest.mark.parametrize("verdict", ["complied", "refused"])
def test_nothing_to_separate(answering, verdict):
    model = answering([{10: 1.0}] * 4, [verdict] * 4)
    n = 4 if verdict == "refused" else 0
    told = rf"refused {n} of 4 prompts.* It said: '{verdict}'; '{verdict}'\. Pass words="
    with pytest.raises(StudyError, match=told):
        find_refusal_tokens(model, PROMPTS[:2], PROMPTS[2:4])


def test_no_token_that_separates(answering):
    model = answering([{10: 1.0}] * 4, ["refused", "refused", "complied", "complied"])
    with pytest.raises(StudyError, match="no first token separates the refusals of"):
        find_refusal_tokens(model, PROMPTS[:2], PROMPTS[2:4])


def test_long_sets_are_sampled(answering, zoo):
    sets = [
        PromptSet.from_texts([f"{word} {n}" for n in range(9)], label, name=label)
        for word, label in (("do", "harmful"), ("ask", "harmless"))
    ]
    rows = [{10: 1.0}] * 3 + [{12: 1.0}] * 3
    model = answering(rows, ["refused"] * 3 + ["complied"] * 3)
    assert find_refusal_tokens(model, *sets, n_prompts=3) == (10,)


def sentencepiece(template):
    """A space before every text, and spaces that belong to words."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(33, 127)]
    entries = ["<unk>", "<s>", "</s>", "\n", "▁", "▁I", *letters, *["▁" + each for each in letters]]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[("▁", "I")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        chat_template=template,
    )


USER = "{{ messages[-1]['content'] }}"


@pytest.mark.parametrize(
    ("kind", "end", "expected"),
    [
        ("sentencepiece", "\nAssistant:\n", ["I"]),
        ("sentencepiece", " [/INST]", ["▁I", "I"]),
        ("sentencepiece", " [/INST] ", ["I"]),
        ("bytes", "\nAssistant:", ["ĠI", "I"]),
        ("bytes", "\nAssistant: ", ["I"]),
        ("bytes", "\nassistant<|im_end|>\n\n", ["I"]),
    ],
)
def test_words_are_the_tokens_with_which_a_reply_begins(
    make_network, make_tokenizer, kind, end, expected
):
    template = USER + end.replace("\n", "{{ '\\n' }}")
    if kind == "bytes":
        tokenizer = make_tokenizer(template, merges=[("Ġ", "I")])
    else:
        tokenizer = sentencepiece(template)
    model = load_model(make_network("llama"), tokenizer=tokenizer)
    assert model.template.render("hi") == f"hi{end}"
    found = find_refusal_tokens(model, words=["I", "In spite"])
    assert tokenizer.convert_ids_to_tokens(list(found)) == expected


def test_words_are_taken_as_they_begin_a_reply(zoo, craftgpt):
    model = zoo["llama"].model
    # Its prompts end in "a:" and its vocabulary has bytes: a space is a token of its own.
    with pytest.warns(UserWarning, match="begins with a token of white space alone"):
        ids = find_refusal_tokens(model, words=["I", "As", "Indeed"])
    assert ids == tuple(model.tokenizer.convert_tokens_to_ids(["Ġ", "I", "A"]))
    found = find_refusal_tokens(craftgpt, words=["sorry", "no"])
    assert [craftgpt.tokenizer.decode([token]).strip() for token in found] == ["sorry", "no"]


def test_replies_that_are_cut_off_inside_their_thinking_are_named(answering, monkeypatch):
    model = answering([{10: 1.0}] * 4, ["<think>Hm"] * 4)
    monkeypatch.setattr(module, "judge", judge)
    with pytest.raises(StudyError, match=r"refused 0 of 4.* 4 replies are cut off inside their"):
        find_refusal_tokens(model, PROMPTS[:2], PROMPTS[2:4])


def test_words_that_are_none(zoo):
    model = zoo["llama"].model
    with pytest.raises(StudyError, match="words= is empty"):
        find_refusal_tokens(model, words=[])
    with pytest.raises(StudyError, match="'' has no token in the vocabulary of"):
        find_refusal_tokens(model, words=[""])
