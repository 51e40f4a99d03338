"""COSMIC: activations alone find the planted direction, near the one that the rule chooses."""

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analysis.selection import cosmic


def cosine(first, second):
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


def read(model, texts, layers):
    acts = wb.collect_activations(model, texts, layers=layers, positions=[-1], per_prompt=True)
    return acts.values[:, :, 0].double().numpy().mean((0, 1))


@pytest.fixture(scope="module")
def prompts():
    harmful, harmless = (wb.load_prompts(label).sample(80) for label in ("harmful", "harmless"))
    return {"harmful": harmful.texts[:10], "harmless": harmless.texts[:10]}


@pytest.fixture(scope="module")
def few(small_run):
    """Two layers and two positions of a run's candidates."""
    return small_run.directions.at(layer=[4, 5], position=[-2, -1])


@pytest.fixture(scope="module")
def scores(pocket, few, prompts):
    return wb.selection.sweep_cosmic(pocket, few, **prompts)


def test_the_scores_are_cosines_of_what_the_model_computes(pocket, few, prompts, scores):
    layers = scores.attrs["read_layers"]
    assert layers == [6]
    harmful, harmless = (read(pocket, prompts[label], layers) for label in ("harmful", "harmless"))
    assert scores.attrs["plain"] == pytest.approx(cosine(harmful, harmless), abs=1e-5)
    one = few.at(layer=5, position=-1)
    with wb.intervene(pocket, wb.Add(one)):
        refuse = cosine(read(pocket, prompts["harmless"], layers), harmful)
    with wb.intervene(pocket, wb.Ablate(one)):
        comply = cosine(read(pocket, prompts["harmful"], layers), harmless)
    at = scores.sel(layer=5, position=-1)
    assert float(at["refuse"]) == pytest.approx(refuse, abs=1e-5)
    assert float(at["comply"]) == pytest.approx(comply, abs=1e-5)
    assert float(at["score"]) == pytest.approx(refuse + comply, abs=1e-5)
    assert scores["score_interval"].isnull().all()  # of so few prompts there is none


def test_where_nothing_was_added_yet_nothing_is_turned(pocket, few, prompts):
    found = wb.selection.sweep_cosmic(pocket, few, **prompts, layers=[3, 4])
    np.testing.assert_allclose(found["refuse"], found.attrs["plain"], atol=1e-9)
    both = wb.selection.sweep_cosmic(pocket, few, **prompts, layers=[4, 5])
    at = both.sel(position=-1)["refuse"]
    assert float(at.sel(layer=5)) == pytest.approx(both.attrs["plain"])
    assert float(at.sel(layer=4)) > both.attrs["plain"] + 0.01


def test_the_layers_are_those_where_the_prompts_are_least_alike(pocket, few, prompts, scores):
    similarity = scores["similarity"].to_series()
    assert similarity.idxmin() == scores.attrs["read_layers"][0]
    found = wb.selection.sweep_cosmic(pocket, few, **prompts, share=0.3)
    assert found.attrs["read_layers"] == sorted(similarity.nsmallest(3).index)
    for settings, message in (
        ({"layers": [0]}, "in layer 0 the last token is the same"),
        ({"layers": [8]}, r"distinct and in 1\.\.7"),
        ({"share": 0.0}, "share must be above 0"),
    ):
        with pytest.raises(wb.AxisError, match=message):
            wb.selection.sweep_cosmic(pocket, few, **prompts, **settings)


def test_a_run_says_what_cosmic_picks_beside_the_rule(small_run):
    found = small_run.results["cosmic"]
    # As measured: the layer before the rule's, whose own is dropped as too late at position -1.
    assert found.attrs["rule"] == [small_run.choice.layer, small_run.choice.position] == [5, -1]
    assert found.attrs["pick"] == [4, -1] and found.attrs["cosine"] > 0.98
    assert found.attrs["rule_dropped"].startswith("position -1, after the other positions' best")
    best = found["score"].to_series().idxmax()
    assert best == (5, -1)
    line = small_run.found["cosmic"]
    assert line.startswith("COSMIC picks layer 4, position -1 (score ") and "cosine of" in line
    figure = wb.figures.cosmic(found)
    marks = {trace.name: (trace.x[0], trace.y[0]) for trace in figure.data if trace.name}
    (own,) = (at for name, at in marks.items() if name.startswith("COSMIC's pick"))
    assert own == (4, float(found["score"].sel(layer=4, position=-1)))


