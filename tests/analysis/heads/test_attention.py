"""Attention is the model's own, and its mass is told apart by what the tokens are."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analysis.heads.attention import collect_attention

HEADS = [(2, 1), (0, 3), (2, 0)]


def labelled():
    """Prompts of different lengths and labels, and one longer than any sliding window."""
    harmful = wb.PromptSet.from_texts(["abc def", "kk"], "harmful", name="a")
    return harmful + wb.PromptSet.from_texts(["a longer one than that", "z"], "harmless", name="b")


@pytest.mark.parametrize("position", [-1, -3])
def test_attention_is_hugging_faces(specimen, position):
    prompts = labelled()
    found = collect_attention(specimen.model, HEADS, prompts, position=position)
    tokens = specimen.model.tokens(prompts)
    with torch.no_grad():
        patterns = specimen.plain(
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
            position_ids=tokens.position_ids,
            output_attentions=True,
            use_cache=False,
        ).attentions
    for row, (layer, head) in enumerate(HEADS):
        there = patterns[layer][:, head, position].where(tokens.mask, torch.nan)
        np.testing.assert_allclose(found["attention"][:, row], there, atol=1e-5)
    # Nothing is lost at padding: what is left adds up to one.
    np.testing.assert_allclose(found["attention"].sum("token"), 1, atol=1e-5)
    np.testing.assert_allclose(found["mass_by_prompt"].sum("part"), 1, atol=1e-5)


def test_parts_are_the_template_and_the_words(zoo):
    found = collect_attention(zoo["llama"].model, HEADS[:1], labelled())
    for row, text in enumerate(labelled().texts):
        own = found.isel(prompt=row)
        words = own["token_text"].where(own["token_part"] == "instruction", "").values
        assert "".join(words) == text
        by_hand = own["attention"][0].where(own["token_part"] == "instruction").sum()
        assert float(own["mass_by_prompt"].sel(part="instruction")[0]) == pytest.approx(
            float(by_hand), abs=1e-6
        )
        first = own["attention"][0].dropna("token")[0]
        assert float(own["first_token_by_prompt"][0]) == pytest.approx(float(first), abs=1e-6)
        rendered = zoo["llama"].model.template.render(text)
        assert "".join(own["token_text"].values) == rendered


def test_groups_have_means_and_intervals(zoo):
    found = collect_attention(zoo["llama"].model, HEADS, labelled())
    assert found["head"].values.tolist() == ["2.1", "0.3", "2.0"]
    means = found["mass_by_prompt"][:2].mean("prompt") - found["mass_by_prompt"][2:].mean("prompt")
    np.testing.assert_allclose(found["mass"].sel(group="difference"), means)
    assert found["mass_interval"].isnull().all(), "two prompts of a label are too few"


def test_pockets_planted_heads_look_elsewhere_when_a_request_is_harmful(pocket):
    sets = [wb.load_prompts(label).sample(12) for label in ("harmful", "harmless")]
    planted = [(3, 2), (3, 3), (4, 4), (4, 5)]
    mass = collect_attention(pocket, planted, sets[0] + sets[1])["mass"]
    assert abs(mass.sel(group="difference")).max() > 0.5
    for group in ("harmful", "harmless"):
        np.testing.assert_allclose(mass.sel(group=group).sum("part"), 1, atol=1e-5)


def test_it_can_be_saved(zoo, tmp_path):
    from workbench.artifact import load_dataset, save_dataset

    found = collect_attention(zoo["llama"].model, HEADS, labelled())
    path = save_dataset(tmp_path / "attention.safetensors", found, kind="head_attention")
    assert load_dataset(path, kind="head_attention").equals(found)


def test_bad_input_is_refused(zoo, unchecked):
    model = zoo["llama"].model
    for heads, message in (
        ([], "at least one"),
        ([(0, 0), (0, 0)], "each once"),
        ([(9, 0)], "no layer 9"),
        ([(0, 4)], "no head 4 .*: heads 0..3"),
    ):
        with pytest.raises(wb.AxisError, match=message):
            collect_attention(model, heads, labelled())
    with pytest.raises(wb.AxisError, match="no position -99"):
        collect_attention(model, HEADS, labelled(), position=-99)
