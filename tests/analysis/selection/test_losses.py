"""Cross-entropy under interventions: against Hugging Face's own, and against plain hooks."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analysis.selection.controls import random_vectors
from workbench.analysis.selection.losses import losses_with_and_without
from workbench.errors import PromptError, StudyError
from workbench.prompts.passages import plain_passages
from workbench.statistics.ranks import is_outside, rank_p_value

TEXTS = ["The sea is far.", "Name a colour, and say who likes it.", "no"]
REPLIES = ["Not so far.", "Blue. Many like it.", "yes"]


def hugging_face(plain, ids, start):
    """Summed loss of one sequence by Hugging Face, and its number of tokens."""
    labels = torch.tensor([ids])
    labels[:, :start] = -100
    n = len(ids) - start
    with torch.no_grad():
        return n * float(plain(input_ids=torch.tensor([ids]), labels=labels).loss), n


def direction(model, seed=0, layer=1):
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(seed))
    return wb.Directions.from_vector(vector, layer=layer)


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("batch_tokens", [8192, 60])
def test_plain_losses_are_hugging_faces(zoo, name, batch_tokens, monkeypatch):
    specimen = zoo[name]
    model = specimen.model
    monkeypatch.setattr(model, "batch_tokens", batch_tokens)
    read = [model.tokenizer(text)["input_ids"] for text in TEXTS]
    expected = [hugging_face(specimen.plain, ids, 1) for ids in read]
    found = wb.selection.measure_cross_entropy(model, TEXTS)
    assert found["n_tokens"].values.tolist() == [n for _, n in expected]
    np.testing.assert_allclose(found["loss_by_text"], [loss / n for loss, n in expected], rtol=1e-5)
    # Every token weighs the same, whichever text it is in.
    whole = sum(loss for loss, _ in expected) / sum(n for _, n in expected)
    np.testing.assert_allclose(float(found["loss"]), whole, rtol=1e-5)
    np.testing.assert_allclose(float(found["perplexity"]), np.exp(whole), rtol=1e-4)
    assert found["loss_interval"].isnull().all()  # of few texts there is none


def test_only_replies_are_scored_given_their_prompts(zoo):
    specimen = zoo["llama"]
    found = wb.selection.measure_cross_entropy(specimen.model, TEXTS, replies=REPLIES)
    for row, (prompt, reply) in enumerate(zip(TEXTS, REPLIES, strict=True)):
        before = specimen.model.template.encode(prompt)
        after = specimen.model.tokenizer(reply, add_special_tokens=False)["input_ids"]
        loss, n = hugging_face(specimen.plain, [*before, *after], len(before))
        np.testing.assert_allclose(float(found["loss_by_text"][row]), loss / n, rtol=1e-5)


def test_ablation_changes_losses_as_plain_hooks_do(zoo):
    specimen = zoo["llama"]
    model, plain = specimen.model, specimen.plain
    r = direction(model)
    unit = r.unit().vector

    def project(module, args, output):
        x = output[0] if isinstance(output, tuple) else output
        x = x - (x @ unit).unsqueeze(-1) * unit
        return (x, *output[1:]) if isinstance(output, tuple) else x

    written = [plain.get_input_embeddings()]
    for layer in range(model.n_layers):
        written += [specimen.part(layer, "attn_out"), specimen.part(layer, "mlp_out")]
    handles = [module.register_forward_hook(project) for module in written]
    try:
        ids = [model.tokenizer(text)["input_ids"] for text in TEXTS]
        expected = [hugging_face(plain, own, 1) for own in ids]
    finally:
        for handle in handles:
            handle.remove()
    ablated = wb.selection.measure_cross_entropy(model, TEXTS, interventions=[wb.Ablate(r)])
    np.testing.assert_allclose(
        ablated["loss_by_text"], [loss / n for loss, n in expected], rtol=1e-5
    )
    found = losses_with_and_without(model, r, {"text": TEXTS}, n_random=0)
    change = float(found["change"].sel(text_set="text", condition="ablated"))
    before = float(wb.selection.measure_cross_entropy(model, TEXTS)["loss"])
    whole = sum(loss for loss, _ in expected) / sum(n for _, n in expected)
    np.testing.assert_allclose(change, whole - before, rtol=1e-3, atol=1e-6)
    assert abs(change) > 1e-3


def test_adding_nothing_changes_nothing(zoo):
    model = zoo["llama"].model
    found = losses_with_and_without(
        model, direction(model), {"text": TEXTS, "own": (TEXTS, REPLIES)}, coefficient=0.0
    )
    assert found["condition"].values.tolist() == [
        "plain", "ablated", "added", "random ablated", "random added"
    ]  # fmt: skip
    for condition in ("plain", "added", "random added"):
        at = found.sel(condition=condition)
        assert not at["change"].any() and at["change_interval"].isnull().all()
    assert found.sel(condition="random ablated")["change"].all()
    assert found["n"].values.tolist() == [3, 3]
    own = found["text_set_of_text"].values == "own"
    alone = wb.selection.measure_cross_entropy(model, TEXTS, replies=REPLIES)
    np.testing.assert_allclose(
        found["loss_by_text"].sel(condition="plain")[own], alone["loss_by_text"]
    )


def test_changes_stand_beside_those_of_each_random_vector(zoo):
    model = zoo["llama"].model
    r = direction(model)
    found = losses_with_and_without(model, r, {"text": TEXTS, "own": (TEXTS, REPLIES)}, seed=3)
    random = found["random_change"]
    assert random.shape == (2, 2, 20) and random["edit"].values.tolist() == ["ablated", "added"]
    fifth = random_vectors(r, 20, seed=3)[4]
    without = wb.selection.measure_cross_entropy(model, TEXTS, replies=REPLIES)
    for edit, intervention in (("ablated", wb.Ablate(fifth)), ("added", wb.Add(fifth))):
        with_it = wb.selection.measure_cross_entropy(
            model, TEXTS, replies=REPLIES, interventions=[intervention]
        )
        at = random.sel(text_set="own", edit=edit, control=5)
        change = float(with_it["loss"]) - float(without["loss"])
        np.testing.assert_allclose(float(at), change, rtol=1e-3, atol=1e-6)
        means = found["change"].sel(condition=f"random {edit}")
        np.testing.assert_allclose(random.sel(edit=edit).mean("control"), means, atol=1e-6)
        own, every = found["change"].sel(condition=edit), random.sel(edit=edit)
        assert (found["outside"].sel(edit=edit) == is_outside(own, every)).all()
        assert (found["p_value"].sel(edit=edit) == rank_p_value(own, every)).all()
    with pytest.raises(StudyError, match="n_random must be 0 or at least 20, found 3"):
        losses_with_and_without(model, r, {"text": TEXTS}, n_random=3)


def test_the_interval_is_that_of_a_ratio_of_sums():
    from workbench.analysis.selection.losses import _summed

    rng = np.random.default_rng(0)
    n = rng.integers(5, 60, 200).astype(float)
    loss = n * rng.normal(3, 0.5, 200)
    found = _summed(np.stack([loss, loss]), n, 0.95, 0).isel(condition=0)
    draws = rng.integers(0, 200, (4000, 200))
    ratios = loss[draws].sum(1) / n[draws].sum(1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    width = high - low
    np.testing.assert_allclose(found["loss_interval"], [low, high], atol=0.1 * width)


def test_random_vectors_are_as_long_and_the_same_again(zoo):
    r = direction(zoo["llama"].model)
    made, again = random_vectors(r, 3, seed=1), random_vectors(r, 3, seed=1)
    for one, same in zip(made, again, strict=True):
        assert torch.equal(one.vector, same.vector)
        torch.testing.assert_close(one.norms, r.norms)
        assert (one.layers, one.positions, one.site) == (r.layers, r.positions, r.site)
    assert not torch.equal(made[0].vector, made[1].vector)
    assert not torch.equal(made[0].vector, random_vectors(r, 1, seed=2)[0].vector)


def test_passages_are_several_dozen_and_none_twice():
    assert len(plain_passages()) == len({*plain_passages()}) >= 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "no texts: the list is empty"),
        ({"texts": ["ab", ""]}, r"text 1 \(''\) has no token that could be scored"),
        ({"texts": ["x" * 500]}, r"text 0 .* has 5\d\d tokens; .* at most 256"),
        ({"texts": ["hi"], "replies": []}, "1 prompts and 0 replies"),
        ({"texts": ["hi"], "replies": [""]}, "has no token that could be scored"),
        ({"texts": ["hi"], "system": "Be kind."}, "system= does nothing to plain text"),
    ],
)
def test_what_cannot_be_scored(zoo, arguments, message):
    with pytest.raises(PromptError, match=message):
        wb.selection.measure_cross_entropy(zoo["llama"].model, **arguments)
    with pytest.raises(StudyError, match="no texts to read"):
        losses_with_and_without(zoo["llama"].model, direction(zoo["llama"].model), {})


def test_a_run_measures_what_its_edits_do_to_text(small_run, pocket):
    found = small_run.results["losses"]
    assert found["text_set"].values.tolist() == ["plain text", "own replies"]
    assert "projection set" in found["condition"].values
    assert found.attrs["projection"] == small_run.effects.attrs["projection"]
    assert found.attrs["layer"] == small_run.choice.layer
    rows = small_run.replies
    rows = rows[(rows["prompt_set"] == "harmless") & (rows["condition"] == "plain")]
    alone = wb.selection.measure_cross_entropy(
        pocket, rows["prompt"].tolist(), replies=rows["reply"].tolist(),
        interventions=[wb.Ablate(small_run.direction)],
    )  # fmt: skip
    at = found.sel(text_set="own replies", condition="ablated")
    np.testing.assert_allclose(float(at["loss"]), float(alone["loss"]), rtol=1e-5)
    assert "nats per token" in small_run.found["losses"]
    figure = wb.figures.losses(found)
    drawn = {(trace.name, float(trace.x[0])) for trace in figure.data}
    assert ("ablated", float(at["change"])) in drawn
    blank = found.assign(change=found["change"] * np.nan)
    with pytest.raises(StudyError, match="nothing to draw"):
        wb.figures.losses(blank)


OPENING = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n<think>\n{% endif %}"
)


@pytest.mark.parametrize("text", ["it is far.</think>Far.", "no"])
def test_a_block_that_the_template_opens_is_read_once(make_network, make_tokenizer, text):
    """Replies begin with what the template has opened, and prompts end with it."""
    model = wb.load_model(make_network("llama"), tokenizer=make_tokenizer(OPENING))
    tokens = model.tokens(TEXTS[:1])
    assert tokens.opened == "<think>\n"
    own = wb.selection.measure_cross_entropy(model, TEXTS[:1], replies=[text])
    found = wb.selection.measure_cross_entropy(
        model, TEXTS[:1], replies=[(tokens.opened + text).strip()]
    )
    assert found["n_tokens"].values.tolist() == own["n_tokens"].values.tolist()
    np.testing.assert_allclose(found["loss"], own["loss"], rtol=1e-6)


def test_what_is_no_text_is_refused(zoo):
    model = zoo["llama"].model
    prompts = wb.PromptSet.from_texts(TEXTS, "harmless")
    for texts in ([1, 2, 3], [b"x"], (TEXTS, [1, 2, 3]), list(prompts)):
        with pytest.raises(PromptError, match=r"a text of 'a' is of type (int|bytes|Prompt)"):
            losses_with_and_without(model, direction(model), {"a": texts}, n_random=0)
    for given in (np.array(TEXTS), tuple(TEXTS[:2])):  # two texts are no pair
        losses_with_and_without(model, direction(model), {"a": given}, n_random=0)
    for given in (5, prompts):
        with pytest.raises(PromptError, match=r"list of texts for 'a', found .* (int|PromptSet)\."):
            losses_with_and_without(model, direction(model), {"a": given}, n_random=0)
