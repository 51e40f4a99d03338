"""What each head writes along a direction adds up, on every architecture, to what is there."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analysis.heads.attribution import direct_attribution
from workbench.models.organisms import organism_card, organism_path
from workbench.statistics.intervals import bootstrap_interval, difference_interval

TEXTS = {"harmful": ["abc def", "kk", "a much longer one"], "harmless": ["ab cd", "zk x"]}


def labelled():
    """A few prompts of different lengths, so that batches are padded."""
    sets = [wb.PromptSet.from_texts(texts, label, name=label) for label, texts in TEXTS.items()]
    return sets[0] + sets[1]


def random_direction(layer=2, d_model=32, site="resid_pre"):
    vector = torch.randn(1, 1, 1, d_model, generator=torch.Generator().manual_seed(1))
    return wb.Directions(3 * vector, ("r",), (layer,), (-1,), site)


def by_hugging_face(specimen, tokens, unit, layer, position):
    """Contributions of the heads of one layer, from Hugging Face's modules alone."""
    _, sites = specimen.read(tokens.ids, tokens.mask)
    projection = specimen.part(layer, "z")
    weight = projection.weight if specimen.name == "gpt2" else projection.weight.T
    z = sites["z"][layer][:, position].double()
    whole = z @ weight.double()
    if projection.bias is not None:
        whole = whole + projection.bias.double()
    ratio = torch.ones_like(whole)
    if specimen.name in ("gemma2", "gemma3", "olmo2"):
        ratio = sites["attn_out"][layer][:, position].double() / whole
    heads = z.unflatten(1, (4, -1)).unbind(1)
    slices = weight.double().unflatten(0, (4, -1)).unbind(0)
    written = [(z @ w) * ratio @ unit for z, w in zip(heads, slices, strict=True)]
    return torch.stack(written, 1).detach().numpy()


@pytest.mark.parametrize("layer", [2, 3])
def test_contributions_add_up_to_the_projection(specimen, layer):
    prompts, direction = labelled(), random_direction()
    found = direct_attribution(specimen.model, direction, prompts, layer=layer, position=-2)
    tokens = specimen.model.tokens(prompts)
    _, sites = specimen.read(tokens.ids, tokens.mask)
    stream = (
        sites["resid_pre"][2]
        if layer == 2
        else sum(sites[site][2] for site in ("resid_pre", "attn_out", "mlp_out"))
    )
    unit = direction.unit().vector.double()
    there = (stream[:, -2].double() @ unit).detach().numpy()
    np.testing.assert_allclose(found["projection_by_prompt"], there, atol=1e-4)
    total = found["embed_contribution_by_prompt"] + sum(
        found[name].sum([dim for dim in found[name].dims if dim != "prompt"])
        for name in (
            "contribution_by_prompt",
            "mlp_contribution_by_prompt",
            "bias_contribution_by_prompt",
        )
    )
    np.testing.assert_allclose(total, there, atol=1e-4)
    np.testing.assert_allclose(found["remainder_by_prompt"], there - total, atol=1e-4)
    assert abs(found["contribution_by_prompt"]).max() > 0.05


def test_every_head_is_hugging_faces(specimen):
    prompts, direction = labelled(), random_direction()
    found = direct_attribution(specimen.model, direction, prompts, position=-1)
    tokens, unit = specimen.model.tokens(prompts), direction.unit().vector.double()
    for layer in (0, 1):
        there = by_hugging_face(specimen, tokens, unit, layer, -1)
        own = found["contribution_by_prompt"].sel(layer=layer)
        # Where a written entry is near zero, the oracle's ratio is not exact.
        np.testing.assert_allclose(own, there, atol=1e-3)


def test_groups_are_labels_and_their_difference(zoo):
    found = direct_attribution(zoo["llama"].model, random_direction(), labelled())
    assert found["group"].values.tolist() == ["harmful", "harmless", "difference"]
    assert found["n"].values.tolist() == [3, 2, 5]
    rows = found["contribution_by_prompt"]
    for label, own in (("harmful", rows[:3]), ("harmless", rows[3:])):
        np.testing.assert_allclose(found["contribution"].sel(group=label), own.mean("prompt"))
    difference = rows[:3].mean("prompt") - rows[3:].mean("prompt")
    np.testing.assert_allclose(found["contribution"].sel(group="difference"), difference)
    assert found["contribution_interval"].isnull().all(), "three prompts are too few"


