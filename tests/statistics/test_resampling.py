"""Resampled means: the same from a stream as from single prompts, and what they stand for."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.activations import Activations, collect_activations
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.directions.orthogonalize import orthogonalize
from workbench.errors import ArtifactError, AxisError, StudyError
from workbench.prompts.promptset import Prompt, PromptSet
from workbench.statistics.resampling import Resampler

TEXTS = ("Is it late?", "hi", "Name a colour.", "How far?", "ok then", "Why me", "42 plus 7", "Up")


def prompt_set(categories="abababab", label="harmful", texts=TEXTS):
    pairs = zip(texts, categories, strict=True)
    return PromptSet(
        tuple(Prompt(f"{label}-{row}", text, label, c) for row, (text, c) in enumerate(pairs))
    )


def acts(categories, label="harmful", seed=0, d_model=6, layers=2):
    """Single prompts around zero; the text of a prompt is its label and number."""
    n = len(categories)
    draw = torch.Generator().manual_seed(seed)
    texts = tuple(f"{label} {row}" for row in range(n))
    return Activations(
        torch.randn(n, layers, 1, d_model, generator=draw),
        (1,) * n,
        tuple(categories),
        (label,) * n,
        texts,
        tuple(range(layers)),
        (-1,),
        "resid_pre",
        texts=texts,
    )


def same(a, b):
    assert a.seed == b.seed
    for name in ("halves", "weights", "permuted"):
        torch.testing.assert_close(
            getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-4, equal_nan=True
        )


@pytest.mark.parametrize("batch_tokens", [1, 60, 10_000])
def test_a_stream_gives_what_single_prompts_give(zoo, batch_tokens):
    model = copy.copy(zoo["llama"].model)
    model.batch_tokens = batch_tokens
    streamed = collect_activations(model, prompt_set(), n_resamples=9, seed=3)
    single = collect_activations(model, prompt_set(), per_prompt=True)
    same(streamed.resampled, single.with_resamples(9, seed=3).resampled)
    both = collect_activations(model, prompt_set(), per_prompt=True, n_resamples=9, seed=3)
    same(streamed.resampled, both.resampled)
    torch.testing.assert_close(streamed.mean(), collect_activations(model, prompt_set()).mean())


def test_texts_and_tokens_of_them_are_resampled_too(zoo):
    model = zoo["llama"].model
    for prompts in (list(TEXTS), model.tokens(list(TEXTS))):
        found = collect_activations(model, prompts, n_resamples=4).resampled
        assert found.halves.shape[:3] == (4, 2, 1)
        assert found.weights.std() > 0


def test_halves_are_weighted_means_of_disjoint_prompts():
    single = acts("aaaaaaaabb")
    found = single.with_resamples(50).resampled
    resampler = Resampler(single.texts, [0] * 8 + [1] * 2, single.labels, (2, 1, 6), 50, 0)
    weights = resampler.weights
    assert (weights.prod(1) == 0).all()
    for row, own in enumerate((slice(0, 8), slice(8, 10))):
        total = weights[:, :, own].sum(-1)
        expected = torch.einsum("rhp,plxd->rhlxd", weights[:, :, own], single.values[own])
        expected = expected / total[..., None, None, None]
        assert torch.equal(found.weights[:, :, row], total)
        torch.testing.assert_close(found.halves[:, :, row], expected, equal_nan=True)
    # Two prompts often leave a half empty; that is no number.
    empty = found.weights == 0
    assert empty[:, :, 1].any()
    assert torch.equal(found.halves.isnan().all(-1).all(-1).all(-1), empty)


def test_means_are_taken_once():
    resampler = Resampler([str(i) for i in range(10)], [0, 1] * 5, [""] * 10, (1, 1, 2), 6, 0)
    resampler.add(range(10), torch.randn(10, 1, 1, 2))
    first = resampler.finish()
    halves, permuted = first.halves.clone(), first.permuted.clone()
    again = resampler.finish()
    torch.testing.assert_close(again.halves, halves, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(again.permuted, permuted, rtol=0, atol=0)
    with pytest.raises(StudyError, match="the means are taken"):
        resampler.add([0], torch.zeros(1, 1, 1, 2))


def test_weights_are_poisson_and_halves_are_fair():
    resampler = Resampler([f"p{i}" for i in range(300)], [0] * 300, [""] * 300, (1, 1, 1), 200, 1)
    whole = resampler.weights.sum(1).numpy()
    shares = [(whole == k).mean() for k in range(4)]
    np.testing.assert_allclose(shares, [0.3679, 0.3679, 0.1839, 0.0613], atol=0.01)
    assert resampler.weights[:, 0].mean() == pytest.approx(0.5, abs=0.01)
    # Prompts are independent of each other, and so are replicates.
    centred = whole - whole.mean(0)
    assert np.abs(centred.T @ centred / 200 - np.eye(300)).mean() < 0.08
    assert np.abs(np.corrcoef(whole)[0, 1:]).mean() < 0.08


def test_a_prompt_has_the_same_draws_in_whatever_company():
    def draws(keys, seed=0):
        return Resampler(keys, [0] * len(keys), [""] * len(keys), (1, 1, 1), 30, seed).weights

    alone, together = draws(["x"]), draws(["a", "x", "b", "x"])
    assert torch.equal(alone[..., 0], together[..., 1])
    # A repeated text stands twice in one half, never once in each.
    assert torch.equal(together[..., 1], together[..., 3])
    assert not torch.equal(alone, draws(["x"], seed=1))
    assert not torch.equal(alone, draws(["y"]))


def test_categories_are_permuted_among_prompts_of_one_label():
    labels = ["harmful"] * 6 + ["harmless"] * 4
    row_of = [0, 0, 0, 0, 1, 1, 2, 2, 2, 3]
    resampler = Resampler([str(i) for i in range(10)], row_of, labels, (1, 1, 1), 40, 0)
    dealt = resampler.permuted_rows
    for rows in dealt.tolist():
        assert sorted(rows[:6]) == sorted(row_of[:6])
        assert sorted(rows[6:]) == sorted(row_of[6:])
    assert len({tuple(rows) for rows in dealt.tolist()}) > 15
    values = torch.randn(10, 1, 1, 1)
    resampler.add(range(10), values)
    means = resampler.finish().permuted[:, :, 0, 0, 0]
    by_hand = [values[:6][rows[:6] == 1].mean() for rows in dealt]
    torch.testing.assert_close(means[:, 1], torch.stack(by_hand))


def test_merged_rows_are_as_if_they_had_been_one():
    apart, one = acts("aabbbbbccc"), acts("xxxxxxxccc")
    found = apart.with_resamples(20).resampled.merged([[0, 1], [2]], [2, 5, 3])
    expected = one.with_resamples(20).resampled
    for name in ("halves", "weights"):
        mine, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(mine, other[:, :, [1, 0]], equal_nan=True)
    everything = apart.with_resamples(20).resampled.merged([[0, 1, 2]], [2, 5, 3]).permuted
    torch.testing.assert_close(
        everything[:, 0], apart.mean().float().expand_as(everything[:, 0]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("by", [None, "category"])
def test_differences_of_resampled_means_go_with_the_directions(by):
    positive = acts("abc" * 20).with_resamples(300)
    negative = acts("xy" * 30, "harmless", seed=1).with_resamples(300)
    found = mean_difference(positive, negative, by=by)
    resampled = found.resampled
    assert resampled.halves.shape[2:] == found.values.shape
    mine, other = positive.resampled, negative.resampled
    background = (other.weights[..., None, None, None] * other.halves).sum(2)
    background = background / other.weights.sum(2)[..., None, None, None]
    if by:
        expected = mine.halves - background[:, :, None]
        torch.testing.assert_close(resampled.halves, expected, equal_nan=True)
        permuted = mine.permuted - negative.mean().float()
        torch.testing.assert_close(resampled.permuted, permuted)
        assert found.provenance["n_by_name"] == {"a": 20, "b": 20, "c": 20}
    else:
        assert resampled.permuted is None
    # Replicates scatter around the direction.
    middle = resampled.halves.nanmean((0, 1))
    assert (middle - found.values).abs().max() < 0.1
    assert (resampled.halves[:, 0] - middle).nan_to_num().abs().mean() > 0.1


def test_directions_of_sets_without_resamples_have_none():
    positive, negative = acts("aabb"), acts("xxxx", "harmless")
    assert mean_difference(positive, negative, by="category").resampled is None
    assert mean_difference(positive.with_resamples(5), negative, by="category").resampled is None


@pytest.fixture
def directions():
    positive = acts("abc" * 4).with_resamples(7)
    return mean_difference(positive, acts("x" * 9, "harmless", 1).with_resamples(7), by="category")


def test_selecting_selects_what_was_resampled(directions):
    one = directions.at(name=["c", "a"], layer=1)
    expected = directions.resampled
    same(
        one.resampled,
        replace(
            expected,
            halves=expected.halves[:, :, [2, 0]][:, :, :, [1]],
            weights=expected.weights[:, :, [2, 0]],
            permuted=expected.permuted[:, [2, 0]][:, :, [1]],
        ),
    )
    assert directions.unit().resampled is directions.resampled
    assert orthogonalize(directions, directions.at(name="a")).resampled is None


def test_save_and_load_are_inverse(directions, tmp_path):
    same(Directions.load(directions.save(tmp_path / "d")).resampled, directions.resampled)
    one = directions.at(name="a")
    one = replace(one, resampled=replace(one.resampled, permuted=None))
    assert Directions.load(one.save(tmp_path / "one")).resampled.permuted is None
    single = acts("aabb").with_resamples(5, seed=2)
    found = Activations.load(single.save(tmp_path / "a"))
    same(found.resampled, single.resampled)
    assert found.texts == single.texts
    assert Activations.load(acts("ab").save(tmp_path / "b")).resampled is None


def test_a_file_with_half_of_it_is_refused(directions, tmp_path, monkeypatch):
    tensors = type(directions.resampled).tensors
    monkeypatch.setattr(
        type(directions.resampled),
        "tensors",
        lambda self: {k: v for k, v in tensors(self).items() if "weights" not in k},
    )
    path = directions.save(tmp_path / "d")
    with pytest.raises(ArtifactError, match="resampled means without their 'weights'"):
        Directions.load(path)


def test_resampled_vectors_must_fit(directions):
    with pytest.raises(AxisError, match="resampled vectors of shape"):
        replace(directions, values=directions.values[..., :3])


@pytest.mark.parametrize("arguments", [{"n_resamples": 1}, {"n_resamples": -1}])
def test_numbers_of_replicates_that_make_no_sense(zoo, arguments):
    message = r"cannot resample with n_resamples=-?1, seed=0: expected at least 2 replicates"
    with pytest.raises(StudyError, match=message):
        collect_activations(zoo["llama"].model, ["hi"], **arguments)
    with pytest.raises(StudyError, match="seed=-1"):
        acts("aa").with_resamples(5, seed=-1)


def test_means_cannot_be_resampled():
    means = replace(acts("ab"), ids=(), texts=())
    with pytest.raises(StudyError, match="means cannot be resampled: collect with per_prompt=True"):
        means.with_resamples()


def test_a_category_with_one_prompt_cannot_be_split():
    negative = acts("xxx", "harmless").with_resamples(5)
    with pytest.raises(StudyError, match="the category 'b' has 1 prompt, which cannot be split"):
        mean_difference(acts("aab").with_resamples(5), negative, by="category")
    # As one direction they can.
    assert mean_difference(acts("aab").with_resamples(5), negative).resampled is not None
    with pytest.raises(StudyError, match="the negative set has 1 prompt"):
        mean_difference(acts("aab").with_resamples(5), acts("x", "harmless").with_resamples(5))


@pytest.mark.parametrize(("n", "seed"), [(6, 0), (5, 1)])
def test_sets_that_were_resampled_differently(n, seed):
    negative = acts("xxx", "harmless").with_resamples(n, seed)
    message = f"positive 5 times with seed 0, negative {n} times with seed {seed}. Collect both"
    with pytest.raises(StudyError, match=message):
        mean_difference(acts("aabb").with_resamples(5), negative)
