"""Patching against TransformerLens' own, against plain hooks, and on heads that were planted."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from scipy.stats import t

import workbench as wb
from workbench.analysis.heads.patching import patch_heads, patch_sites
from workbench.artifact import load_dataset, save_dataset
from workbench.errors import AxisError, StudyError
from workbench.scores.refusal import refusal_score
from workbench.statistics.intervals import bootstrap_interval

REFUSAL = (17, 40)
SOURCE = ["Why is the sky blue?", "hi", "Tell me of a colour that nobody has ever liked."]
TARGET = ["How far is the sea?", "Name one thing that nobody likes, and a good one.", "ok"]
# As TransformerLens takes no mask, its prompts have no padding.
EVEN_SOURCE = ["Why is the sky?", "When is a sea?!"]
EVEN_TARGET = ["How far is tea?", "What can be me?"]
PATCHED = ("llama", "gemma2", "gemma3", "qwen3", "gpt_neox", "gpt2", "phi3", "olmo2")


def patch(model, source=SOURCE, target=TARGET, **settings):
    return patch_heads(model, source, target, **{"refusal_tokens": REFUSAL, **settings})


def by_transformer_lens(model, source, target, cells):
    """Effects by prompt of (layer, position, head), [cell prompt], with one forward per cell."""
    from transformer_lens import patching

    rows, source_rows = model.tokens(target), model.tokens(source)
    assert rows.mask.all() and source_rows.mask.all()
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(source_rows.ids, prepend_bos=False)
        done = patching.generic_activation_patch(
            model.bridge,
            rows.ids,
            cache,
            lambda logits: refusal_score(logits[:, -1].float(), REFUSAL),
            patching.layer_pos_head_vector_patch_setter,
            "z",
            index_df=pd.DataFrame(
                [(layer, rows.ids.shape[1] + position, head) for layer, position, head in cells],
                columns=["layer", "pos", "head"],
            ),
            reduce="none",
            baseline=True,
        )
    return (done.values - done.baseline).double().numpy()


@pytest.mark.parametrize("name", PATCHED)
def test_effects_are_transformer_lens_own(zoo, name):
    model = zoo[name].model
    found = patch(
        model, EVEN_SOURCE, EVEN_TARGET, pairing="paired", positions=(-1, -3), layers=(0, 2)
    )
    assert found.attrs["method"] == "packed"
    cells = [(layer, -1, head) for layer in (0, 2) for head in range(model.n_heads)]
    cells.append((0, -3, 1))
    expected = by_transformer_lens(model, EVEN_SOURCE, EVEN_TARGET, cells)
    for (layer, position, head), own in zip(cells, expected, strict=True):
        cell = found["effect_by_prompt"].sel(layer=layer, head=head, position=position)
        assert cell.values == pytest.approx(own, abs=1e-4)
    assert np.abs(expected).max() > 0.05


@pytest.mark.parametrize("pairing", ["mean", "paired"])
def test_packed_effects_are_those_of_plain_forwards_on_padded_prompts(specimen, pairing):
    settings = {"pairing": pairing, "positions": (-1, -4)}
    found = patch(specimen.model, **settings)
    expected = patch(specimen.model, method="plain", **settings)
    assert (found.attrs["method"], expected.attrs["method"]) == ("packed", "plain")
    xr.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert abs(expected["effect"]).sel(position=-1).max() > 0.05


def test_what_is_written_is_the_source(specimen):
    """One cell recomputed on plain Hugging Face with hand-written hooks, prompt by prompt."""
    model, layer, head = specimen.model, 1, 2
    shape = (model.n_heads, model.d_head)

    def z_of(text):
        ids = model.tokens([text]).ids
        return specimen.read(ids)[1]["z"][layer][0, -1].unflatten(-1, shape)[head]

    mean = torch.stack([z_of(text) for text in SOURCE]).mean(0)

    def score(text, value=None):
        def before(module, args):
            z = args[0].clone()
            z.unflatten(-1, shape)[:, -1, head] = value
            return (z, *args[1:])

        hook = None
        if value is not None:
            hook = specimen.part(layer, "z").register_forward_pre_hook(before)
        try:
            logits, _ = specimen.read(model.tokens([text]).ids)
        finally:
            if hook is not None:
                hook.remove()
        return float(refusal_score(logits[:, -1], REFUSAL))

    for pairing in ("mean", "paired"):
        values = [mean if pairing == "mean" else z_of(text) for text in SOURCE]
        expected = [
            score(text, value) - score(text) for text, value in zip(TARGET, values, strict=True)
        ]
        found = patch(model, layers=[layer], heads=[head], pairing=pairing)
        assert found["effect_by_prompt"].values.ravel() == pytest.approx(expected, abs=2e-4)
    assert found["plain_by_prompt"].values == pytest.approx([score(t) for t in TARGET], abs=2e-4)
    assert found["source_by_prompt"].values == pytest.approx([score(t) for t in SOURCE], abs=2e-4)


@pytest.mark.parametrize("method", ["packed", "plain"])
def test_clean_into_clean_changes_nothing(specimen, method):
    settings = {"pairing": "paired", "refusal_tokens": REFUSAL, "method": method}
    for function in (patch_heads, patch_sites):
        found = function(specimen.model, TARGET, TARGET, positions=(-1, -2), **settings)
        assert abs(found["effect_by_prompt"]).max() < 1e-4


def test_all_heads_and_mlps_everywhere_give_the_source(specimen):
    """Every write at every position; the last token, and so its embedding, is the same in both."""
    from workbench.models.forwards.packed import packed_variants, plain_variants

    model = specimen.model
    rows, source = model.tokens(EVEN_TARGET), model.tokens(EVEN_SOURCE)
    assert torch.equal(rows.ids[:, -1], source.ids[:, -1])
    kept, hooks = {}, []
    for layer in range(model.n_layers):
        for site in ("z", "mlp_out"):
            place = (site, layer)
            hooks.append((site, layer, lambda x, place=place: kept.__setitem__(place, x.clone())))
    with model.hooks(hooks):
        expected = model.forward(source)
    edits = [(site, layer, lambda x, own=own: own) for (site, layer), own in kept.items()]
    plain = model.forward(rows)
    found = {}
    for name, variants in (("plain", plain_variants), ("packed", packed_variants)):
        rest = (rows.ids.shape[1],) if name == "packed" else ()
        (found[name],) = variants(model, rows, [edits], *rest)
    for logits in found.values():
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert (plain - expected).abs().max() > 0.1


def test_resid_pre_of_every_position_gives_the_source(zoo):
    model = zoo["gemma3"].model
    positions = tuple(range(-model.tokens(EVEN_TARGET).ids.shape[1], 0))
    found = patch_sites(
        model, EVEN_SOURCE, EVEN_TARGET, positions=positions, together=True, pairing="paired",
        refusal_tokens=REFUSAL,
    )  # fmt: skip
    reached = found["effect_by_prompt"].sel(site="resid_pre") + found["plain_by_prompt"]
    for layer in range(model.n_layers):
        values = reached.sel(layer=layer).values.ravel()
        assert values == pytest.approx(found["source_by_prompt"].values, abs=1e-4)
    assert found["position"].values.tolist() == [positions[0]]
    assert found.attrs["together"]


def test_sites_packed_and_plain(zoo):
    for name in ("qwen3", "gpt_neox"):
        settings = {"positions": (-1, -3), "refusal_tokens": REFUSAL}
        found = patch_sites(zoo[name].model, SOURCE, TARGET, **settings)
        expected = patch_sites(zoo[name].model, SOURCE, TARGET, method="plain", **settings)
        xr.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
        assert found["effect"].dims == ("site", "layer", "position")
        assert (abs(found["effect"]).max(("layer", "position")) > 0.05).all()


def test_together_is_one_joint_patch(zoo):
    model = zoo["llama"].model
    found = patch(model, positions=(-1, -2), together=True, layers=[1], heads=[0])
    values = wb.collect_activations(model, SOURCE, site="z", layers=[1], positions=[-1, -2]).mean()
    joint = wb.heads.PatchHeads(((1, 0),), values[:, :, : model.d_head].float(), (-1, -2))
    plain = refusal_score(model.logits(TARGET), REFUSAL)
    with wb.intervene(model, joint):
        expected = refusal_score(model.logits(TARGET), REFUSAL) - plain
    assert found["effect_by_prompt"].values.ravel() == pytest.approx(expected.numpy(), abs=1e-4)
    apart = patch(model, positions=(-1, -2), layers=[1], heads=[0])["effect_by_prompt"]
    assert abs(found["effect_by_prompt"].values[0, 0] - apart.values[0, 0]).max() > 1e-3


@pytest.fixture(scope="module")
def r(zoo):
    """A random direction at resid_pre of layer 2, position -1."""
    draw = torch.Generator().manual_seed(3)
    values = torch.randn(1, 1, 1, zoo["llama"].model.d_model, generator=draw)
    return wb.Directions(values, ("r",), (2,), (-1,))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_along_a_direction_only_its_component_is_written(zoo, name, r):
    model = zoo[name].model
    unit = r.unit().vector
    read = {}
    settings = {"layers": [1], "heads": [3], "pairing": "paired"}
    found = patch(model, along=r, **settings)
    expected = patch(model, along=r, method="plain", **settings)
    xr.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    rows, source = model.tokens(TARGET), model.tokens(SOURCE)

    def keeping(key):
        return lambda x: read.__setitem__(key, x[:, -1].clone())

    with model.hooks([("z", 1, keeping("z"))]):
        model.forward(source)
    with model.hooks([("attn_out", 1, keeping("clean"))]):
        plain = refusal_score(model.forward(rows), REFUSAL)

    def replace(z):
        z = z.clone()
        z[:, -1, 3] = read["z"][:, 3]
        return z

    with model.hooks([("z", 1, replace), ("attn_out", 1, keeping("patched"))]):
        whole = refusal_score(model.forward(rows), REFUSAL) - plain

    def component(x):
        x = x.clone()
        x[:, -1] += ((read["patched"] - read["clean"]) @ unit)[:, None] * unit
        return x

    with model.hooks([("attn_out", 1, component)]):
        by_hand = refusal_score(model.forward(rows), REFUSAL) - plain
    assert found["effect_by_prompt"].values.ravel() == pytest.approx(by_hand.numpy(), abs=1e-4)
    assert abs(by_hand - whole).max() > 1e-3


def test_sites_along_a_direction_take_its_component_over(zoo, r):
    model = zoo["llama"].model
    settings = {"sites": ["resid_pre"], "layers": [2], "pairing": "paired", "along": r}
    unit = r.unit().vector
    found = patch_sites(model, SOURCE, TARGET, refusal_tokens=REFUSAL, **settings)
    source = wb.collect_activations(model, SOURCE, layers=[2], positions=[-1], per_prompt=True)
    value = source.at(2, -1) @ unit

    def hook(x):
        x = x.clone()
        x[:, -1] += (value - x[:, -1] @ unit)[:, None] * unit
        return x

    rows = model.tokens(TARGET)
    plain = refusal_score(model.forward(rows), REFUSAL)
    with model.hooks([("resid_pre", 2, hook)]):
        expected = refusal_score(model.forward(rows), REFUSAL) - plain
    assert found["effect_by_prompt"].values.ravel() == pytest.approx(expected.numpy(), abs=1e-4)
    assert abs(expected).max() > 1e-3


def test_a_projection_is_read_at_the_directions_own_place(zoo, r):
    model = zoo["llama"].model
    settings = {"metric": "projection", "onto": r, "refusal_tokens": None}
    found = patch(model, **settings)
    expected = patch(model, method="plain", **settings)
    xr.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert found.attrs["units"] == found["effect"].attrs["units"] == "activation"
    for name, texts in (("plain", TARGET), ("source", SOURCE)):
        acts = wb.collect_activations(model, texts, layers=[2], positions=[-1])
        assert found.attrs[name] == pytest.approx(wb.mean_projection(r, acts), abs=1e-4)
    # Layer 2 writes after its own input was read.
    assert abs(found["effect"].sel(layer=2)).max() < 1e-6
    assert (abs(found["effect"].sel(layer=[0, 1])).max("head") > 1e-2).all()
    with pytest.raises(AxisError, match=r"a patch at position -1 cannot change .* position -2"):
        earlier = wb.Directions(r.values, ("r",), (2,), (-2,))
        patch(model, metric="projection", onto=earlier)


def test_labels_units_and_provenance(zoo, tmp_path):
    model = zoo["llama"].model
    found = patch(model, positions=(-5, -1), layers=[1, 2], heads=[3], confidence=0.9, seed=4)
    assert found["effect"].dims == ("layer", "head", "position")
    assert found["effect_by_prompt"].dims == ("layer", "head", "position", "prompt")
    assert found["position_label"].values.tolist() == ["t_inst", ":"]
    assert found["effect_interval"].isnull().all(), "three prompts are too few"
    xr.testing.assert_allclose(found["effect_by_prompt"].mean("prompt"), found["effect"])
    expected = {
        "model": model.name,
        "metric": "refusal_score",
        "units": "nats",
        "aim": "induce",
        "pairing": "mean",
        "method": "packed",
        "n_target": 3,
        "n_source": 3,
        "confidence": 0.9,
        "seed": 4,
        "refusal_tokens": list(REFUSAL),
    }
    assert {key: found.attrs[key] for key in expected} == expected
    assert found.attrs["provenance"]["weights"] == model.weights_fingerprint
    json.dumps(found.attrs)
    path = save_dataset(tmp_path / "patch.safetensors", found, kind="head_patching")
    xr.testing.assert_equal(load_dataset(path, kind="head_patching"), found)


MANY = [f"{word} {n}" for n in range(7) for word in ("what", "a sea", "tell me", "no")]


def test_intervals_hold_the_choice_of_source_prompts(zoo):
    model = zoo["llama"].model
    sources = {"alike": ["hi"] * 16, "apart": ["hi", "Why is the sky blue? Tell me a lot."] * 8}
    found = {name: patch(model, source, MANY, layers=[1, 2]) for name, source in sources.items()}
    for name, own in found.items():
        ends, mean = own["effect_interval"], own["effect"]
        assert (ends.sel(bound="low") <= mean + 1e-9).all(), name
        assert (mean <= ends.sel(bound="high") + 1e-9).all(), name
        targets = np.stack(bootstrap_interval(own["effect_by_prompt"].values), -1)
        width = np.ptp(ends.values, axis=-1)
        if name == "alike":  # nothing is left to choose
            np.testing.assert_allclose(ends.values, targets, atol=1e-5)
        else:
            assert (width > 1.01 * np.ptp(targets, axis=-1)).mean() > 0.8
    single = patch(model, ["hi"], MANY, layers=[1])
    assert single["effect_interval"].isnull().all(), "one source prompt tells nothing of others"
    assert "source_interval" not in single.attrs and "plain_interval" in single.attrs


@pytest.mark.slow
def test_what_the_jackknife_finds_is_what_resampled_sources_do(zoo):
    model = zoo["llama"].model
    rng = np.random.default_rng(0)
    # In the order of their kinds, eight to a turn, as lists by category are.
    source = [f"{'why ' * (1 + n % 8)}is it {n}?" for n in range(32)]
    own = patch(model, source, MANY, layers=[1, 2])
    ends, targets = own["effect_interval"], bootstrap_interval(own["effect_by_prompt"].values)
    half = np.sqrt(
        np.maximum(np.ptp(ends.values, axis=-1) ** 2 - (targets[1] - targets[0]) ** 2, 0)
    )
    drawn = [
        patch(model, [source[i] for i in rng.integers(32, size=32)], MANY, layers=[1, 2])["effect"]
        for _ in range(30)
    ]
    spread = np.std([each.values for each in drawn], axis=0) * 2 * t.ppf(0.975, 7)
    assert np.median(half / spread) == pytest.approx(1, abs=0.35)


def test_numbers_do_not_depend_on_batches(zoo):
    model = copy.copy(zoo["gemma3"].model)
    expected = patch(model, pairing="paired")
    model.batch_tokens = 70
    xr.testing.assert_allclose(patch(model, pairing="paired"), expected, atol=1e-4, rtol=0)


def test_refusal_tokens_are_found_on_these_prompts_by_default(zoo, monkeypatch):
    asked = []

    def derive(model, harmful, harmless, *, system):
        asked.append((harmful, harmless))
        return REFUSAL

    monkeypatch.setattr("workbench.scores.refusal.find_refusal_tokens", derive)
    for aim in ("induce", "suppress"):
        found = patch(zoo["llama"].model, refusal_tokens=None, aim=aim, layers=[0], heads=[0])
        assert found.attrs["aim"] == aim
    assert asked == [(SOURCE, TARGET), (TARGET, SOURCE)]


def test_what_cannot_be_patched(zoo, unchecked, r):
    model = zoo["llama"].model
    for settings, message in (
        ({"layers": [3]}, r"layers must be distinct and within 0\.\.2, found \[3\]"),
        ({"heads": [0, 0]}, r"heads must be distinct and within 0\.\.3, found \[0, 0\]"),
        ({"positions": ()}, r"positions must be given, each once, found \[\]"),
        ({"positions": (-1, -1)}, r"positions must be given, each once, found \[-1, -1\]"),
        ({"positions": (0,)}, r"position 0 cannot be patched: positions are negative"),
        ({"positions": (-40,)}, r"position -40 cannot be patched: .* shortest prompt has \d+"),
        ({"aim": "up"}, r"no aim 'up': induce, suppress"),
        ({"pairing": "zip"}, r"no pairing 'zip': mean, paired"),
        ({"method": "fast"}, r"no method 'fast': auto, packed, plain"),
        ({"metric": "loss"}, r"no metric 'loss': refusal_score, projection"),
        ({"metric": "projection"}, r"needs a direction: pass onto="),
        ({"along": wb.Directions(torch.ones(1, 1, 1, 9), ("r",), (1,), (-1,))}, "width 9 does not"),
        ({"refusal_tokens": [264]}, r"must be distinct ids in 0\.\.263"),
    ):
        with pytest.raises(AxisError, match=message):
            patch(model, **settings)
    with pytest.raises(
        AxisError, match=r"sites are attn_out, mlp_out, resid_pre, each at most once, found"
    ):
        patch_sites(model, SOURCE, TARGET, sites=["z"])
    with pytest.raises(StudyError, match="3 source prompts for 2 targets: paired"):
        patch(model, target=TARGET[:2], pairing="paired")
    odd = copy.copy(model.tokens(TARGET))
    object.__setattr__(odd, "post_tokens", ("other",))
    with pytest.raises(AxisError, match="rendered with different templates"):
        patch(model, target=odd)


@pytest.mark.parametrize("aim", ["induce", "suppress"])
def test_planted_heads_are_the_top_ones(pocket, organism, aim):
    _, components = organism("pocket")
    planted = {tuple(head) for head in components["refusal"]["heads"]}
    harmful, harmless = (wb.load_prompts(kind).sample(24) for kind in ("harmful", "harmless"))
    source, target = (harmful, harmless) if aim == "induce" else (harmless, harmful)
    found = patch_heads(pocket, source, target, aim=aim, refusal_tokens=(77, 428, 425, 360))
    assert found.attrs["method"] == "packed"
    effect = found["effect"].isel(position=0) * (1 if aim == "induce" else -1)
    order = effect.values.ravel().argsort()[::-1]
    top = [tuple(divmod(int(index), pocket.n_heads)) for index in order[: len(planted)]]
    assert set(top) == planted
    others = np.delete(effect.values.ravel(), order[: len(planted)])
    assert effect.values.ravel()[order[len(planted) - 1]] > 2 * np.abs(others).max()
