"""Controls in figures, by their traces: beside effects, on rates, in the sweep."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError


@pytest.fixture
def controls():
    """Two sets of prompts, two conditions, four controls; one effect within their range."""
    every = np.array([[[0, 1, -1, 2], [3, 4, 5, 6]], [[0, 0, 1, 1], [-2, -1, 0, 1]]], float)
    cell = ("prompt_set", "condition")
    return xr.Dataset(
        {
            "effect": (cell, np.array([[-9.0, 16.0], [0.5, 4.0]])),
            "control_effect": ((*cell, "control"), every),
            "outside": (cell, np.array([[True, True], [False, True]])),
            "p_value": (cell, np.array([[0.2, 0.2], [0.6, 0.2]])),
            "plain_score": ("prompt_set", [5.0, -9.0]),
            "n": ("prompt_set", [16, 15]),
            "judged_rate": (cell, np.array([[0.0, 1.0], [0.0, 1.0]])),
            "control_rate": ((*cell, "judged"), np.full((2, 2, 2), 0.25)),
            "n_judged": ("prompt_set", [8, 8]),
            "bypass": -9.0, "induce": 7.0, "kl": 0.02,
            "control_bypass": ("control", [4.0, 5.0, 6.0, 5.5]),
            "control_kl": ("control", [0.002, 0.01, 0.3, 0.02]),
            "control_induce": (("layer", "control"), np.arange(24.0).reshape(6, 4) - 10),
        },
        coords={
            "prompt_set": ["harmful", "harmless"], "condition": ["ablated", "added"],
            "control": ["isotropic 1", "isotropic 2", "covariance 1", "covariance 2"],
            "control_kind": ("control", ["isotropic"] * 2 + ["covariance"] * 2),
            "judged": ["isotropic 1", "covariance 1"], "layer": range(6),
        },
        attrs={"model": "m", "layer_chosen": 3, "position": -1, "norm": 13.9, "n_swept": [12, 11]},
    )  # fmt: skip


def test_each_effect_stands_beside_its_controls(controls):
    figure = figures.control_effects(controls)
    isotropic, covariance, own = figure.data
    assert own.x == (-9, 16, 0.5, 4) and own.y == (0, 1, 2, 3)
    assert isotropic.x == (0, 1, 3, 4, 0, 0, -2, -1)
    assert covariance.x == (-1, 2, 5, 6, 1, 1, 0, 1)
    for trace in (isotropic, covariance):
        assert (np.abs(np.array(trace.y) - np.repeat(range(4), 2)) < 0.5).all()
    rows = figure.layout.yaxis.ticktext
    assert rows[0] == "harmful, ablated"
    assert rows[2] == "harmless, ablated<br><i>within the controls' range</i>"
    told = figure.layout.title.subtitle.text
    assert (
        "16 harmful test prompts and 15 harmless" in told.replace("<br>", " ")
        and "2 controls of each of 2 kinds" in told
    )
    assert "leaves the range of its kind in 67% of cases" in told.replace("<br>", " ")
    assert "of 4 effects up to 2.7 by chance" in told.replace("<br>", " ")


def test_rates_of_random_vectors_stand_on_the_bars(rates, controls):
    figure = figures.effects(rates, controls)
    (marks,) = (trace for trace in figure.data if trace.name == "controls")
    bars = {trace.name: trace for trace in figure.data if trace.type == "bar"}
    assert set(marks.y) == {25.0}
    ablated = bars["ablated"]
    for x in marks.x[:2]:
        assert abs(x - ablated.x[0]) < ablated.width / 2
    assert "2 controls (random vectors as long as" in figure.layout.title.subtitle.text
    assert not [each for each in figures.effects(rates).data if each.name == "controls"]


def test_the_sweep_has_their_range_by_layer_and_at_the_choice(scores, chosen, controls):
    figure = figures.sweep(scores, chosen, controls)
    bypass, induce, kl = (trace for trace in figure.data if trace.name == "random vectors")
    assert bypass.x == pytest.approx((2.94, 2.94)) and bypass.y == (4, 6)
    assert kl.x == bypass.x
    assert induce.fill == "toself"
    assert induce.y[:6] == (-10, -6, -2, 2, 6, 10) and induce.y[6] == 13
    assert [trace.showlegend for trace in (bypass, induce, kl)] == [True, False, False]
    beside = [trace for trace in figure.data if trace.legendgroup == "beside"]
    assert [trace.x for trace in beside] == [(3,)] * 3 and [beside[0].y, beside[1].y] == [
        (-9,),
        (7,),
    ]
    assert (
        "12 harmful and 11 harmless of the prompts that chose"
        in figure.layout.title.subtitle.text.replace("<br>", " ")
    )


def test_what_holds_no_controls_is_refused(controls):
    with pytest.raises(StudyError, match="no variable 'control_effect'"):
        figures.control_effects(controls.drop_vars("control_effect"))


def test_directions_of_shuffled_labels_stand_apart(scores, chosen, rates, controls):
    kinds = ["isotropic"] * 2 + ["permuted"] * 2
    controls = controls.assign_coords(
        control_kind=("control", kinds), judged=["isotropic 1", "permuted 1"]
    )
    sweep = figures.sweep(scores, chosen, controls)
    random = [trace for trace in sweep.data if trace.name == "random vectors"]
    shuffled = [trace for trace in sweep.data if trace.name == "shuffled labels"]
    assert random[0].y == (4, 5) and shuffled[0].y == (5.5, 6)
    assert random[0].x[0] < 3 < shuffled[0].x[0]
    assert random[1].y[:6] == (-10, -6, -2, 2, 6, 10) and shuffled[1].y[:6] == (-8, -4, 0, 4, 8, 12)
    told = sweep.layout.title.subtitle.text.replace("<br>", " ")
    assert "2 random vectors as long as the candidates and 2 directions of shuffled labels" in told
    told = figures.effects(rates, controls).layout.title.subtitle.text.replace("<br>", " ")
    assert "2 controls (random vectors as long as the direction, 1 of shuffled labels)" in told
