"""The sweep against a recomputation by hand on plain Hugging Face, prompt by prompt."""

import copy
import json

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench import figures
from workbench.activations import collect_activations
from workbench.analysis.selection.sweep import sweep_directions
from workbench.artifact import load_dataset, save_dataset
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.errors import AxisError, StudyError
from workbench.statistics.intervals import bootstrap_interval

HARMFUL = ["How far is the sea?", "hi", "Name a colour that nobody likes."]
HARMLESS = ["42 plus 7", "Is the tea cold by now?", "ok", "What a day"]
REFUSAL = (17, 40)
SCORES = ("bypass", "induce", "kl")


def candidates(model):
    """Mean differences at every layer; the position t_inst and two after it."""
    acts = [
        collect_activations(model, prompts, positions=[-5, -2, -1])
        for prompts in (HARMFUL, HARMLESS)
    ]
    return mean_difference(*acts)


def sweep(model, directions, **settings):
    settings = {"refusal_tokens": REFUSAL, **settings}
    return sweep_directions(model, directions, harmful=HARMFUL, harmless=HARMLESS, **settings)


def plain_logits(specimen, text, hooks=()):
    """Last-position logits of one unpadded prompt, with hand-written hooks on plain modules."""
    handles = [register(hook) for register, hook in hooks]
    try:
        logits, _ = specimen.read(specimen.model.tokens([text]).ids)
    finally:
        for handle in handles:
            handle.remove()
    return logits[0, -1].double()


def ablation_hooks(specimen, r):
    unit = r / r.norm()

    def without(x):
        return x - (x @ unit)[..., None] * unit

    def after(module, args, output):
        return (without(output[0]), *output[1:]) if isinstance(output, tuple) else without(output)

    def before(module, args):
        return without(args[0]), *args[1:]

    parts = [
        specimen.part(layer, site)
        for layer in range(len(specimen.blocks))
        for site in ("attn_out", "mlp_out")
    ]
    return [(specimen.blocks[0].register_forward_pre_hook, before)] + [
        (part.register_forward_hook, after) for part in parts
    ]


def addition_hooks(specimen, r, layer):
    def before(module, args):
        return args[0] + r, *args[1:]

    return [(specimen.blocks[layer].register_forward_pre_hook, before)]


def score(logits):
    p = torch.softmax(logits, -1)[list(REFUSAL)].sum()
    return float(torch.log(p + 1e-8) - torch.log(1 - p + 1e-8))


def divergence(plain, changed):
    p, q = torch.softmax(plain, -1), torch.softmax(changed, -1)
    return float((p * (torch.log(p + 1e-6) - torch.log(q + 1e-6))).sum())


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox", "gpt2"])
def test_numbers_equal_a_recomputation_by_hand(zoo, name):
    specimen = zoo[name]
    directions = candidates(specimen.model)
    found = sweep(specimen.model, directions)
    for layer, position in ((1, -1), (2, -5)):
        r = directions.at(layer=layer, position=position).vector
        ablated, added = ablation_hooks(specimen, r), addition_hooks(specimen, r, layer)
        expected = {
            "bypass": [score(plain_logits(specimen, text, ablated)) for text in HARMFUL],
            "induce": [score(plain_logits(specimen, text, added)) for text in HARMLESS],
            "kl": [
                divergence(plain_logits(specimen, text), plain_logits(specimen, text, ablated))
                for text in HARMLESS
            ],
        }
        cell = found.sel(layer=layer, position=position)
        for variable, values in expected.items():
            assert cell[f"{variable}_by_prompt"].values == pytest.approx(values, abs=2e-4)
            assert cell[variable].item() == pytest.approx(np.mean(values), abs=2e-4)
        assert cell["norm"].item() == pytest.approx(r.norm().item(), rel=1e-5)
    for kind, prompts in (("harmful", HARMFUL), ("harmless", HARMLESS)):
        baseline = np.mean([score(plain_logits(specimen, text)) for text in prompts])
        assert found.attrs[f"{kind}_baseline"] == pytest.approx(baseline, abs=2e-4)
    assert found["kl"].max() > 0.01


