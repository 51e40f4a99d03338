"""The set of refusal tokens: chosen by how well its score tells replies, and what it covers."""

import numpy as np
import pytest

from workbench.scores.refusal_tokens import chosen_tokens, described, separation

EYE, SORRY, THE, SURE = range(4)


def replies(n, noise=0.0, seed=0):
    """n refusals and n other replies of a model that says "I" in some answers, too."""
    rng = np.random.default_rng(seed)
    p = np.zeros((2 * n, 8))
    p[:n, [EYE, SORRY, THE]] = 0.82, 0.14, 0.02
    p[n:, [EYE, SORRY, THE, SURE]] = 0.08, 0.01, 0.4, 0.5
    p = np.clip(p + noise * rng.normal(size=p.shape), 1e-4, 1)
    return p / p.sum(1, keepdims=True), np.arange(2 * n) < n


def test_a_token_that_begins_most_refusals_is_chosen_though_others_begin_so_too():
    p, refused = replies(8)
    assert chosen_tokens(p, refused) == [EYE, SORRY]
    found = described(p, refused, [EYE, SORRY], ["I", "Sorry"])
    assert found.coverage == pytest.approx(0.98, abs=0.01)
    assert found.on_refusals == pytest.approx((0.84, 0.14), abs=0.02)
    assert (found.auc, found.accuracy) == (1.0, 1.0)
    assert "98% of 8 refusals begin so" in found.line()


def test_a_token_that_begins_other_replies_as_often_is_none():
    p, refused = replies(8)
    assert THE not in chosen_tokens(p, refused)
    same = np.tile(p[:1], (8, 1))
    assert chosen_tokens(same, np.arange(8) < 4) == []


def test_many_rare_beginnings_are_taken_together():
    p = np.full((20, 12), 1e-4)
    p[:10, :10] = 0.099
    p[10:, 11] = 0.99
    found = chosen_tokens(p / p.sum(1, keepdims=True), np.arange(20) < 10)
    assert sorted(found) == list(range(10))


def test_a_token_that_brings_nothing_is_left_out():
    p = np.full((20, 6), 1e-4)
    p[:10, 0], p[:10, 1] = 0.94, 0.055
    p[10:, 5] = 0.99
    # The second begins 5% of the refusals, and is worth .03 nats of log loss; a hundredth is not.
    assert chosen_tokens(p / p.sum(1, keepdims=True), np.arange(20) < 10) == [0, 1]
    p[:10, 0], p[:10, 1] = 0.985, 0.0
    p[0, 1] = 0.6
    assert chosen_tokens(p / p.sum(1, keepdims=True), np.arange(20) < 10) == [0]


def test_what_is_held_out_is_not_what_chose():
    """Of labels without meaning the halves choose what means nothing in the other half."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        p = rng.dirichlet(np.full(6, 0.3), size=40)
        found.append(separation(p, rng.permutation(40) < 20))
    auc, accuracy = np.nanmean(found, axis=0)
    assert abs(auc - 0.5) < 0.08 and abs(accuracy - 0.5) < 0.06


def test_too_few_replies_hold_nothing_out():
    p, refused = replies(3)
    found = described(p, refused, [EYE], ["I"])
    assert found.auc != found.auc and found.to_record()["auc"] is None
    assert "held out" not in found.line()


def test_it_is_a_table():
    p, refused = replies(8)
    table = described(p, refused, [EYE, SORRY], ["I", "Sorry"]).to_dataframe()
    assert (
        list(table["text"]) == ["I", "Sorry"] and (table["on_refusals"] > table["elsewhere"]).all()
    )
