"""The linearised screen is TransformerLens' attribution patching, on padded batches too."""

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.stats import spearmanr

import workbench as wb
from workbench.analysis.heads.screen import _with_agreement, attribution_patching, spearman
from workbench.errors import StudyError
from workbench.scores.refusal import refusal_score

REFUSAL = (50, 60)
SOURCE, TARGET = ["abc def", "kkz qwe"], ["mno pqr", "stu vwx"]


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt_neox", "gpt2", "olmo2", "phi3"])
def test_the_estimate_is_transformer_lens_own(make_network, make_tokenizer, name):
    from transformer_lens.tools.analysis.attribution_patching import Node, attribution_patch

    model = wb.load_model(make_network(name), tokenizer=make_tokenizer())
    model.network.requires_grad_(True)  # theirs differentiates by weights' graph; ours does not
    rows = [model.tokens(texts).ids for texts in (SOURCE, TARGET)]

    def metric(logits):
        return refusal_score(logits[:, -1].float(), REFUSAL).sum()

    theirs = attribution_patch(model.bridge, *rows, metric).node_scores
    ours = attribution_patching(
        model, SOURCE, TARGET, positions=(-1, -3), pairing="paired", refusal_tokens=REFUSAL
    )["estimate"]
    assert abs(ours).max() > 0.1
    for layer, head, position in np.ndindex(3, 4, 2):
        at = (-1, -3)[position]
        node = Node("attn_head_out", rows[0].shape[1] + at, layer, head)
        assert float(ours.sel(layer=layer, head=head, position=at)) == pytest.approx(
            theirs[node], abs=1e-5
        )


def test_it_is_the_slope_of_the_exact_patch(zoo):
    """A hundredth of the way to the source moves the score by a hundredth of the estimate."""
    model = zoo["gemma3"].model
    source, target, step = ["abc", "a longer source"], ["de", "fghijk lm"], 0.01
    found = attribution_patching(model, source, target, positions=(-2,), refusal_tokens=REFUSAL)
    z = wb.collect_activations(model, source, site="z", layers=[1], positions=[-2], per_prompt=True)
    wanted = z.values[:, 0, 0].mean(0).unflatten(0, (4, -1))

    def towards(x):
        x = x.clone()
        x[:, -2, 3] += step * (wanted[3].to(x) - x[:, -2, 3])
        return x

    plain = refusal_score(model.logits(target), REFUSAL)
    with model.hooks([("z", 1, towards)]):
        moved = refusal_score(model.logits(target), REFUSAL)
    estimate = found["estimate_by_prompt"].sel(layer=1, head=3, position=-2).values
    np.testing.assert_allclose((moved - plain) / step, estimate, atol=2e-2 * abs(estimate).max())
    np.testing.assert_allclose(found["plain_by_prompt"], plain, atol=1e-5)


def test_patching_a_prompt_into_itself_is_estimated_as_nothing(zoo):
    found = attribution_patching(
        zoo["qwen3"].model, TARGET, TARGET, pairing="paired", refusal_tokens=REFUSAL
    )
    assert abs(found["estimate_by_prompt"]).max() < 1e-6


def exact_like(screen, noise=0.0, prompts=None):
    """A patching result whose effects are the screen's estimates, cubed."""
    rng = np.random.default_rng(0)
    values = screen["estimate_by_prompt"] ** 3 + noise * rng.normal(
        size=screen["estimate_by_prompt"].shape
    )
    exact = xr.Dataset({"effect_by_prompt": values, "effect": values.mean("prompt")})
    same = {name: screen.attrs[name] for name in ("pairing", "aim", "refusal_tokens")}
    exact = exact.assign_attrs(same, metric="refusal_score", together=False, along=None)
    return exact if prompts is None else exact.assign_coords(prompt=prompts)


def test_agreement_is_spearmans_over_the_cells_of_both(zoo):
    model = zoo["llama"].model
    target = ["mno", "stu vw", "x y z"]
    settings = {"refusal_tokens": REFUSAL, "positions": (-1, -2)}
    screen = attribution_patching(model, SOURCE, target, **settings)
    exact = exact_like(screen, noise=1e-6).sel(layer=[0, 2], position=[-2])
    found = attribution_patching(model, SOURCE, target, exact=exact, **settings)
    ours = screen["estimate"].sel(layer=[0, 2], position=-2).values.ravel()
    theirs = exact["effect"].sel(position=-2).values.ravel()
    assert float(found["rank_correlation"][0]) == pytest.approx(spearmanr(ours, theirs).statistic)
    assert found["compared_position"].values.tolist() == [-2] and found.attrs["n_cells"] == 8
    low, high = found["rank_correlation_interval"].values[0]
    assert -1 <= low <= high <= 1