@settings(max_examples=8)
@given(batch_tokens=st.integers(1, 400))
def test_numbers_do_not_depend_on_who_shares_the_batch(zoo, batch_tokens):
    model = copy.copy(zoo["llama"].model)
    directions = candidates(model).at(layer=[1, 2], position=[-1])
    expected = sweep(model, directions)
    model.batch_tokens = batch_tokens
    found = sweep(model, directions)
    for name in (*SCORES, *(f"{name}_by_prompt" for name in SCORES)):
        xr.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_a_planted_direction_induces_most(zoo):
    model = copy.copy(zoo["llama"].model)
    refusal = model.network.lm_head.weight[REFUSAL[0]].detach()
    noise = torch.randn(1, 1, 4, model.d_model, generator=torch.Generator().manual_seed(0))
    noise[0, 0, 2] = refusal
    values = 20 * noise / noise.norm(dim=-1, keepdim=True)
    directions = Directions(values, ("planted",), (2,), (-4, -3, -2, -1))
    found = sweep(model, directions, refusal_tokens=REFUSAL[:1])
    assert found["induce"].values.argmax() == 2
    assert found["induce"].max() > found.attrs["harmless_baseline"] + 1


def test_zero_but_for_rounding_has_no_score_and_no_interval(zoo):
    directions = candidates(zoo["llama"].model)
    assert directions.degenerate[0].tolist() == [[False, True, True]] + [[False] * 3] * 2
    found = sweep(zoo["llama"].model, directions)
    for name in (*SCORES, "kl_median", "kl_max"):
        for variable in (name, f"{name}_by_prompt"):
            if variable not in found:
                continue
            missing = found[variable].isnull()
            assert missing.sel(layer=0, position=[-2, -1]).all()
            assert not missing.sel(layer=[1, 2]).any()
            assert not missing.sel(layer=0, position=-5).any()
    assert not found["norm"].isnull().any()


def test_intervals_hold_the_means(zoo):
    model = zoo["llama"].model
    many = {
        "harmful": [f"{word} {n}" for n in range(10) for word in ("what", "a sea", "tell")],
        "harmless": [f"{word} {n}" for n in range(10) for word in ("no", "is it", "add 2 to")],
    }
    found = sweep_directions(
        model, candidates(model), **many, refusal_tokens=REFUSAL, confidence=0.9
    )
    for name in SCORES:
        interval, mean = found[f"{name}_interval"], found[name]
        if name == "kl":
            assert interval.isnull().all(), "a few prompts make its mean"
            continue
        prompt = "harmful_prompt" if name == "bypass" else "harmless_prompt"
        scores = found[f"{name}_by_prompt"].transpose(..., prompt).values
        expected = np.stack(bootstrap_interval(scores, 0.9, seed=0), -1)
        np.testing.assert_allclose(interval.values, expected)
        assert np.isfinite(expected).any()
        xr.testing.assert_allclose(found[f"{name}_by_prompt"].mean(prompt, skipna=False), mean)
    for kind in ("harmful", "harmless"):
        low, high = found.attrs[f"{kind}_baseline_interval"]
        assert low <= found.attrs[f"{kind}_baseline"] <= high
    by_prompt = found["kl_by_prompt"]
    middle = by_prompt.median("harmless_prompt", skipna=False)
    np.testing.assert_allclose(found["kl_median"], middle)
    np.testing.assert_allclose(found["kl_max"], by_prompt.max("harmless_prompt", skipna=False))
    ends = found["kl_median_interval"]
    inside = (ends.sel(bound="low") <= middle) & (middle <= ends.sel(bound="high"))
    assert (inside | middle.isnull()).all() and inside.any()


def test_with_few_prompts_there_is_no_interval_and_no_word_of_one(zoo):
    found = sweep(zoo["llama"].model, candidates(zoo["llama"].model))
    for name in SCORES:
        assert found[f"{name}_interval"].isnull().all()
    assert not [name for name in found.attrs if name.endswith("_interval")]
    assert "from 28 on" in found.attrs["interval"]
    assert "no intervals: too few prompts" in figures.sweep(found).layout.title.subtitle.text


