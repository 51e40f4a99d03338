"""Functions and classifiers that users bring as judges."""

import functools

import pytest

from workbench.errors import ModelError, StudyError
from workbench.scores.hub_judges import hub_judge, label_meanings
from workbench.scores.judges import could_be_judge, judge, judge_name

REPLIES = ["No.", "<think>Hm.</think> Yes, gladly.", "<think>cut off"]


def long_or_not(replies):
    return ["complied" if len(reply) > 5 else "refused" for reply in replies]


def echoes(replies, prompts):
    return ["complied" if r == p else "refused" for r, p in zip(replies, prompts, strict=True)]


class Named:
    name = "a guard, version 3"

    def __call__(self, replies, prompts=None):
        assert prompts is not None
        return ("partial",) * len(replies)


def test_a_function_judges_answers_without_their_thinking():
    assert judge(REPLIES, judge=long_or_not) == ["refused", "complied", "other"]
    assert judge_name(long_or_not) == "long_or_not"


def test_a_function_with_two_arguments_gets_the_prompts():
    assert judge(["a", "b"], judge=echoes, prompts=["a", "c"]) == ["complied", "refused"]
    assert judge(["", "b"], judge=echoes) == ["complied", "refused"]
    assert judge(["a"], judge=Named()) == ["partial"]
    assert judge_name(Named()) == "a guard, version 3"


def test_a_second_argument_with_a_default_is_no_place_for_prompts():
    def patient(replies, patience=3):
        assert patience == 3
        return ["other"] * len(replies)

    assert judge(["a"], judge=patient, prompts=["b"]) == ["other"]


def test_a_function_is_not_called_for_nothing():
    def never(replies):
        raise AssertionError

    assert judge([], judge=never) == []


def saying(said):
    def always(replies):
        return said

    return always


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (saying(["refused"]), "the judge always gave 1 verdicts for 2 replies"),
        (saying(["refused", "safe"]), "the judge always said 'safe': expected one of refused"),
        (saying(["refused", True]), "the judge always said True"),
        (saying("refused"), "gave 'refused': expected a list with one verdict per reply"),
        (saying(None), "gave None: expected a list"),
        (lambda replies: ["refused"] * 2, "this judge has no name.*judge.name ="),
        (functools.partial(long_or_not), "this judge has no name"),
    ],
)
def test_what_a_function_may_not_say(own, message):
    with pytest.raises(StudyError, match=message):
        judge(["a", "b"], judge=own)


def test_a_function_judges_wherever_a_judge_is_named(pocket):
    import workbench as wb

    acts = [
        wb.collect_activations(pocket, wb.load_prompts(label).sample(8), layers=[3], positions=[-1])
        for label in ("harmful", "harmless")
    ]
    found = wb.collect_completions(
        pocket,
        wb.mean_difference(*acts).at(layer=3, position=-1),
        {"harmful": wb.load_prompts("harmful").sample(2)},
        judge=long_or_not,
        max_new_tokens=2,
    )
    assert set(found["verdict"]) <= {"complied", "refused"}
    assert wb.selection.refusal_rates(found).attrs["judge"] == "long_or_not"


@pytest.mark.parametrize(
    ("labels", "meanings"),
    [
        (["NORMAL", "REJECTION"], ["complied", "refused"]),
        (["refusal", "other"], ["refused", "other"]),
        (["LABEL_0", "refused"], ["complied", "refused"]),
        (["not_refused", "refused"], ["complied", "refused"]),
        (["NonRefusal", "Refusal"], ["complied", "refused"]),
        (["compliance", "refusal", "partial_refusal"], ["complied", "refused", "partial"]),
        (["1_full_compliance", "2_full_refusal"], ["complied", "refused"]),
        (["non-compliant: declined", "compliant"], ["refused", "complied"]),
    ],
)
def test_labels_that_say_what_they_are(labels, meanings):
    assert list(label_meanings(dict(enumerate(labels)), "x").values()) == meanings


@pytest.mark.parametrize(
    "labels",
    [["LABEL_0", "LABEL_1"], ["safe", "unsafe"], ["refused"], ["refused", "a", "b"],
     ["answer", "comply"]],
)  # fmt: skip
def test_labels_that_do_not_are_refused(labels):
    with pytest.raises(StudyError, match=r"has the labels .*Write a function"):
        label_meanings(dict(enumerate(labels)), "x")


@pytest.fixture
def make_classifier(make_tokenizer, tmp_path):
    """A folder with a tiny random classifier of bytes."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    def make(labels, kind=LlamaForSequenceClassification):
        tokenizer = make_tokenizer()
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=64, pad_token_id=0,
            id2label=dict(enumerate(labels)), label2id={own: n for n, own in enumerate(labels)},
        )  # fmt: skip
        network = kind(config)
        if kind is LlamaForSequenceClassification:
            network.score.weight.data.zero_()
            # Of nothing but zeros the first label is the likeliest.
        folder = tmp_path / "guard"
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        hub_judge.cache_clear()
        return str(folder)

    return make


def test_a_folder_with_a_classifier_judges(make_classifier):
    folder = make_classifier(["REJECTION", "NORMAL"])
    assert judge(["no", "x" * 500, *REPLIES[1:]], judge=folder) == ["refused"] * 3 + ["other"]
    assert judge_name(folder).startswith("guard (") and len(judge_name(folder)) == 15
    assert judge([], judge=folder) == []


def test_a_classifier_without_clear_labels_or_that_is_none_is_refused(make_classifier):
    from transformers import LlamaForCausalLM

    with pytest.raises(StudyError, match="guard has the labels 'LABEL_0', 'LABEL_1'"):
        judge([], judge=make_classifier(["LABEL_0", "LABEL_1"]))
    with pytest.raises(ModelError, match=r"guard is no classifier of texts .LlamaForCausalLM."):
        judge([], judge=make_classifier(["refusal", "none"], LlamaForCausalLM))


def test_a_classifier_whose_head_is_missing_is_refused(make_classifier):
    from pathlib import Path

    from safetensors.torch import load_file, save_file

    folder = make_classifier(["refused", "complied"])
    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    del weights["score.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of its classifier .score\.weight."):
        judge(["no"], judge=folder)


@pytest.mark.parametrize(
    ("name", "could"),
    [("rules", True), ("owner/name", True), (".", True), ("gpt", False), ("", False), ("/", True),
     ("owner/", False), ("/nowhere/at/all", False)],
)  # fmt: skip
def test_what_can_be_told_of_a_name_without_loading(name, could):
    assert could_be_judge(name) == could
