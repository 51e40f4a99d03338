"""Candidates by packing and resuming give the same sweep, and the search the same winner."""

import copy

import numpy as np
import pytest
import xarray as xr

import workbench as wb
import workbench.analysis.selection.edits as edits_module
import workbench.analysis.selection.forwards as candidates_module
import workbench.analysis.selection.search as search_module
from workbench.analysis.selection.search import search_direction
from workbench.analysis.selection.selection import select_direction
from workbench.analysis.selection.sweep import sweep_directions
from workbench.errors import AxisError, StudyError

HARMFUL = ["How far is the sea?", "hi", "Name a colour that nobody likes."]
HARMLESS = ["42 plus 7", "Is the tea cold by now?", "ok", "What a day"]
REFUSAL = (17, 40)
ASKED = {"harmful": HARMFUL, "harmless": HARMLESS, "refusal_tokens": REFUSAL}


def candidates(model):
    acts = [
        wb.collect_activations(model, prompts, positions=[-5, -2, -1])
        for prompts in (HARMFUL, HARMLESS)
    ]
    return wb.mean_difference(*acts)


@pytest.fixture
def plainly(monkeypatch):
    """Takes every shortcut away."""

    def away():
        monkeypatch.setattr(candidates_module, "chosen_method", lambda *all: "plain")
        monkeypatch.setattr(edits_module, "may_resume", lambda *all: False)
        monkeypatch.setattr(edits_module, "stack_size", lambda *all: 1)

    return away


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_neox", "gpt2", "olmo2"])
@pytest.mark.parametrize("tokens", ["post_instruction", "last", "all"])
def test_shortcuts_change_no_number(zoo, plainly, name, tokens):
    model = zoo[name].model
    directions = candidates(model)
    found = sweep_directions(model, directions, tokens=tokens, **ASKED)
    plainly()
    expected = sweep_directions(model, directions, tokens=tokens, **ASKED)
    xr.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert float(expected["induce"].max() - expected["induce"].min()) > 1e-3


def test_shortcuts_are_taken(zoo, monkeypatch):
    model = copy.copy(zoo["llama"].model)
    directions = candidates(model).at(layer=[1, 2])
    sweep_directions(model, directions.at(layer=1, position=-1), **ASKED)  # has it checked
    forwards = []
    forward = model.network.forward
    monkeypatch.setattr(
        model.network, "forward", lambda *a, **k: (forwards.append(k), forward(*a, **k))[1]
    )
    blocks = []
    with model.hooks([("mlp_out", 0, lambda x: blocks.append(x.shape[0]))], know_variants=True):
        sweep_directions(model, directions, **ASKED)
        # One plain, one with six ablations, one with three additions at each of two layers, and
        # one that reads what enters each of these. Only three of them go through layer 0.
        assert (len(forwards), len(blocks)) == (6, 3)
        forwards.clear()
        model.checked |= {"packed, several tokens, beyond window: False, padding: True": ""}
        sweep_directions(model, directions, tokens="post_instruction", **ASKED)
    assert len(forwards) == 5  # one plain, and prefix and block for each half


@pytest.fixture(scope="module", params=["all", "post_instruction"])
def swept(request, pocket):
    """What a search is asked, the candidates, and their exhaustive sweep."""
    splits = {kind: wb.load_prompts(kind).split(train=24, validation=8)
              for kind in ("harmful", "harmless")}  # fmt: skip
    acts = [
        wb.collect_activations(pocket, splits[kind][0], positions=[-4, -2, -1]) for kind in splits
    ]
    directions = wb.mean_difference(*acts)
    asked = {kind: split[1] for kind, split in splits.items()}
    asked |= {"refusal_tokens": (77, 428, 425, 360), "tokens": request.param}
    return directions, asked, sweep_directions(pocket, directions, **asked)


