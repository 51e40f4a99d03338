"""Measuring the chosen direction again: the choice flatters it, the test prompts do not."""

import numpy as np
import pytest
import torch
import xarray as xr

import workbench as wb
from workbench.analysis.selection import held_out
from workbench.scores.refusal import kl_divergence

LAYERS, POSITIONS = range(1, 6), (-4, -3, -2, -1)
TRUTH = {"bypass": -8.0, "induce": 6.0, "kl": 0.02}
SPREAD = {"bypass": 2.0, "induce": 2.0, "kl": 0.01}


def swept(rng, n_prompts, skipped=None):
    """A sweep of candidates that are all equally good, each with its own noise."""
    cell, shape = ("layer", "position"), (len(LAYERS), len(POSITIONS), n_prompts)
    variables = {}
    for name, truth in TRUTH.items():
        kind = "harmful_prompt" if name == "bypass" else "harmless_prompt"
        values = truth + SPREAD[name] * rng.standard_normal(shape)
        if skipped is not None:
            values[skipped] = np.nan
        error = 2 * values.std(-1) / np.sqrt(n_prompts)
        ends = np.stack([values.mean(-1) - error, values.mean(-1) + error], -1)
        variables[name] = (cell, values.mean(-1), {"units": "nats"})
        variables[f"{name}_interval"] = ((*cell, "bound"), ends)
        variables[f"{name}_by_prompt"] = ((*cell, kind), values)
    coords = {"layer": [*LAYERS], "position": [*POSITIONS], "bound": ["low", "high"]}
    return xr.Dataset(variables, coords, attrs={"n_layers": 10})


def test_among_near_ties_the_choice_flatters_and_the_test_prompts_do_not(monkeypatch, pocket):
    rng = np.random.default_rng(0)
    ones = torch.ones(1, len(LAYERS), len(POSITIONS), 4)
    directions = wb.Directions(ones, ("r",), tuple(LAYERS), POSITIONS, "resid_pre")

    def again(model, grid, **_settings):
        full = swept(rng, 16)
        at = full.sel(layer=list(grid.layers), position=list(grid.positions))
        return at.where(~xr.DataArray(grid.degenerate[0].numpy(), dims=("layer", "position")))

    monkeypatch.setattr(held_out, "sweep_directions", again)
    errors = {"chosen_by_bypass": [], "bypass": []}
    for _ in range(60):
        choice = wb.select_direction(swept(rng, 16))
        found = wb.selection.measure_held_out(
            pocket, directions, choice, harmful=["a"], harmless=["b"], refusal_tokens=[3]
        )
        first = found.sel(candidate=0)
        assert (int(first["layer"]), int(first["position"])) == (choice.layer, choice.position)
        assert found.sizes["candidate"] == 5
        for name, own in errors.items():
            own.append(float(first[name]) - TRUTH["bypass"])
    # The best of 20 means with a standard error of 0.5 lies 0.93 below the truth.
    assert np.mean(errors["chosen_by_bypass"]) == pytest.approx(-0.93, abs=0.15)
    assert np.mean(errors["bypass"]) == pytest.approx(0, abs=0.2)


def test_a_run_measures_what_it_chose_on_kept_test_prompts(small_run, pocket):
    found, choice = small_run.held_out, small_run.choice
    top = choice.top
    assert [*zip(found["layer"].values, found["position"].values, strict=True)] == [
        *zip(top["layer"], top["position"], strict=True)
    ]
    np.testing.assert_array_equal(found["chosen_by_bypass"], top["bypass"])
    np.testing.assert_array_equal(found["chosen_by_kl_interval"].sel(bound="high"), top["kl_high"])
    tokens = small_run.scores.attrs["refusal_tokens"]
    texts = {}
    for label, sign in (("harmful", 1), ("harmless", -1)):
        rows = small_run.replies.query("condition == 'plain' and prompt_set == @label")
        scores = wb.refusal_score(pocket.logits(rows["prompt"].tolist()), tokens) * sign
        texts[label] = [
            text for text, score in zip(rows["prompt"], scores.tolist(), strict=True) if score > 0
        ]
        assert found.attrs[f"n_{label}"] == len(texts[label])
    first = found.sel(candidate=0)
    plain = pocket.logits(texts["harmless"])
    with wb.intervene(pocket, wb.Ablate(small_run.direction)):
        bypass = wb.refusal_score(pocket.logits(texts["harmful"]), tokens)
        kl = kl_divergence(plain, pocket.logits(texts["harmless"]))
    with wb.intervene(pocket, wb.Add(small_run.direction)):
        induce = wb.refusal_score(pocket.logits(texts["harmless"]), tokens)
    for name, scores in (("bypass", bypass), ("induce", induce), ("kl", kl)):
        assert float(first[name]) == pytest.approx(float(scores.mean()), rel=1e-4, abs=1e-6)


def test_a_choice_of_other_directions_is_refused(small_run, pocket):
    none = small_run.directions.at(layer=[1, 2], position=[-1])
    with pytest.raises(wb.AxisError, match="no layer"):
        wb.selection.measure_held_out(
            pocket, none, small_run.choice, harmful=["a"], harmless=["b"], refusal_tokens=[3]
        )
