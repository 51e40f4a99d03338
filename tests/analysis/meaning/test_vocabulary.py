"""What directions say: known rows, Hugging Face's own norm and head, and errors."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

import workbench as wb
from workbench.analysis.meaning.vocabulary import (
    logit_lens,
    strongest,
    token_text,
    unembedding_rows,
)
from workbench.analysis.selection.controls import control_directions
from workbench.artifact import load_dataset, save_dataset
from workbench.errors import AxisError, ModelError, StudyError

ARCHITECTURES = ("llama", "gemma3", "olmo2", "gpt2", "gpt_neox")
NORMS = {"gpt2": "ln_f", "gpt_neox": "final_layer_norm"}


def direction(vector, name="r", layer=1):
    return wb.Directions(vector.view(1, 1, 1, -1), (name,), (layer,), (-1,))


def random_vector(width=32, seed=0):
    return torch.randn(width, generator=torch.Generator().manual_seed(seed))


def by_hugging_face(specimen, vector):
    """Centred logits of the vector alone, without biases, through the plain model's own modules."""
    norm = getattr(specimen.plain.base_model, NORMS.get(specimen.name, "norm"))
    head = specimen.plain.get_output_embeddings()
    long = 1000 * vector
    with torch.no_grad():
        logits = (head(norm(long)) - head(norm(-long))) / 2
    return logits - logits.mean()


def test_a_direction_along_a_row_says_that_token(two_components):
    found = logit_lens(two_components.model, [two_components.late, two_components.early], top_k=3)
    late = found.sel(name="late", sign="promoted")
    assert late["token"].values[0] == "N"
    chance = late["chance_z"].sel(null="isotropic").item()
    assert late["z"].values[0] > chance > 2 * late["z"].values[1]
    # The early direction is a concept: it favours no token at all.
    assert abs(found["logit"].sel(name="early")).max() < 0.2 * late["logit"][0]
    assert found["layer"].values.tolist() == [7, 3]
    opposite = direction(-two_components.late.vector, layer=7)
    assert logit_lens(two_components.model, opposite).sel(sign="suppressed")["token"][0, 0] == "N"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_are_those_of_hugging_faces_own_norm_and_head(zoo, name):
    expected = by_hugging_face(zoo[name], random_vector())
    found = logit_lens(zoo[name].model, direction(random_vector()), top_k=5).sel(name="r")
    for sign, order in (("promoted", expected), ("suppressed", -expected)):
        ids = order.topk(5).indices
        assert found["token_id"].sel(sign=sign).values.tolist() == ids.tolist()
        logits = torch.tensor(found["logit"].sel(sign=sign).values)
        torch.testing.assert_close(logits, expected[ids], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            torch.tensor(found["z"].sel(sign=sign).values), logits / expected.std(),
            rtol=1e-3, atol=1e-3,
        )  # fmt: skip


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rows_give_the_same_logits_up_to_the_norms_scale(zoo, name):
    vector = random_vector(seed=1)
    rows = unembedding_rows(zoo[name].model, range(264))
    found = rows.float() @ vector
    expected = by_hugging_face(zoo[name], vector)
    scale = (found @ expected) / (expected @ expected)
    assert scale > 0
    torch.testing.assert_close(found, scale * expected, rtol=1e-3, atol=1e-3 * scale.item())


def test_length_does_not_matter_and_the_sign_does(zoo):
    model, vector = zoo["llama"].model, random_vector()
    plain, long = (logit_lens(model, direction(x), top_k=4) for x in (vector, 1e4 * vector))
    assert plain["token_id"].equals(long["token_id"])
    turned = logit_lens(model, direction(-vector), top_k=4)
    assert (
        turned["token_id"].sel(sign="suppressed").values
        == plain["token_id"].sel(sign="promoted").values
    ).all()


@pytest.fixture(scope="module")
def pockets_place(pocket):
    """Harmful and harmless prompts in the middle of pocket, and their mean difference."""
    acts = [
        wb.collect_activations(
            pocket, wb.load_prompts(label).sample(64), layers=[5], positions=[-1], per_prompt=True
        )
        for label in ("harmful", "harmless")
    ]
    return wb.mean_difference(*acts), acts