def test_labels_units_and_provenance(zoo):
    model = zoo["llama"].model
    directions = candidates(model)
    found = sweep(model, directions, tokens="prompt", seed=3)
    assert found["bypass"].dims == ("layer", "position")
    assert found["layer"].values.tolist() == [0, 1, 2]
    assert found["position"].values.tolist() == [-5, -2, -1]
    assert found["position_label"].values.tolist() == ["t_inst", "a", ":"]
    assert all(found[name].attrs["units"] == "nats" for name in SCORES)
    expected = {
        "model": model.name,
        "site": "resid_pre",
        "name": "refusal",
        "n_layers": 3,
        "tokens": "prompt",
        "n_harmful": 3,
        "n_harmless": 4,
        "confidence": 0.95,
        "seed": 3,
        "refusal_tokens": list(REFUSAL),
        "refusal_token_texts": [model.tokenizer.decode([token]) for token in REFUSAL],
    }
    assert {key: found.attrs[key] for key in expected} == expected
    assert found.attrs["provenance"]["weights"] == model.weights_fingerprint
    assert found.attrs["provenance"]["directions"]["method"] == "mean_difference"
    json.dumps(found.attrs)


def test_a_sweep_is_an_artifact(zoo, tmp_path):
    found = sweep(zoo["llama"].model, candidates(zoo["llama"].model))
    path = save_dataset(tmp_path / "sweep.safetensors", found, kind="sweep")
    xr.testing.assert_identical(load_dataset(path, kind="sweep"), found)


def test_the_subset_of_tokens_is_obeyed(zoo):
    model = zoo["llama"].model
    directions = candidates(model).at(layer=1, position=-1)
    found = {
        tokens: sweep(model, directions, tokens=tokens) for tokens in ("all", "last", "prompt")
    }
    assert abs(found["last"]["induce"] - found["all"]["induce"]).item() > 0.01
    xr.testing.assert_allclose(found["prompt"]["induce"], found["all"]["induce"], atol=1e-4)
    xr.testing.assert_allclose(found["prompt"]["bypass"], found["all"]["bypass"], atol=1e-4)
    none = sweep(model, directions, tokens="generated")
    assert none["bypass"].item() == pytest.approx(none.attrs["harmful_baseline"], abs=1e-5)
    assert none["kl"].item() == pytest.approx(0, abs=1e-9)


def test_refusal_tokens_are_found_on_these_prompts_by_default(zoo, monkeypatch):
    asked = []

    def derive(*arguments, system):
        asked.append((*arguments, system))
        return REFUSAL

    monkeypatch.setattr("workbench.scores.refusal.find_refusal_tokens", derive)
    model = zoo["llama"].model
    directions = candidates(model).at(layer=1, position=-1)
    found = sweep(model, directions, refusal_tokens=None)
    assert asked == [(model, HARMFUL, HARMLESS, None)]
    assert found.attrs["refusal_tokens_from"] == "found on the prompts that are scored"
    given = sweep(model, directions).assign_attrs(
        refusal_tokens_from=found.attrs["refusal_tokens_from"]
    )
    xr.testing.assert_identical(found, given)


def test_the_model_stays_as_it_was(zoo):
    model = zoo["llama"].model
    before = model.logits(HARMFUL)
    sweep(model, candidates(model))
    assert torch.equal(model.logits(HARMFUL), before)


def test_what_cannot_be_swept(zoo):
    model = zoo["llama"].model
    two = Directions(torch.ones(2, 1, 1, 32), ("fraud", "drugs"), (1,), (-1,))
    with pytest.raises(AxisError, match=r"takes one direction, found fraud, drugs\. Choose with"):
        sweep(model, two)
    wide = Directions(torch.ones(1, 1, 1, 33), ("r",), (1,), (-1,))
    with pytest.raises(AxisError, match="width 33 does not fit"):
        sweep(model, wide)
    late = Directions(torch.ones(1, 1, 1, 32), ("r",), (9,), (-1,))
    with pytest.raises(AxisError, match="no layer 9"):
        sweep(model, late)
    with pytest.raises(AxisError, match=r"must be distinct ids in 0\.\.263"):
        sweep(model, candidates(model), refusal_tokens=[264])