def thresholds(scores, n_failing, last_layer=6):
    """A floor and a cap under which the best ``n_failing`` or more fail; how many do."""
    table = scores[["bypass", "induce", "kl"]].to_dataframe().reset_index().dropna()
    table = table[table["layer"] < last_layer].sort_values(["bypass", "layer", "position"])
    for _, winner in table.iloc[n_failing:].iterrows():
        cap, floor = 1.02 * winner["kl"], winner["induce"] - 1e-3
        for rule in (
            {"kl_cap": cap, "induce_floor": floor},
            {"kl_cap": cap, "induce_floor": -100.0},
            {"kl_cap": 100.0, "induce_floor": floor},
        ):
            passes = (table["kl"] <= rule["kl_cap"]) & (table["induce"] >= rule["induce_floor"])
            place = int(np.flatnonzero(passes)[0])
            if place >= n_failing:
                return rule, place
    raise AssertionError("no thresholds make the first candidates fail")


@pytest.mark.parametrize("n_failing", [0, 1, 3])
def test_the_winner_is_the_exhaustive_searchs(pocket, swept, n_failing):
    directions, asked, scores = swept
    rule, place = thresholds(scores, n_failing)
    expected = select_direction(scores, **rule, skip_last=0.2)
    found = search_direction(pocket, directions, **asked, **rule, skip_last=0.2)
    assert (found.layer, found.position) == (expected.layer, expected.position)
    best, other = found.table.iloc[0], expected.table.iloc[0]
    for name in ("bypass", "induce", "kl"):
        assert best[name] == pytest.approx(other[name], abs=1e-4)
    assert (found.table["dropped"] == "").sum() == 1
    tested = found.table["induce"].notna().sum()
    assert found.settings["n_tested"] == tested == place + 1 > n_failing
    # Whatever was tested before the winner failed by the same rule.
    both = found.table.merge(expected.table, on=["layer", "position"])
    failed = both[both["induce_x"].notna() & (both["dropped_x"] != "")]
    assert len(failed) == place and (failed["dropped_y"] != "").all()
    late = found.table.query("layer >= 6")["dropped"]
    assert (late == "layer ≥ 6: too near the output").all() and len(late) == 6


def test_where_none_passes_all_were_tried(pocket, swept):
    directions, asked, scores = swept
    rule = {"kl_cap": 1e9, "induce_floor": float(scores["induce"].max()) + 1}
    said = []
    for choose in (
        lambda: select_direction(scores, **rule),
        lambda: search_direction(pocket, directions, **asked, **rule),
    ):
        with pytest.raises(StudyError, match=r"none of 24 candidates passes\. Nearest:") as error:
            choose()
        said.append(str(error.value))
    assert said[0] == said[1]


def test_ties_go_to_the_earlier_layer_and_position(pocket, swept, monkeypatch):
    directions, asked, scores = swept

    def tied(model, rows, candidates, mode, subset, read):
        return np.zeros(len(candidates))

    monkeypatch.setattr(search_module, "_means", tied)
    monkeypatch.setattr(search_module, "_kl", lambda *all: 0.0)
    found = search_direction(pocket, directions, **asked)
    level = scores.copy(deep=True)
    for name in ("bypass", "induce", "kl"):
        level[name] = 0.0 * level[name]  # what has no score goes without one
    expected = select_direction(level)
    assert (found.layer, found.position) == (expected.layer, expected.position)
    assert found.settings["n_tested"] == 1


def test_what_cannot_be_searched(zoo):
    import torch

    model = zoo["llama"].model
    two = wb.Directions(torch.ones(2, 1, 1, 32), ("fraud", "drugs"), (1,), (-1,))
    with pytest.raises(AxisError, match=r"takes one direction, found fraud, drugs\. Choose with"):
        search_direction(model, two, **ASKED)
    with pytest.raises(StudyError, match="none of 9 candidates passes"):
        search_direction(model, candidates(model), induce_floor=np.inf, **ASKED)