def test_the_pick_is_the_largest_score_that_passes(scores):
    free = scores.sel(position=[-1])  # without other positions there is no peak to compare with
    choice = wb.selection.select_by_cosmic(free)
    assert (choice.layer, choice.position) == (5, -1)
    assert choice.table["score"].iloc[0] == float(free["score"].max())
    moved = free.assign(kl=free["kl"].where(free["layer"] != 5, 0.2))
    choice = wb.selection.select_by_cosmic(moved)
    assert choice.layer == 4
    assert choice.table.query("layer == 5")["dropped"].item() == "KL 0.2 > 0.1"
    with pytest.raises(wb.StudyError, match=r"none of 2 candidates passes .* layer ≥ 4"):
        wb.selection.select_by_cosmic(free, skip_last=0.5)
    with pytest.raises(wb.StudyError, match="these scores hold no 'score'"):
        wb.selection.select_by_cosmic(scores.drop_vars("score"))


def test_a_random_network_without_refusals_is_scored_too(zoo):
    """No refusal token is needed; a direction that is zero has no score."""
    model = zoo["qwen2"].model
    values = torch.randn(1, 2, 1, model.d_model, generator=torch.manual_seed(0))
    values[:, 0] = 0
    directions = wb.Directions(values, ("r",), (0, 1), (-1,), "resid_pre")
    found = wb.selection.sweep_cosmic(
        model, directions, harmful=["kill", "steal"], harmless=["sew", "bake"]
    )
    assert np.isnan(found["score"].sel(layer=0)).all()
    at = found.sel(layer=1, position=-1)
    assert all(-1 <= float(at[name]) <= 1 for name in ("refuse", "comply"))


@pytest.mark.slow
def test_on_two_mechanisms_it_picks_what_the_rule_picks():
    model = wb.load_model("pocket-two")
    parts = {label: wb.load_prompts(label).split(64, 24) for label in ("harmful", "harmless")}
    positions = model.tokens(parts["harmful"][0]).post_instruction
    means = (
        wb.collect_activations(model, parts[label][0], positions=positions)
        for label in ("harmful", "harmless")
    )
    directions = wb.mean_difference(*means)
    scored = {label: own[1] for label, own in parts.items()}
    swept = wb.sweep_directions(
        model, directions, **scored,
        refusal_tokens_from=(parts["harmful"][0], parts["harmless"][0]),
    )  # fmt: skip
    rule = wb.select_direction(swept)
    own = wb.selection.select_by_cosmic(wb.selection.sweep_cosmic(model, directions, **scored))
    assert (own.layer, own.position) == (rule.layer, rule.position) == (7, -1)


def test_intervals_of_cosines_between_noisy_means_cover():
    # Percentiles of resamples hold less than half of these, where the cosine is near 1.
    rng, held = np.random.default_rng(0), []
    shift = np.zeros(40)
    shift[0] = 3.0
    for seed in range(200):
        first, second = rng.normal(size=(2, 32, 40)) + shift
        weights = cosmic._weights(32, seed), cosmic._weights(32, seed + 1000)
        cosine = cosmic._cosines(weights[0] @ first, weights[1] @ second)[None, None]
        found = cosmic._with_intervals({"refuse": cosine, "comply": cosine}, 0.95)
        low, high = found["refuse_interval"][1][0, 0]
        assert -1 <= low <= cosine[0, 0, 0] <= high <= 1
        held.append(low <= 1.0 <= high)
    assert np.mean(held) > 0.9