def test_a_trained_checkpoint_is_swept_as_batches_of_one_would_be(craftgpt):
    prompts = {"harmful": ["how are you?", "go away"], "harmless": ["hi", "tell me about cats"]}
    directions = mean_difference(
        *(collect_activations(craftgpt, prompts[kind], layers=[2, 3]) for kind in prompts)
    )
    tokens = craftgpt.tokenizer("sorry i no", add_special_tokens=False)["input_ids"]
    expected = sweep_directions(craftgpt, directions, refusal_tokens=tokens, **prompts)
    alone = copy.copy(craftgpt)
    alone.batch_tokens = 1
    found = sweep_directions(alone, directions, refusal_tokens=tokens, **prompts)
    for name in SCORES:
        xr.testing.assert_allclose(found[name], expected[name], atol=1e-4)


def test_refusal_tokens_come_from_other_prompts_than_are_scored(pocket, small_run):
    one = small_run.direction
    harmful, harmless = (wb.load_prompts(label) for label in ("harmful", "harmless"))
    scored = {"harmful": harmful[:8], "harmless": harmless[:8]}
    others = (harmful[8:24], harmless[8:24])
    own = wb.sweep_directions(pocket, one, **scored)
    assert own.attrs["refusal_tokens_from"] == "found on the prompts that are scored"
    found = wb.sweep_directions(pocket, one, **scored, refusal_tokens_from=others)
    assert found.attrs["refusal_tokens_from"] == "found on other prompts than are scored"
    assert found.attrs["refusal_tokens"] == list(wb.find_refusal_tokens(pocket, *others))
    given = wb.sweep_directions(pocket, one, **scored, refusal_tokens=[3])
    assert given.attrs["refusal_tokens_from"] == "given"
    said = "refusal tokens found on these prompts"
    for scores, there in ((own, True), (found, False), (given, False)):
        subtitle = wb.figures.sweep(scores).to_dict()["layout"]["meta"]["subtitle"]
        assert (said in subtitle) is there
    with pytest.raises(wb.StudyError, match="1 of the prompts in refusal_tokens_from= are among"):
        wb.sweep_directions(
            pocket, one, **scored, refusal_tokens_from=(harmful[7:24], harmless[8:24])
        )
    with pytest.raises(wb.StudyError, match="not both"):
        wb.sweep_directions(pocket, one, **scored, refusal_tokens=[3], refusal_tokens_from=others)


def test_prompts_on_the_wrong_side_are_refused(pocket):
    bad, good = (wb.load_prompts(kind).sample(4) for kind in ("harmful", "harmless"))
    vector = torch.ones(pocket.d_model)
    r = wb.Directions.from_vector(vector, layer=3, position=-1)
    with pytest.raises(StudyError, match=r"given as harmful are all labelled harmless\. Swap"):
        wb.sweep_directions(pocket, r, harmful=good, harmless=bad, refusal_tokens=[5])
    with pytest.raises(StudyError, match="given as harmless are all labelled harmful"):
        wb.sweep_directions(pocket, r, harmful=bad, harmless=bad, refusal_tokens=[5])
    with pytest.raises(StudyError, match="2 prompts are given both as harmful and as harmless"):
        wb.selection.sweep_cosmic(
            pocket, r, harmful=["Sew", "sing", "Bake"], harmless=["sew", "Sing  "]
        )
    last = wb.Directions.from_vector(vector, layer=pocket.n_layers, position=-1)
    for measure in (wb.sweep_directions, wb.selection.sweep_cosmic):
        with pytest.raises(
            AxisError, match=r"output of the last block of .* where nothing is edited"
        ):
            measure(pocket, last, harmful=bad, harmless=good)
