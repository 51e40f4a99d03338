"""The public face: how many names, one grammar, and results that are tables, too."""

import inspect
import typing

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import workbench as wb
from workbench.directions.direction import Directions
from workbench.directions.published import Published
from workbench.models.hooked import HookedModel
from workbench.study.results import _in_todays_words
from workbench.tabled import Tabled

ROOMS = ("selection", "geometry", "transfer", "meaning", "heads", "scores")
VERBS = (
    "collect", "compare", "find", "intervene", "load", "measure",
    "patch", "rank", "run", "search", "select", "sweep", "verify", "write", "explore",
)  # fmt: skip
# The field's own words for what is done to a model.
PROCEDURES = ("attribution_patching", "direct_attribution", "logit_lens")


def functions():
    """Every public function, by the name it is called by."""
    rooms = {room: getattr(wb, room) for room in ROOMS}
    places = {"wb": wb, **rooms}
    for place, module in places.items():
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{place}.{name}", value


FUNCTIONS = dict(functions())


def hints(function):
    """Its types; names that are only imported for type checkers stand for anything."""
    unseen = {"Panel": object, "pd": pd, "xr": xr}
    return typing.get_type_hints(function, localns=unseen)


def parameters(function):
    return list(inspect.signature(function).parameters.values())


def test_names_are_few_and_each_stands_in_one_place():
    assert len(wb.__all__) <= 46
    places = [name for room in ROOMS for name in getattr(wb, room).__all__]
    assert len({*places}) == len(places)
    assert not {*places} & {*wb.__all__}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_runs_a_model_is_a_verb_and_takes_it_first(name):
    short = name.rpartition(".")[2]
    known = parameters(FUNCTIONS[name])
    if not any(each.name == "model" and each.default is each.empty for each in known):
        return
    assert known[0].name == "model"
    assert short in PROCEDURES or short.split("_")[0] in VERBS


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_say_what_they_are(name):
    known = parameters(FUNCTIONS[name])
    placed = [each for each in known if each.kind is not each.KEYWORD_ONLY]
    n_acted_on = sum(each.name not in ("model", "sae") for each in placed)
    assert n_acted_on <= 3, "all but the model, what is acted on and the prompts has its name"
    types = hints(FUNCTIONS[name])
    for each in known:
        accepted = typing.get_args(types.get(each.name)) or (types.get(each.name),)
        if each.name == "direction":
            assert Directions in accepted, "a direction is a vector"
        if each.name == "aim":
            assert accepted == ("induce", "suppress")
        assert "judge" not in each.name or each.name in ("judge", "judged")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_returned_is_a_table_too(name):
    found = hints(FUNCTIONS[name]).get("return")
    if not inspect.isclass(found) or not found.__module__.startswith("workbench."):
        return
    assert issubclass(found, Tabled | HookedModel) or name == "meaning.load_sae"


def results():
    r = wb.Directions(torch.ones(2, 1, 1, 4), ("a<b", "c"), (3,), (-1,), "resid_pre")
    scores = xr.Dataset(
        {name: (("layer", "position"), np.zeros((1, 1))) for name in ("bypass", "induce", "kl")},
        coords={"layer": [0], "position": [-1]},
        attrs={"n_layers": 4},
    )
    verdicts = ["refused"] * 6 + ["complied"] * 2
    yield r, "Directions(a<b, c; layers 3; positions -1; d_model 4; site resid_pre)", 2
    yield wb.select_direction(scores), "best of 1 eligible, 1 candidates", 1
    rate = "Rate(rate=0.75, interval=[0.409, 0.929], n=8)"
    yield wb.scores.refusal_rate(verdicts), rate, 1
    paired = wb.scores.paired_difference(verdicts, ["complied"] * 8)
    yield paired, "PairedDifference(n=8, gained=0, lost=6, difference=-0.75, interval=[", 1
    yield wb.scores.judge_agreement(verdicts, verdicts), "Agreement(n=8, accuracy=1, ", 1
    yield wb.load_prompts("harmful").sample(20), "PromptSet", 20


@pytest.mark.parametrize(("result", "line", "n_rows"), list(results()), ids=lambda each: "")
def test_a_result_is_a_line_a_table_and_a_view(result, line, n_rows):
    assert line in repr(result)
    table = result.to_dataframe()
    assert isinstance(table, pd.DataFrame) and len(table) == n_rows
    seen = result._repr_html_()
    assert "<table" in seen and "a<b" not in seen
    assert ("8 rows more in to_dataframe()" in seen) is (n_rows == 20)


def test_a_run_and_what_is_read_are_tables_too(small_run, pocket):
    assert f"direction of layer {small_run.choice.layer}" in repr(small_run)
    rates = small_run.to_dataframe()
    effects = small_run.effects
    assert len(rates) == effects.sizes["prompt_set"] * effects.sizes["condition"]
    for row in rates.itertuples():
        cell = effects.sel(prompt_set=row.prompt_set, condition=row.condition)
        low, high = cell["refusal_rate_interval"].values
        found = [row.refusal_rate, row.refusal_rate_low, row.refusal_rate_high, row.n]
        np.testing.assert_equal(found, [float(cell["refusal_rate"]), low, high, int(cell["n"])])
    acts = wb.collect_activations(pocket, ["hello", "bye now"], layers=[1], per_prompt=True)
    assert acts.to_dataframe()["text"].tolist() == ["hello", "bye now"]
    assert "2 prompts; site resid_pre; layers 1" in repr(acts)
    compared = wb.compare_directions(small_run)
    assert "Comparison(of " in repr(compared) and "<table" in compared._repr_html_()
    published = Published(directions=wb.Directions.from_vector(torch.ones(4), layer=2))
    assert repr(published) == "Published(directions)" and len(published.to_dataframe()) == 1


def test_an_earlier_runs_words_are_read_as_todays():
    old = xr.Dataset({"effect": (("direction", "category"), np.ones((2, 3)))})
    assert _in_todays_words("transfer", old)["effect"].dims == ("name", "category")
    heads = xr.Dataset(attrs={"direction": "suppress", "n": 1})
    assert _in_todays_words("head_set", heads).attrs == {"aim": "suppress", "n": 1}
    assert _in_todays_words("head_attribution", heads).attrs == heads.attrs


def test_an_interval_has_two_columns():
    table = wb.scores.refusal_rate(["refused", "complied"]).to_dataframe()
    assert table.columns.tolist() == ["rate", "low", "high", "n"]
    paired = wb.scores.paired_difference(["refused"] * 3, ["complied"] * 3).to_dataframe()
    assert {"low", "high", "p_value"} <= {*paired.columns}
    agreed = wb.scores.judge_agreement(["refused"], ["complied"]).to_dataframe()
    assert {"accuracy_low", "kappa_high"} <= {*agreed.columns}