def test_intervals_are_those_of_the_labels_and_of_their_difference(zoo):
    sets = [
        wb.PromptSet.from_texts([f"{word} {n}" for n in range(30)], label, name=label)
        for label, word in (("harmful", "abc"), ("harmless", "a longer"))
    ]
    found = direct_attribution(zoo["llama"].model, random_direction(), sets[0] + sets[1])
    rows = found["contribution_by_prompt"].values
    means, ends = found["contribution"], found["contribution_interval"]
    sides = []
    for index, (label, own) in enumerate((("harmful", rows[:30]), ("harmless", rows[30:]))):
        expected = bootstrap_interval(np.moveaxis(own, 0, -1), seed=index)
        np.testing.assert_array_equal(ends.sel(group=label), np.stack(expected, -1))
        sides.append((own.mean(0), *expected))
    np.testing.assert_allclose(
        ends.sel(group="difference"), np.stack(difference_interval(*sides), -1)
    )
    assert np.isfinite(ends).mean() > 0.9
    assert ((ends.sel(bound="low") <= means + 1e-9) | ends.sel(bound="low").isnull()).all()


def test_texts_without_labels_are_one_group(zoo):
    found = direct_attribution(zoo["llama"].model, random_direction(), ["abc", "defg"])
    assert found["group"].values.tolist() == ["all"]


def test_what_is_found_depends_on_no_neighbour(zoo):
    model, prompts = zoo["gemma2"].model, labelled()
    together = direct_attribution(model, random_direction(), prompts)
    alone = direct_attribution(model, random_direction(), prompts[1:2])
    np.testing.assert_allclose(
        together["contribution_by_prompt"][1], alone["contribution_by_prompt"][0], atol=1e-5
    )


def test_a_direction_of_an_output_is_sought_at_the_next_input(zoo):
    model, prompts = zoo["llama"].model, labelled()
    after = direct_attribution(model, random_direction(2, site="mlp_out"), prompts)
    assert after.sizes["layer"] == 3 and after.attrs["end_layer"] == 3
    assert direct_attribution(model, random_direction(2), prompts).sizes["layer"] == 2


def test_pocket_is_written_by_its_planted_heads(pocket):
    planted = wb.Directions.load(organism_path("pocket") / "planted.safetensors")
    heads = organism_card("pocket")["planted"]["components"]["refusal"]["heads"]
    sets = [wb.load_prompts(label).sample(32) for label in ("harmful", "harmless")]
    acts = [wb.collect_activations(pocket, each, layers=[5], positions=[-1]) for each in sets]
    for direction in (planted, wb.mean_difference(*acts)):
        found = direct_attribution(pocket, direction, sets[0] + sets[1])
        assert abs(found["remainder_by_prompt"]).max() < 1e-4
        at = found.sel(group="difference")
        table = at["contribution"].to_series().sort_values(ascending=False)
        assert {*table.index[:4]} == {tuple(head) for head in heads}
        # The four write nearly all of the difference, each a good part of it.
        assert table[:4].sum() > 0.9 * float(at["projection"])
        assert table.iloc[3] > 20 * abs(table[4:]).max()
        low = at["contribution_interval"].sel(bound="low")
        assert all(low.sel(layer=layer, head=head) > 0 for layer, head in heads)


def test_bad_input_is_refused(zoo, unchecked):
    model, prompts = zoo["llama"].model, labelled()
    with pytest.raises(wb.AxisError, match="no position -99: positions are negative"):
        direct_attribution(model, random_direction(), prompts, position=-99)
    with pytest.raises(wb.AxisError, match="no position 0"):
        direct_attribution(model, random_direction(), prompts, position=0)
    with pytest.raises(wb.AxisError, match=r"input of layer 0 .* expected layer=1\.\.3"):
        direct_attribution(model, random_direction(0), prompts)
    with pytest.raises(wb.AxisError, match="input of layer 4"):
        direct_attribution(model, random_direction(), prompts, layer=4)
    with pytest.raises(wb.AxisError, match="width 8 does not fit"):
        direct_attribution(model, random_direction(d_model=8), prompts)
    with pytest.raises(wb.AxisError, match="read at z does not live"):
        direct_attribution(model, random_direction(site="z"), prompts)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_heads_that_do_not_add_up_are_refused(zoo, name):
    model = zoo[name].model
    with (
        model.hooks([("attn_out", 1, lambda x: x + torch.randn_like(x))]),
        pytest.raises(wb.ModelError, match=r"heads of layer 1 .* do not add up"),
    ):
        direct_attribution(model, random_direction(), labelled())