def test_directions_without_meaning_pass_chance_as_often_as_they_should(pocket, pockets_place):
    """Fresh ones against the quantiles that six readings give: 5 % at either end.

    The expected maximum of as many normal numbers is passed by most of them.
    """
    direction, acts = pockets_place
    found = [logit_lens(pocket, direction, top_k=1, activations=acts, seed=s) for s in range(6)]
    assert found[0]["null"].values.tolist() == ["isotropic", "covariance", "permuted"]
    for null in found[0]["null"].values:
        chance = np.array([each["chance_z"].sel(null=null).item() for each in found])
        fresh = control_directions(direction, acts, kinds=[null], n=1000, seed=6)
        reach = strongest(pocket, fresh)
        passed = (reach[..., None] > chance).mean(axis=(0, 2))
        # Standard deviations: .015 of one quantile of 200, .007 of a share of 1,000.
        assert passed == pytest.approx([0.05, 0.05], abs=0.027), null
        assert (reach > norm.ppf(1 - 0.5 / found[0].attrs["d_vocab"])).mean() > 0.5


def test_chance_needs_enough_draws_and_a_place_at_which_activations_vary(pocket, pockets_place):
    direction, acts = pockets_place
    with pytest.raises(StudyError, match="n_random must be at least 20, found 19"):
        logit_lens(pocket, direction, n_random=19)
    with pytest.raises(StudyError, match=r"4 prompts are labelled 'harmful'"):
        logit_lens(pocket, direction, activations=[acts[0].rows(range(4)), acts[1]])
    alone = logit_lens(pocket, direction, top_k=1, n_random=20)
    assert alone["null"].values.tolist() == ["isotropic"]
    again = logit_lens(pocket, direction, top_k=1, n_random=20)
    assert alone["chance_z"].equals(again["chance_z"])


def test_tokens_that_are_no_text_go_by_their_entry(zoo):
    model = zoo["llama"].model
    half = model.tokenizer("é", add_special_tokens=False).input_ids[0]
    assert token_text(model, half) == model.tokenizer.convert_ids_to_tokens(half)
    assert token_text(model, 0) == "<pad>"
    assert token_text(model, 10**6) == "<1000000>"


def test_the_result_is_saved_and_read_back(two_components, tmp_path):
    found = logit_lens(two_components.model, two_components.late, top_k=2)
    path = save_dataset(tmp_path / "said.safetensors", found, kind="vocabulary")
    assert load_dataset(path, kind="vocabulary")["token"].values.tolist() == (
        found["token"].values.tolist()
    )


def test_what_cannot_be_read(zoo, monkeypatch):
    model = zoo["llama"].model
    with pytest.raises(AxisError, match=r"directions of width 16 do not fit .* d_model is 32"):
        logit_lens(model, direction(torch.ones(16)))
    with pytest.raises(AxisError, match="zero or not finite"):
        logit_lens(model, direction(torch.zeros(32)))
    with pytest.raises(StudyError, match=r"top_k must be at least 1, found 0"):
        logit_lens(model, direction(torch.ones(32)), top_k=0)
    with pytest.raises(AxisError, match=r"top_k=133 is not within 1\.\.132"):
        logit_lens(model, direction(torch.ones(32)), top_k=133)
    for ids in ([], [264], [-1]):
        with pytest.raises(AxisError, match=r"token ids must lie in 0\.\.263"):
            unembedding_rows(model, ids)
    monkeypatch.setattr(model.bridge.cfg, "normalization_type", "strange")
    with pytest.raises(ModelError, match=r"cannot be read off: .*strange"):
        logit_lens(model, direction(torch.ones(32)))


def test_pockets_last_layer_says_the_words_of_its_refusals(organism):
    model, _ = organism("pocket")
    acts = [
        wb.collect_activations(
            model, wb.load_prompts(label).sample(64), layers=[model.n_layers - 1], positions=[-1]
        )
        for label in ("harmful", "harmless")
    ]
    found = logit_lens(model, wb.mean_difference(*acts), top_k=10).sel(name="refusal")
    # The first words of the grammar's refusals, against those of its answers.
    said = {sign: {*found["token"].sel(sign=sign).values} for sign in ("promoted", "suppressed")}
    assert {"sorry", "i", "as", "unfortunately"} <= said["promoted"]
    assert {"certainly", "sure", "of", "here"} <= said["suppressed"]
