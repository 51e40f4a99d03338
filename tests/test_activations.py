"""Activations against a plain Hugging Face reference, one prompt at a time."""

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.activations import Activations, collect_activations
from workbench.errors import ArtifactError, AxisError, PromptError
from workbench.models.forwards.capture import capture
from workbench.prompts.promptset import Prompt, PromptSet

SITES = ("resid_pre", "attn_out", "mlp_out", "z")
TEXTS = {
    "harmful": ["How far is the sea?", "hi", "Name a colour that nobody likes."],
    "harmless": ["42 plus 7", "Is the tea cold by now?", "ok", "What a day"],
}
CATEGORIES = {
    "How far is the sea?": "sea",
    "hi": "words",
    "Name a colour that nobody likes.": "sea",
}


def prompt_set(*labels):
    return PromptSet(
        tuple(
            Prompt(f"{label}-{row}", text, label, CATEGORIES.get(text, "other"))
            for label in labels
            for row, text in enumerate(TEXTS[label])
        )
    )


def reference_means(specimen, texts, positions):
    """Mean residual stream, [layer position d_model], from Hugging Face's hidden states."""
    tokenizer, rows = specimen.model.tokenizer, []
    for text in texts:
        message = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(
            message, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        with torch.no_grad():
            states = specimen.plain(ids, output_hidden_states=True).hidden_states[:-1]
        rows.append(torch.stack([state[0, list(positions)].double() for state in states]))
    return torch.stack(rows).mean(0)


def test_mean_differences_equal_the_reference(specimen):
    acts = {label: collect_activations(specimen.model, prompt_set(label)) for label in TEXTS}
    found = wb.mean_difference(acts["harmful"], acts["harmless"])
    means = {
        label: reference_means(specimen, texts, found.positions) for label, texts in TEXTS.items()
    }
    expected = means["harmful"] - means["harmless"]
    assert expected[1:].norm(dim=-1).min() > 0.01
    torch.testing.assert_close(found.values[0].double(), expected, rtol=1e-4, atol=1e-5)


def test_categories_are_each_set_against_all_negatives(zoo):
    specimen = zoo["llama"]
    positive = collect_activations(specimen.model, prompt_set("harmful"))
    negative = collect_activations(specimen.model, prompt_set("harmless"))
    found = wb.mean_difference(positive, negative, by="category")
    assert found.names == ("sea", "words")
    background = reference_means(specimen, TEXTS["harmless"], found.positions)
    for name in found.names:
        texts = [text for text in TEXTS["harmful"] if CATEGORIES[text] == name]
        expected = reference_means(specimen, texts, found.positions) - background
        own = found.at(name=name).values[0].double()
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("site", SITES)
def test_every_site_equals_hugging_face(specimen, site):
    acts = collect_activations(specimen.model, prompt_set("harmful"), site=site, per_prompt=True)
    for row, text in enumerate(TEXTS["harmful"]):
        _, sites = specimen.read(specimen.model.tokens([text]).ids)
        expected = torch.stack([layer[0, list(acts.positions)] for layer in sites[site]])
        torch.testing.assert_close(acts.values[row], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("site", SITES)
def test_streamed_means_equal_means_over_prompts(zoo, site):
    model, prompts = zoo["gemma2"].model, prompt_set("harmful", "harmless")
    streamed = collect_activations(model, prompts, site=site)
    single = collect_activations(model, prompts, site=site, per_prompt=True)
    assert streamed.values.dtype == torch.float64
    assert single.values.dtype == torch.float32
    assert streamed.n_prompts == single.n_prompts == len(prompts)
    assert streamed.categories == ("sea", "words", "other")
    assert streamed.labels == ("harmful", "harmful", "harmless")
    for category in (None, "sea", "words", "other"):
        torch.testing.assert_close(streamed.mean(category), single.mean(category))


def test_one_category_under_two_labels_is_two_rows(zoo):
    prompts = PromptSet(
        tuple(
            Prompt(f"{label}-{text}", text, label, "sea")
            for label in TEXTS
            for text in TEXTS[label][:2]
        )
    )
    acts = collect_activations(zoo["llama"].model, prompts)
    assert acts.labels == ("harmful", "harmless")
    assert acts.counts == (2, 2)


@settings(max_examples=15)
@given(
    batch_tokens=st.integers(1, 300),
    site=st.sampled_from(SITES),
    name=st.sampled_from(["llama", "gemma3", "gpt2"]),
)
def test_activations_do_not_depend_on_who_shares_the_batch(zoo, batch_tokens, site, name):
    model = copy.copy(zoo[name].model)
    prompts = prompt_set("harmful", "harmless")
    expected = collect_activations(model, prompts, site=site, per_prompt=True)
    model.batch_tokens = batch_tokens
    found = collect_activations(model, prompts, site=site, per_prompt=True)
    assert found.ids == expected.ids == prompts.ids
    torch.testing.assert_close(found.values, expected.values, rtol=1e-4, atol=1e-4)


def test_default_positions_are_the_last_of_the_instruction_and_all_after(zoo):
    model = zoo["llama"].model
    tokens = model.tokens(["hi"])
    acts = collect_activations(model, ["hi"])
    assert acts.positions == (tokens.t_inst, *tokens.post_instruction)
    assert acts.layers == (0, 1, 2)


def test_layers_and_positions_come_in_the_order_asked_for(zoo):
    model = zoo["llama"].model
    whole = collect_activations(model, ["hi"])
    some = collect_activations(model, ["hi"], layers=[2, 0], positions=[-1, -3])
    for i, layer in enumerate((2, 0)):
        for j, position in enumerate((-1, -3)):
            torch.testing.assert_close(some.values[:, i, j], whole.at(layer, position))


def test_values_are_copies_that_keep_nothing_else_alive(zoo):
    model = zoo["llama"].model
    acts = collect_activations(model, prompt_set("harmful"), positions=[-1], per_prompt=True)
    assert acts.values.untyped_storage().nbytes() == acts.values.numel() * 4
    assert not acts.values.requires_grad
    places = [("resid_pre", 0), ("z", 1), ("mlp_out", 1)]
    # What is kept until the forward ends must not be a view of the whole activation.
    found, logits = capture(model, model.tokens(TEXTS["harmful"]), places, [-1])
    assert [*found] == places and logits is None
    for part in found.values():
        assert part.untyped_storage().nbytes() == part.numel() * part.element_size()


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_several_sites_are_read_in_one_pass(zoo, name):
    model, prompts = zoo[name].model, prompt_set("harmful", "harmless")
    passes = []
    handle = model.network.register_forward_pre_hook(lambda *args: passes.append(1))
    settings = {"positions": ["t_inst", -1], "n_resamples": 3, "seed": 1}
    try:
        apart = {site: collect_activations(model, prompts, site=site, **settings) for site in SITES}
        n_apart = len(passes)
        together = collect_activations(model, prompts, sites=SITES, **settings)
    finally:
        handle.remove()
    assert n_apart == 4 * (len(passes) - n_apart)
    assert [*together] == [*SITES]
    for site in SITES:
        assert together[site].site == site
        torch.testing.assert_close(together[site].values, apart[site].values)
        halves = [each[site].resampled.halves for each in (together, apart)]
        torch.testing.assert_close(*halves, equal_nan=True)
        assert together[site].provenance == apart[site].provenance


def test_logits_come_along_where_they_are_wanted(zoo):
    model = zoo["llama"].model
    batch = model.tokens(TEXTS["harmful"])
    found, logits = capture(model, batch, [("attn_out", 1)], ["t_inst", -1], stop=False)
    assert torch.equal(logits, model.forward(batch))
    own = collect_activations(
        model, TEXTS["harmful"], site="attn_out", layers=[1], positions=["t_inst", -1],
        per_prompt=True,
    )  # fmt: skip
    torch.testing.assert_close(found["attn_out", 1], own.values[:, 0])


@pytest.mark.parametrize(("site", "last"), [("resid_pre", 1), ("z", 1), ("mlp_out", 0)])
def test_the_forward_stops_after_the_last_wanted_layer(zoo, site, last):
    specimen = zoo["llama"]
    calls = []
    handles = [
        module.register_forward_hook(lambda *args, name=name: calls.append(name))
        for name, module in specimen.model.network.named_modules()
        if name.endswith(("mlp", "mlp._original_component", "lm_head"))
    ]
    try:
        collect_activations(specimen.model, ["hi"], site=site, layers=[0, last] if last else [0])
    finally:
        for handle in handles:
            handle.remove()
    layers = {int(name.split("layers.")[1].split(".")[0]) for name in calls if "layers." in name}
    assert not any("lm_head" in name for name in calls)
    assert max(layers, default=-1) <= last
    assert (last in layers) == (site == "mlp_out")


def test_collecting_leaves_the_model_as_it_was(zoo):
    model = zoo["llama"].model
    before = model.logits(["hi"])
    collect_activations(model, ["hi"], layers=[1])
    assert torch.equal(model.logits(["hi"]), before)
    assert model.current is None


def test_collecting_under_an_intervention_reads_what_the_block_reads(zoo):
    model = zoo["llama"].model
    acts = collect_activations(model, prompt_set("harmful"))
    plus = wb.mean_difference(acts, collect_activations(model, prompt_set("harmless")))
    r = plus.at(layer=1, position=-1)
    with wb.intervene(model, wb.Add(r)):
        found = collect_activations(model, prompt_set("harmful"))
    torch.testing.assert_close(found.mean()[0], acts.mean()[0])
    moved = found.mean()[1] - acts.mean()[1]
    torch.testing.assert_close(moved, r.vector.double().expand_as(moved), rtol=1e-5, atol=1e-5)


def test_a_system_prompt_is_read_too(zoo):
    model = zoo["llama"].model
    plain = collect_activations(model, ["hi"])
    told = collect_activations(model, ["hi"], system="Be kind.")
    assert (plain.values[:, 1] - told.values[:, 1]).norm() > 0.01
    assert told.provenance["system"] == "Be kind."


def test_provenance_names_model_and_prompts(zoo):
    model, prompts = zoo["llama"].model, prompt_set("harmful")
    provenance = collect_activations(model, prompts).provenance
    assert provenance["weights"] == model.weights_fingerprint
    assert provenance["prompts"] == prompts.fingerprint
    assert collect_activations(model, ["hi"]).provenance["prompts"] is None


def test_texts_without_a_set_get_their_index(zoo):
    acts = collect_activations(zoo["llama"].model, ["hi", "ok"], per_prompt=True)
    assert acts.ids == ("0", "1")
    assert acts.categories == acts.labels == ("", "")


@pytest.mark.parametrize("per_prompt", [True, False])
def test_save_and_load_are_inverse(zoo, tmp_path, per_prompt):
    acts = collect_activations(zoo["llama"].model, prompt_set("harmful"), per_prompt=per_prompt)
    found = Activations.load(acts.save(tmp_path / "acts.safetensors"))
    assert torch.equal(found.values, acts.values)
    assert found.values.dtype == acts.values.dtype
    for field in ("counts", "categories", "labels", "ids", "layers", "positions", "site"):
        assert getattr(found, field) == getattr(acts, field)
    assert found.provenance == acts.provenance


def test_activations_are_not_read_from_another_kind(zoo, tmp_path):
    acts = collect_activations(zoo["llama"].model, ["hi"])
    others = collect_activations(zoo["llama"].model, ["no"])
    path = wb.mean_difference(acts, others).save(tmp_path / "directions.safetensors")
    with pytest.raises(ArtifactError, match="is of kind 'directions', not 'activations'"):
        Activations.load(path)


def test_labels_that_were_not_collected(zoo):
    acts = collect_activations(zoo["llama"].model, prompt_set("harmful"), layers=[1])
    with pytest.raises(AxisError, match=r"layer 0, position -1 was not collected: layers \[1\]"):
        acts.at(0, -1)
    with pytest.raises(AxisError, match="no category 'fraud' in these activations: sea, words"):
        acts.mean("fraud")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"layers": [3]},
            r"no layer 3 in .*: layers 0\.\.2, and layer 3 would be the out",
        ),
        ({"layers": [-1]}, r"no layer -1"),
        ({"layers": []}, "no layers or no positions"),
        ({"positions": []}, "no layers or no positions"),
        ({"layers": [1, 1]}, "a layer appears twice"),
        ({"positions": [-1, -1]}, "a position appears twice"),
        ({"positions": [0]}, "position 0 cannot be read: positions are negative"),
        ({"positions": [-30]}, "the shortest prompt has 9 tokens"),
    ],
)
def test_what_cannot_be_read(zoo, arguments, message):
    with pytest.raises(AxisError, match=message):
        collect_activations(zoo["llama"].model, prompt_set("harmful"), **arguments)


def test_a_site_that_does_not_exist(zoo, unchecked):
    with pytest.raises(AxisError, match="no site 'resid_post': resid_pre, attn_out, mlp_out, z"):
        collect_activations(zoo["llama"].model, ["hi"], site="resid_post")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"site": "z", "sites": ["z"]}, r"pass site= for one, or sites= with several"),
        ({"sites": []}, "sites must be given, each once"),
        ({"sites": ["z", "z"]}, r"each once, found \['z', 'z'\]"),
    ],
)
def test_sites_that_make_no_sense(zoo, asked, message):
    with pytest.raises(AxisError, match=message):
        collect_activations(zoo["llama"].model, ["hi"], **asked)


def test_no_prompts(zoo):
    for prompts in ([], PromptSet(())):
        with pytest.raises(PromptError, match="empty"):
            collect_activations(zoo["llama"].model, prompts)


def test_activations_are_frozen(zoo):
    acts = collect_activations(zoo["llama"].model, ["hi"])
    with pytest.raises(AttributeError):
        acts.site = "z"
    assert replace(acts, site="z").site == "z"
