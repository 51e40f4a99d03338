"""The transfer matrix finds what was planted in the shipped models."""

import numpy as np

import workbench as wb
from workbench.analysis.transfer.matrix import measure_transfer
from workbench.models.organisms import organism_card, organism_path


def split(n_test):
    """Built-in harmful and harmless prompts: to estimate on, and to measure on."""
    labels = "harmful", "harmless"
    sets = [wb.load_prompts(label).split(train=160, validation=0) for label in labels]
    tests = [test.sample(n) for (_, _, test), n in zip(sets, n_test, strict=True)]
    return [train for train, _, _ in sets], tests


def refused(model, prompts):
    """The prompts that the model refuses: what an ablation can change."""
    scores = wb.refusal_score(model.logits(prompts), wb.find_refusal_tokens(model, prompts))
    kept = [row for row, score in enumerate(scores.tolist()) if score > 0]
    return wb.PromptSet(tuple(prompts[row] for row in kept), name=prompts.name)


def test_pocket_has_one_block(organism):
    model, components = organism("pocket")
    layer = components["refusal"]["layer"]
    train, (harmful, harmless) = split((64, 12))
    harmful = refused(model, harmful)
    assert len({*harmful.categories}) == 8
    acts = [wb.collect_activations(model, each, layers=[layer], positions=[-1]) for each in train]
    directions = wb.mean_difference(*acts, by="category")
    found = measure_transfer(
        model, directions, harmful, harmless=harmless, refusal_tokens=None, judge=None
    )
    assert (found["plain_score"].drop_sel(category="harmless") > 0).all()
    ablated = found.sel(mode="ablate")
    assert (ablated["score"] < 0).all()
    # Every direction undoes every category at least half as well as that category's own.
    own = np.diag(ablated["effect"].drop_sel(category="harmless").values)
    assert (ablated["effect"].drop_sel(category="harmless") < 0.5 * own).all()
    assert (found["block"] == 1).all()
    assert (found["score"].sel(mode="add", category="harmless") > 0).all()


def check_band(found, component):
    """Nothing before a direction is written, most where it first stands whole, then ever less.

    It is read in many layers, the last ones too, so the band has no sharp end.
    """
    effect = np.abs(found["window_effect"].mean("category"))
    written = min(component["layers"])
    # Measured: up to 0.16 of the peak on pocket, which no head has written yet.
    assert effect[effect["window_last"] < written].max() < 0.25 * effect.max()
    assert written <= int(effect["window_first"][effect.values.argmax()]) <= component["layer"]
    # Measured in the last layer: 0.02 and 0.24 of the peak on pocket-two.
    read = effect[effect["window_first"] > component["layer"]]
    assert read[-1] < 0.4 * effect.max()
    assert read[-1] == read.min()


def test_pocket_has_one_band(organism):
    model, components = organism("pocket")
    planted = wb.Directions.load(organism_path("pocket") / "planted.safetensors")
    _, (harmful, _) = split((32, 1))
    found = measure_transfer(
        model, planted, harmful, own={"refusal": set(harmful.categories)}, windows=1,
        judge=None, modes=["ablate"],
    )  # fmt: skip
    assert (found["score"] < 0).all() and (found["category_block"] == 1).all()
    check_band(found.sel(name="refusal"), components["refusal"])


def test_pocket_two_has_two_blocks_and_two_bands(organism):
    model, components = organism("pocket-two")
    carried = {
        each["name"]: each["categories"]
        for each in organism_card("pocket-two")["settings"]["components"]
    }
    planted = wb.Directions.load(organism_path("pocket-two") / "planted.safetensors")
    vectors = [planted.at(name=name, layer=each["layer"]) for name, each in components.items()]
    first, second = sorted(carried, key=lambda name: components[name]["layer"])
    _, (harmful, harmless) = split((64, 12))
    found = measure_transfer(
        model, vectors, harmful, harmless=harmless, own=carried, windows=1, judge=None,
        modes=["ablate"],
    )  # fmt: skip
    for name, other in ((first, second), (second, first)):
        row = found.sel(name=name, mode="ablate")
        assert (row["score"].sel(category=list(carried[name])) < 0).all()
        assert (row["score"].sel(category=list(carried[other])) > 0).all()
    assert found["block"].values.tolist() == [[1, 2]]
    for block, name in zip((1, 2), carried, strict=True):
        assert (found["category_block"].sel(category=list(carried[name])) == block).all()
    for name in carried:
        check_band(found.sel(name=name, category=list(carried[name])), components[name])
