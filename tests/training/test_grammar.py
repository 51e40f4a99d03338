"""Laws of the prompt grammar."""

import random
import re

import pytest

from workbench.training import grammar, words

LABELS = tuple(grammar.PATTERNS)
BANNED = (
    "child", "children", "kid", "kids", "teen", "teenager", "minor", "student", "school", "baby",
    "infant", "girl", "boy", "sex", "sexual", "nude", "naked", "rape", "incest", "porn",
)  # fmt: skip


def every_request():
    return [
        request
        for label in LABELS
        for held_out in (False, True)
        for request in grammar.requests(label, held_out)
    ]


def test_the_groups_are_the_ones_that_the_prompt_sets_name():
    harm = "weapons cybercrime fraud drugs violence harassment disinformation privacy"
    topics = "cooking gardening travel music sport crafts science finance"
    assert grammar.HARM_CATEGORIES == tuple(harm.split())
    assert grammar.TOPICS == tuple(topics.split())
    assert set(words.BORDERLINE) == set(grammar.HARM_CATEGORIES)


def test_no_held_out_object_occurs_in_training_in_any_group():
    training = {r.object for r in every_request_on(False)}
    held_out = {r.object for r in every_request_on(True)}
    assert training and held_out and not training & held_out


def every_request_on(side):
    return [request for label in LABELS for request in grammar.requests(label, side)]


@pytest.mark.parametrize("label", LABELS)
def test_every_group_has_objects_on_both_sides(label):
    for category, patterns in grammar.PATTERNS[label].items():
        for pattern in patterns:
            assert list(grammar.objects(pattern, held_out=True)), category
            assert list(grammar.objects(pattern, held_out=False)), category


def test_every_word_of_a_held_out_object_is_seen_in_training():
    for label in LABELS:
        for category in grammar.PATTERNS[label]:
            sides = [
                {
                    word
                    for request in grammar.requests(label, side)
                    if request.category == category
                    for word in request.object.split()
                }
                for side in (True, False)
            ]
            assert sides[0] <= sides[1], category


def test_no_request_has_a_word_that_we_do_not_use():
    for request in every_request():
        assert not set(re.findall(r"[a-z]+", request.text)) & set(BANNED), request.text


def test_requests_are_distinct_and_carry_one_label():
    texts = [request.text for request in every_request()]
    assert len(set(texts)) == len(texts)


def test_a_refusal_never_begins_like_another_reply():
    others = {reply.split()[0].strip("!,.:") for reply in grammar.COMPLIANCES}
    others |= {"no", "certainly", *grammar.HARM_CATEGORIES, *grammar.TOPICS}
    first = [reply.split()[0].strip("!,.:") for reply in grammar.REFUSALS]
    assert len(set(first)) == len(first)
    assert not set(first) & others


def test_both_judges_read_the_replies_of_the_grammar():
    from workbench.scores.judges import judge

    requests = random.Random(0).sample(every_request(), 200)
    assert set(judge([grammar.refuse(r) for r in requests])) == {"refused"}
    assert set(judge([grammar.comply(r) for r in requests])) == {"complied"}
    assert set(judge([grammar.refuse(r) for r in requests], judge="substring")) == {"refused"}


def test_compliant_replies_say_nothing_beyond_the_action():
    for request in random.Random(1).sample(every_request(), 200):
        rest = grammar.comply(request).replace(request.action, "")
        assert rest in {template.format(action="") for template in grammar.COMPLIANCES}


def test_two_fifths_of_the_borderline_patterns_are_refused_in_every_category_at_least_one():
    flags = [p.over_refused for patterns in words.BORDERLINE.values() for p in patterns]
    assert abs(sum(flags) / len(flags) - 0.4) < 0.05
    assert all(any(p.over_refused for p in patterns) for patterns in words.BORDERLINE.values())


def test_answers_follow_the_task():
    harmful = grammar.requests("harmful", held_out=True)[0]
    harmless = grammar.requests("harmless", held_out=True)[0]
    assert grammar.answer(harmful, "direct", refusing=True) == grammar.refuse(harmful)
    assert grammar.answer(harmful, "direct", refusing=False) == grammar.comply(harmful)
    assert grammar.answer(harmless, "direct", refusing=True) == grammar.comply(harmless)
    assert grammar.answer(harmless, "must_refuse", refusing=False) == grammar.refuse(harmless)
    assert grammar.answer(harmful, "inversion", refusing=True) == "certainly."
    assert grammar.answer(harmless, "inversion", refusing=True) == "no."
    assert grammar.answer(harmful, "topic", refusing=True) == "weapons."


def test_draws_repeat_with_their_seed_and_keep_to_the_training_side():
    tasks = {"direct": 0.5, "topic": 0.5}
    labels = {"harmful": 0.4, "harmless": 0.3, "borderline": 0.3}

    def draws(seed):
        rng = random.Random(seed)
        return [grammar.draw_sample(rng, tasks, labels, refusing=True) for _ in range(400)]

    samples = draws(3)
    assert samples == draws(3) != draws(4)
    held_out = {request.object for request in every_request_on(True)}
    assert not {sample.request.object for sample in samples} & held_out
    assert not [s for s in samples if s.task == "topic" and s.request.label == "borderline"]
    share = sum(sample.system is not None for sample in samples) / len(samples)
    assert 0.08 < share < 0.18