def test_a_constant_has_no_rank_correlation():
    assert np.isnan(spearman(np.ones(4), np.arange(4.0)))


def test_bad_input_is_refused(zoo, unchecked):
    model = zoo["llama"].model
    settings = {"refusal_tokens": REFUSAL}
    screen = attribution_patching(model, SOURCE, TARGET, **settings)
    for wrong, message in (
        ({"pairing": "mixed"}, "no pairing 'mixed': mean, paired"),
        ({"aim": "up"}, "no aim 'up'"),
        ({"positions": ()}, "positions must be given"),
        ({"positions": (0,)}, "position 0 cannot be patched"),
        ({"layers": [0, 0]}, "layers must be distinct"),
        ({"layers": [3]}, "no layer 3"),
    ):
        with pytest.raises(wb.AxisError, match=message):
            attribution_patching(model, SOURCE, TARGET, **settings, **wrong)
    for exact, message in (
        (screen, "no effect_by_prompt"),
        (exact_like(screen, prompts=["a", "b"]), "other target prompts"),
        (exact_like(screen).isel(layer=[0], head=[0]), "only 1 cells"),
    ):
        with pytest.raises(wb.StudyError, match=message):
            attribution_patching(model, SOURCE, TARGET, exact=exact, **settings)
    with pytest.raises(wb.StudyError, match="2 source prompts for 1 targets"):
        attribution_patching(model, SOURCE, TARGET[:1], pairing="paired", **settings)


def test_weights_gather_no_gradient(zoo):
    model = zoo["llama"].model
    attribution_patching(model, SOURCE, TARGET, refusal_tokens=REFUSAL)
    assert all(weight.grad is None for weight in model.network.parameters())
    assert not model.forward(model.tokens(TARGET)).requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metric", "projection"), ("pairing", "paired"), ("aim", "suppress"),
        ("refusal_tokens", [1]), ("together", True), ("along", "r"),
    ],
)  # fmt: skip
def test_another_quantity_is_not_compared(zoo, name, value):
    model = zoo["llama"].model
    exact = wb.heads.patch_heads(model, SOURCE, TARGET, refusal_tokens=(17, 40))
    assert "rank_correlation" in attribution_patching(
        model, SOURCE, TARGET, refusal_tokens=(17, 40), exact=exact
    )
    with pytest.raises(StudyError, match=rf"exact= was measured with {name}="):
        attribution_patching(
            model, SOURCE, TARGET, refusal_tokens=(17, 40),
            exact=exact.assign_attrs({name: value}),
        )  # fmt: skip


def test_heads_without_effect_do_not_count_against_a_screen(zoo):
    # A perfect screen of 12 heads, 3 without effect, seen through the noise of 40 prompts.
    model = zoo["llama"].model
    target = [f"{'abc'[i % 3]}no {i}" for i in range(40)]
    screen = attribution_patching(model, SOURCE, target, refusal_tokens=REFUSAL)
    rng = np.random.default_rng(0)
    truth = np.zeros(screen["estimate"].shape)
    truth[:2, :, 0] = np.arange(1, 9).reshape(2, 4)
    cells = screen["estimate_by_prompt"]
    raw, own = [], []
    for _ in range(20):
        noisy = [cells.copy(data=truth[..., None] + 2 * rng.normal(size=cells.shape)) for _ in "se"]
        exact = exact_like(screen).assign(effect_by_prompt=noisy[1], effect=noisy[1].mean("prompt"))
        found = _with_agreement(screen.assign(estimate_by_prompt=noisy[0]), exact, 0.95, 0)
        raw.append(float(found["rank_correlation"][0]))
        own.append(float(found["rank_correlation_above_noise"][0]))
        low, high = found["rank_correlation_above_noise_interval"].values[0]
        assert low <= own[-1] <= high
        assert 7 <= int(found["n_above_noise"][0]) <= 9
    assert np.mean(raw) < np.mean(own) > 0.95
    nothing = exact_like(screen).assign(
        effect_by_prompt=cells.copy(data=rng.normal(size=cells.shape))
    )
    found = _with_agreement(screen, nothing, 0.95, 0)
    assert found["rank_correlation_above_noise"].isnull().all()
    assert found["rank_correlation"].notnull().all()
