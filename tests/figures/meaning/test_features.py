"""The figure of SAE features, by its traces."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError


@pytest.fixture
def ranking():
    """Six features of which the last two never fire."""
    difference = np.array([4.0, -0.1, 0.2, -3.0, 0.0, 0.0])
    ends = np.stack([difference - 0.5, difference + 1], -1)
    ends[4:] = np.nan
    rate = np.array([0.9, 0.1, 0.2, 0.0, 0, 0])
    return xr.Dataset(
        {
            "cosine": ("feature", [0.97, 0.5, 0.1, 0.0, -0.2, -0.9]),
            "difference": ("feature", difference),
            "difference_interval": (("feature", "bound"), ends),
            "rate_positive": ("feature", rate),
            "rate_negative": ("feature", rate[::-1] * 0 + [0.0, 0.1, 0.1, 0.8, 0, 0]),
            "auc": ("feature", [0.95, 0.5, 0.55, 0.1, 0.5, 0.5]),
        },
        coords={"feature": [17, 3, 8, 40, 5, 99], "bound": ["low", "high"]},
        attrs={
            "model": "m", "sae": "<folder>", "site": "resid_pre", "layer": 8, "direction": "words",
            "direction_site": "resid_pre", "direction_layer": 5, "position": -1,
            "n": {"positive": 40, "negative": 30}, "contrast": ["harmful", "harmless"],
            "confidence": 0.9, "interval": "Welch", "chance_cosine": 0.4, "chance_difference": 1.5,
        },
    )  # fmt: skip


def named(figure):
    return {trace.name: trace for trace in figure.data}


def test_the_furthest_features_carry_numbers_and_intervals(ranking):
    traces = named(figures.sae_features(ranking, n_labels=2))
    labelled = traces["labelled, with interval"]
    assert set(labelled.text) == {"17", "99", "40"}
    at = list(labelled.text).index("17")
    assert (labelled.x[at], labelled.y[at]) == (0.97, 4.0)
    assert (labelled.error_y.array[at], labelled.error_y.arrayminus[at]) == (1.0, 0.5)
    silent = list(labelled.text).index("99")
    assert labelled.error_y.array[silent] == labelled.error_y.arrayminus[silent] == 0


def test_every_feature_is_drawn_once_and_silent_ones_apart(ranking):
    figure = figures.sae_features(ranking, n_labels=1)
    traces = named(figure)
    # By cosine and by difference it is the same feature.
    assert traces["labelled, with interval"].text == ("17",)
    assert sorted(traces["fires on no prompt of either set (2)"].x) == [-0.9, -0.2]
    assert sorted(traces["fires (3)"].x) == [0.0, 0.1, 0.5]
    assert sum(len(trace.x) for trace in figure.data) == 6
    none = named(figures.sae_features(ranking, n_labels=0))
    assert set(none) == {"fires on no prompt of either set (2)", "fires (4)"}


def test_chance_is_marked_on_both_axes(ranking):
    shapes = [s for s in figures.sae_features(ranking).layout.shapes if s.line.dash == "dot"]
    assert sorted(s.x0 for s in shapes if s.x0 == s.x1) == [-0.4, 0.4]
    assert sorted(s.y0 for s in shapes if s.y0 == s.y1) == [-1.5, 1.5]


def test_title_and_axes_say_what_was_measured(ranking):
    figure = figures.sae_features(ranking)
    text = figure.layout.title.subtitle.text.replace("<br>", " ").replace("\N{MINUS SIGN}", "-")
    for part in (
        "SAE &lt;folder&gt;", "6 features, resid_pre at layer 8", "n = 40 against 30 prompts",
        "direction read from resid_pre at layer 5", "position -1", "90% intervals (Welch)",
    ):  # fmt: skip
        assert part in text
    assert figure.layout.xaxis.title.text == "cosine with the direction 'words'"
    assert "harmful minus harmless prompts" in figure.layout.yaxis.title.text
    assert figure.layout.xaxis.range[0] == -figure.layout.xaxis.range[1]


def test_neighbours_numbers_stand_on_different_sides(ranking):
    close = ranking.copy(deep=True)
    close["cosine"][:] = [0.5, 0.52, 0.54, -0.9, -0.2, 0.0]
    close["difference"][:] = [4.0, 4.0, 4.0, -3.0, 0.0, 0.0]
    labelled = named(figures.sae_features(close, n_labels=3))["labelled, with interval"]
    sides = dict(zip(labelled.text, labelled.textposition, strict=True))
    assert len({sides["17"], sides["3"], sides["8"]}) == 3


def test_many_features_are_drawn_with_webgl(ranking):
    many = xr.concat([ranking] * 1500, "feature").assign_coords(feature=range(9000))
    assert {trace.type for trace in figures.sae_features(many).data} == {"scatter", "scattergl"}


def test_half_a_ranking_is_refused(ranking):
    with pytest.raises(StudyError, match="no variable 'difference'"):
        figures.sae_features(ranking.drop_vars(["difference"]))
    with pytest.raises(StudyError, match="no variable 'cosine'"):
        figures.sae_features(ranking.drop_vars(["cosine"]))
    with pytest.raises(StudyError, match="cannot label -1 features"):
        figures.sae_features(ranking, n_labels=-1)
