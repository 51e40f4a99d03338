"""The figures of transfer and of layer bands, by their traces."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError
from workbench.study.steps.transfer import transfer_line

NAMES, CATEGORIES = ["b", "a"], ["a", "b", "harmless"]


@pytest.fixture
def matrix():
    """Two directions on three columns, in an order that clustering turned round."""
    cell = ("name", "category", "mode")
    effect = np.array(
        [[[-0.5, 0.0], [-8.0, 0.5], [-0.04, 9.0]], [[-7.0, 0.2], [-1.0, 0.1], [0, 8]]]
    )
    window = np.arange(18.0).reshape(2, 3, 3) - 9
    variables = {
        "effect": (cell, effect),
        "effect_interval": ((*cell, "bound"), np.stack([effect - 1, effect + 1], -1)),
        "score": (cell, effect + 3),
        "rate": (cell, np.linspace(0, 1, 12).reshape(2, 3, 2)),
        "rate_interval": ((*cell, "bound"), np.tile([0.0, 1.0], (2, 3, 2, 1))),
        "plain_score": ("category", [3.04, 2.5, -6.0]),
        "plain_rate": ("category", [0.9, 1.0, 0.0]),
        "n": ("category", [10, 12, 20]),
        "own": (("name", "category"), np.array([[False, True, False], [True, False, False]])),
        "window_effect": (("name", "category", "window"), window),
        "window_effect_interval": (
            ("name", "category", "window", "bound"), np.stack([window - 1, window + 1], -1)
        ),
        "order": (("mode", "place"), [[1, 0], [0, 1]]),
        "block": (("mode", "name"), [[2, 1], [1, 1]]),
        "category_order": (("mode", "category_place"), [[0, 1, 2], [1, 0, 2]]),
        "category_block": (("mode", "category"), [[1, 2, 0], [1, 1, 0]]),
        "asymmetry": ("mode", [0.25, 0.8]),
        "asymmetry_interval": (("mode", "bound"), [[0.1, 0.4], [0.1, 0.9]]),
        "asymmetry_noise": ("mode", [0.05, 0.1]),
    }  # fmt: skip
    return xr.Dataset(
        variables,
        coords={
            "name": NAMES, "category": CATEGORIES, "mode": ["ablate", "add"],
            "bound": ["low", "high"], "window": ["0..1", "1..2", "2..3"],
            "layer": ("name", [5, 5]), "position": ("name", [-1, -1]),
        },
        attrs={"model": "m", "judge": "rules", "confidence": 0.9, "interval": "bootstrap"},
    )  # fmt: skip


def plain(text):
    """With a hyphen for every minus sign."""
    return text.replace("\N{MINUS SIGN}", "-")


def subtitle(figure):
    return plain(figure.layout.title.subtitle.text.replace("<br>", " "))


def printed(heat, row):
    return tuple(plain(text) for text in heat.text[row])


def lines(figure):
    """Where dividing lines stand: between rows, and between columns."""
    shapes = figure.layout.shapes
    return [s.y0 for s in shapes if s.y0 == s.y1], [s.x0 for s in shapes if s.x0 == s.x1]


def test_cells_stand_in_clustered_order_with_their_values(matrix):
    figure = figures.transfer(matrix)
    (heat,) = figure.data
    assert figure.layout.yaxis.ticktext == ("a", "b")
    assert figure.layout.xaxis.ticktext == ("a", "b", "harmless")
    np.testing.assert_allclose(np.array(heat.z, float), [[-7, -1, 0], [-0.5, -8, -0.04]])
    assert printed(heat, 0) == ("<b>-7.0</b>", "-1.0", "0.0")
    assert printed(heat, 1) == ("-0.5", "<b>-8.0</b>", "0.0")
    assert heat.zmin == -8 and heat.zmax == 8
    # The first row is on top.
    assert figure.layout.yaxis.range == (1.5, -0.5)


def test_blocks_are_divided(matrix):
    assert lines(figures.transfer(matrix)) == ([0.5], [0.5, 1.5])
    assert lines(figures.transfer(matrix, "add")) == ([], [1.5])


def test_hover_says_everything_about_a_cell(matrix):
    hover = plain(figures.transfer(matrix).data[0].customdata[0][0])
    for part in (
        "a on a", "change -7 [-8, -6]", "refusal score -4", "refusal rate 55% [0%, 100%]",
        "plain 3.04, n = 10",
    ):  # fmt: skip
        assert part in hover


def test_the_subtitle_states_n_baselines_place_and_asymmetry(matrix):
    text = subtitle(figures.transfer(matrix))
    for part in (
        "directions of layer 5, position -1", "n = 10 to 20 prompts per category",
        "plain score 2.5 to 3, harmless -6", "judge: rules", "2 blocks, lines between",
        "asymmetry 0.25 [0.10, 0.40], up to 0.05 by chance", "90% intervals (bootstrap)",
    ):  # fmt: skip
        assert part in text
    other = subtitle(figures.transfer(matrix.assign_attrs(judge=None), "add"))
    assert "no judge" in other and "1 block," in other and "asymmetry" not in other
    apart = figures.transfer(matrix.assign_coords(layer=("name", [5, 9])))
    assert apart.layout.yaxis.ticktext == ("a<br>layer 9", "b<br>layer 5")
    assert "directions of layer" not in subtitle(apart)


def test_scores_and_rates_can_be_drawn_instead(matrix):
    score = figures.transfer(matrix, quantity="score").data[0]
    assert score.z[0][0] == -4 and score.zmin == -score.zmax
    figure = figures.transfer(matrix, quantity="rate")
    (rate,) = figure.data
    assert (rate.zmin, rate.zmax) == (0, 100)
    assert rate.text[0][0] == "<b>55</b>"
    assert "plain rate 90 to 100 %, harmless 0 %" in subtitle(figure)


def test_bands_show_each_direction_on_its_own_categories(matrix):
    figure = figures.layer_bands(matrix)
    (heat,) = figure.data
    assert figure.layout.xaxis.ticktext == ("0..1", "1..2", "2..3")
    assert figure.layout.yaxis.ticktext == ("a", "b")
    np.testing.assert_allclose(np.array(heat.z, float), [[0, 1, 2], [-6, -5, -4]])
    assert printed(heat, 1) == ("-6.0", "-5.0", "-4.0")
    assert "layers 1..2<br>change -5 [-6, -4]" in plain(heat.customdata[1][1])
    assert lines(figure) == ([0.5], [])
    assert "harmless" not in subtitle(figure)
    # A band is no claim that every layer in it uses the direction.
    assert "works anywhere between where the direction is written and where" in subtitle(figure)
    assert "can be ablated" in figure.layout.title.text


def test_bands_of_one_direction_on_every_category(matrix):
    figure = figures.layer_bands(matrix, "b")
    assert figure.layout.yaxis.ticktext == ("a", "b", "harmless")
    np.testing.assert_allclose(np.array(figure.data[0].z, float)[0], [-9, -8, -7])
    assert "the direction &#x27;b&#x27;" in subtitle(figure) and "harmless -6" in subtitle(figure)


def test_directions_for_several_categories_are_named_beside_them(matrix):
    renamed = matrix.assign_coords(name=["late", "early"])
    figure = figures.layer_bands(renamed)
    assert figure.layout.yaxis.ticktext == ("a<br>early", "b<br>late")


def test_names_are_never_read_as_tags(matrix):
    evil = matrix.assign_coords(
        category=["<b>a", "<img src=x>", "harmless"], direction=["<i>", "y"]
    )
    for figure in (figures.transfer(evil), figures.layer_bands(evil)):
        text = str(figure.to_json())
        for tag in ("<b>a", "<img", "<i>"):
            assert tag not in text.replace("\\u003c", "<")


def test_what_is_no_transfer_matrix(matrix):
    with pytest.raises(StudyError, match="no transfer matrix: it has no variable 'effect'"):
        figures.transfer(matrix.drop_vars("effect"))
    with pytest.raises(StudyError, match="has no mode 'set': ablate, add"):
        figures.transfer(matrix, "set")
    with pytest.raises(StudyError, match="it has no variable 'rate'"):
        figures.transfer(matrix.drop_vars("rate"), quantity="rate")
    with pytest.raises(StudyError, match="with windows: it has no variable 'window_effect'"):
        figures.layer_bands(matrix.drop_vars("window_effect"))
    with pytest.raises(StudyError, match="no direction 'c' in this matrix: a, b"):
        figures.layer_bands(matrix, "c")


def test_the_subtitle_says_how_many_effects_would_be_outside_by_chance(matrix):
    cell = ("name", "category", "mode")
    random = np.zeros((20, 3, 2)) + np.linspace(-2, 2, 20)[:, None, None]
    found = matrix.assign(
        random_effect=(("control", "category", "mode"), random),
        outside=(cell, np.abs(matrix["effect"].values) > 2),
    )
    told = subtitle(figures.transfer(found))
    assert "2 of 6 effects outside the range of 20 random vectors, 0.6 would be by chance" in told
    line = transfer_line({"transfer": found}, 5, -1)
    assert "2 of 6 effects outside the range of 20 random vectors, 0.6 would be by chance" in line
