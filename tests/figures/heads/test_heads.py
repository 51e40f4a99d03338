"""The figures of heads, by their traces."""

import html

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError

PLANTED = [(1, 2), (2, 0)]


def bounds(values, width=0.1):
    return np.stack([values - width, values + width], -1)


@pytest.fixture
def patching():
    """Three layers, four heads and two positions; one large cell in each position."""
    effect = np.full((3, 4, 2), 0.01)
    effect[1, 2] = (-0.5, 4.0)
    effect[2, 0, 1], effect[0, 3, 0] = -2.0, 1.5
    ends = bounds(effect)
    ends[0, 3, 0] = (-1, 4)
    cell = ("layer", "head", "position")
    unit = {"units": "nats", "long_name": "change of the refusal score"}
    return xr.Dataset(
        {"effect": (cell, effect, unit), "effect_interval": ((*cell, "bound"), ends)},
        coords={
            "layer": [0, 1, 2], "head": [0, 1, 2, 3], "position": [-2, -1],
            "bound": ["low", "high"], "position_label": ("position", ["<b>", "\n"]),
        },
        attrs={
            "model": "m", "n_layers": 3, "aim": "induce", "pairing": "mean", "n_target": 9,
            "n_source": 8, "plain": -7.5, "plain_interval": [-8.0, -7.0], "source": 5.0,
            "source_interval": [4.0, 6.0], "confidence": 0.9, "interval": "bootstrap",
        },
    )  # fmt: skip


@pytest.fixture
def attribution():
    """Two layers, and a bias in none of them."""
    heads = np.zeros((3, 2, 4))
    heads[:, 1, 2], heads[2, 0, 1] = (6.0, 1.0, 5.0), -1.0
    mlp = np.array([[0.5, 0.25], [0.5, 0.0], [0.0, 0.25]])
    values = {
        "contribution": (("group", "layer", "head"), heads),
        "mlp_contribution": (("group", "layer"), mlp),
        "bias_contribution": (("group", "layer"), np.zeros((3, 2))),
        "embed_contribution": ("group", [1.0, 1.0, 0.0]),
        "projection": ("group", [7.75, 2.5, 4.25]),
    }
    intervals = {
        f"{name}_interval": ((*np.atleast_1d(dims), "bound"), bounds(np.asarray(own)))
        for name, (dims, own) in values.items()
    }
    return xr.Dataset(
        values | intervals | {"n": ("group", [4, 5, 9])},
        coords={
            "group": ["harmful", "harmless", "difference"], "layer": [0, 1],
            "head": [0, 1, 2, 3], "bound": ["low", "high"],
        },
        attrs={
            "model": "m", "direction": "refusal", "direction_layer": 2, "end_layer": 2,
            "position": -1, "confidence": 0.9, "interval": "bootstrap",
        },
    )  # fmt: skip


@pytest.fixture
def view():
    """Two heads over two prompts, the shorter one with padding before it."""
    share = np.array([[0.1, 0.7, 0.2], [0.0, 0.25, 0.75]])
    mass = np.stack([share, share[::-1], share - share[::-1]])
    attention = np.full((2, 2, 4), np.nan, dtype=np.float32)
    attention[0], attention[1, :, 1:] = 0.25, [[0.5, 0.25, 0.25], [0, 0, 1]]
    parts = [["pre_instruction", "instruction", "instruction", "post_instruction"]]
    parts += [["", "pre_instruction", "instruction", "post_instruction"]]
    texts = [["<u>", "a b", "c", "\n"], ["", "<u>", "d", "\n"]]
    first = np.array([[0.1, 0.0], [0.5, 0.2], [-0.4, -0.2]])
    return xr.Dataset(
        {
            "mass": (("group", "head", "part"), mass),
            "mass_interval": (("group", "head", "part", "bound"), bounds(mass, 0.05)),
            "first_token": (("group", "head"), first),
            "first_token_interval": (("group", "head", "bound"), bounds(first, 0.05)),
            "attention": (("prompt", "head", "token"), attention),
            "token_text": (("prompt", "token"), np.array(texts, dtype=object)),
            "token_part": (("prompt", "token"), np.array(parts, dtype=object)),
            "n": ("group", [3, 4, 7]),
        },
        coords={
            "group": ["harmful", "harmless", "difference"], "head": ["4.5", "3.2"],
            "part": ["pre_instruction", "instruction", "post_instruction"],
            "bound": ["low", "high"], "prompt": ["good", "bad"], "token": [-4, -3, -2, -1],
            "label": ("prompt", np.array(["harmless", "harmful"], dtype=object)),
        },
        attrs={"model": "m", "position": -1, "confidence": 0.9, "interval": "bootstrap"},
    )  # fmt: skip


def plain(text):
    """With a hyphen for every minus sign."""
    return text.replace("\N{MINUS SIGN}", "-")


def subtitle(figure):
    text = html.unescape(figure.layout.title.subtitle.text)
    return plain(text.replace("<br>", " · "))


def maps(figure):
    return [trace for trace in figure.data if trace.type == "heatmap"]


def frames(figure, axis="x"):
    """Cells that are outlined on the panel of an axis, as (row, column)."""
    return {
        (round(shape.y0 + 0.5), round(shape.x0 + 0.5))
        for shape in figure.layout.shapes
        if shape.type == "rect" and shape.xref == axis
    }


def test_every_position_has_its_map_on_one_scale(patching):
    figure = figures.head_map(patching)
    first, second = maps(figure)
    for trace, position in ((first, -2), (second, -1)):
        np.testing.assert_allclose(
            np.array(trace.z, float), patching["effect"].sel(position=position)
        )
        assert (trace.zmin, trace.zmax) == (-4, 4)
    assert [trace.showscale for trace in maps(figure)] == [True, False]
    titles = [plain(each.text) for each in figure.layout.annotations]
    assert titles == ["position -2 &lt;b&gt;", "position -1 \u21b5"]
    # Numbers stand where something happens, and nowhere else.
    assert plain(second.text[1][2]) == "4.0" and second.text[0][0] == ""
    assert plain(second.customdata[1][2]).startswith("layer 1, head 2<br>change 4 [3.9, 4.1]")
    assert "n = 9 targets, 8 sources" in subtitle(figure)
    assert "plain -7.5 [-8, -7], source 5 [4, 6]" in subtitle(figure)
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]


def test_outlines_are_the_largest_effects_that_are_told_from_zero(patching):
    figure = figures.head_map(patching, top=2)
    assert frames(figure) == set() and frames(figure, "x2") == {(1, 2), (2, 0)}
    assert "outlined: the 2 largest whose intervals leave zero out" in subtitle(figure)
    figure = figures.head_map(patching, top=9)
    # (0, 3) is large at position -2, but its interval holds zero.
    assert frames(figure) == {(1, 2)}


@pytest.mark.parametrize("told_by", ["argument", "result"])
def test_planted_heads_are_outlined_wherever_they_are_known_from(patching, told_by):
    if told_by == "argument":
        figure = figures.head_map(patching, planted=[(0, 0)])
    else:
        figure = figures.head_map(patching.assign_attrs(planted_heads=[[0, 0]]))
    assert frames(figure) == frames(figure, "x2") == {(0, 0)}
    assert "outlined: planted heads" in subtitle(figure)


def test_a_large_model_has_no_numbers_and_fewer_ticks(patching):
    wide = patching.isel(layer=[0] * 48, head=[0] * 32, position=[1]).assign_coords(
        layer=range(48), head=range(32)
    )
    figure = figures.head_map(wide)
    assert all(text == "" for row in maps(figure)[0].text for text in row)
    assert list(figure.layout.yaxis.ticktext) == [str(each) for each in range(0, 48, 3)]
    assert list(figure.layout.xaxis.ticktext) == [str(each) for each in range(0, 32, 2)]


def test_attribution_shows_the_difference_and_what_is_no_head(attribution):
    figure = figures.head_attribution(attribution, planted=PLANTED)
    heads, others = maps(figure)
    np.testing.assert_allclose(
        np.array(heads.z, float), attribution["contribution"].sel(group="difference")
    )
    assert np.array(others.z, float).tolist() == [[0.0], [0.25]]
    assert list(figure.layout.xaxis2.ticktext) == ["MLP"]  # there is no bias
    assert heads.zmax == others.zmax == 5
    assert frames(figure) == {(1, 2)}  # (2, 0) is behind the direction
    told = subtitle(figure)
    assert "sums: heads 4, MLP 0.25, embedding 0 · together 4.25 [4.15, 4.35]" in told
    assert "harmful minus harmless prompts, n = 9" in told
    one = figures.head_attribution(attribution, group="harmful")
    assert float(maps(one)[0].z[1][2]) == 6 and "harmful prompts, n = 4" in subtitle(one)


def test_the_board_pairs_effects_with_contributions(patching, attribution):
    figure = figures.head_board(patching, attribution, planted=PLANTED)
    effect, written = maps(figure)
    assert float(effect.z[1][2]) == 4 and float(written.z[1][2]) == 5
    # Each map has a scale of its own, and layers at the same height.
    assert (effect.zmax, written.zmax) == (4, 5)
    assert figure.layout.yaxis.range == figure.layout.yaxis2.range
    others, marked = (trace for trace in figure.data if trace.type == "scatter")
    assert len(others.x) + len(marked.x) == 8  # heads of two layers are in both
    assert list(marked.x) == [5] and list(marked.y) == [4] and list(marked.text) == ["1.2"]
    assert {*others.text} == {"", "0.1"}  # a tenth of the largest contribution is named
    assert marked.error_y.array == (pytest.approx(0.1),)
    pairs = xr.align(patching["effect"].sel(position=-1), attribution["contribution"][2])
    frame = {"a": pairs[0].values.ravel(), "b": pairs[1].values.ravel()}
    there = pd.DataFrame(frame).corr(method="spearman").iloc[0, 1]
    assert f"Spearman of the two {there:.3g} over 8 heads" in subtitle(figure)
    assert "blank: layers after the direction's" in subtitle(figure)


@pytest.mark.parametrize("pair", [[(0, 1), (1, 2)], [(0, 0), (1, 2)], [(0, 1), (1, 1)]])
def test_names_of_neighbouring_heads_stand_away_from_each_other(patching, attribution, pair):
    figure = figures.head_board(patching, attribution, planted=pair)
    (marked,) = [t for t in figure.data if t.type == "scatter" and t.name == "outlined heads"]
    up, down = np.argsort(-np.array(marked.y, float), kind="stable")
    assert (marked.textposition[up], marked.textposition[down]) == ("top right", "bottom right")


def test_the_board_takes_the_position_of_the_attribution(patching, attribution):
    figure = figures.head_board(patching, attribution.assign_attrs(position=-2))
    assert float(maps(figure)[0].z[1][2]) == -0.5
    figure = figures.head_board(patching, attribution.assign_attrs(position=-2), position=-1)
    assert float(maps(figure)[0].z[1][2]) == 4


def test_bars_hold_the_mass_of_each_label(view):
    figure = figures.head_attention(view)
    bars = [trace for trace in figure.data if trace.type == "bar"]
    assert [bar.name for bar in bars[:2]] == ["harmful", "harmless"] and len(bars) == 6
    instruction = [bar for bar in bars if bar.xaxis == "x2"]
    assert [list(bar.x) for bar in instruction] == [[70, 25], [25, 70]]
    assert instruction[0].error_x.array == pytest.approx((5, 5))
    assert sum(bool(bar.showlegend) for bar in bars) == 2
    assert "first token 10% [5%, 15%]<br>n = 3" in bars[0].customdata[0]
    assert "n = 3 harmful, 4 harmless prompts" in subtitle(figure)


def test_prompts_are_shown_token_by_token_without_padding(view):
    figure = figures.head_attention(view)
    harmful, harmless = maps(figure)
    assert np.array(harmful.z, float).tolist() == [[50, 25, 25], [0, 0, 100]]
    assert np.array(harmless.z, float).shape == (2, 4)
    titles = [each.text for each in figure.layout.annotations]
    assert titles[-2:] == ["bad (harmful)", "good (harmless)"]
    ticks = list(figure.layout.xaxis5.ticktext)
    assert ticks == ["&lt;u&gt;", "a\u2423b", "c", "\u21b5"]
    assert list(figure.layout.yaxis.ticktext) == ["4.5", "3.2"]
    assert plain(harmless.customdata[0][1]).startswith("a\u2423b<br>position -3, instruction")
    lines = [each.x0 for each in figure.layout.shapes if each.xref == "x5"]
    assert lines == [0.5, 2.5]  # template | words | template
    only = figures.head_attention(view, prompts="good")
    assert len(maps(only)) == 1


def test_wrong_results_are_refused(patching, attribution, view):
    with pytest.raises(StudyError, match="no head-patching result: it has no variable 'effect'"):
        figures.head_map(attribution)
    with pytest.raises(StudyError, match=r"no head attribution: .* no variable 'contribution'"):
        figures.head_attribution(patching)
    with pytest.raises(StudyError, match=r"no group 'x' .*: harmful, harmless, difference"):
        figures.head_attribution(attribution, group="x")
    with pytest.raises(StudyError, match=r"position -7 was not patched: -2, -1\."):
        figures.head_board(patching, attribution, position=-7)
    with pytest.raises(StudyError, match="patching of 'm' beside attribution of 'other'"):
        figures.head_board(patching, attribution.assign_attrs(model="other"))
    with pytest.raises(StudyError, match="no two heads in common"):
        figures.head_board(patching.isel(layer=[2]), attribution)
    with pytest.raises(StudyError, match=r"no prompt 'x' in this view of 2: good, bad\."):
        figures.head_attention(view, prompts="x")
    with pytest.raises(StudyError, match="no view of attention"):
        figures.head_attention(patching)


@pytest.fixture
def curve():
    """A set of two heads that turns all replies, and three random sets that turn none."""
    score = np.array([-9.0, -4.0, 3.0])
    rate = np.array([0.0, 0.25, 1.0])
    draws = np.array([[-9.0, -9.0, -9.0], [-8.0, -9.0, -10.0], [-7.0, -9.0, -11.0]])
    return xr.Dataset(
        {
            "score": ("size", score), "score_interval": (("size", "bound"), bounds(score)),
            "rate": ("size", rate),
            "rate_interval": (("size", "bound"), np.clip(bounds(rate), 0, 1)),
            "sum_of_singles": ("size", [0.0, 5.0, 8.0]),
            "random_score": (("size", "draw"), draws),
            "random_rate": ("draw", [0.0, 0.1, 0.2]),
        },
        coords={
            "size": [0, 1, 2], "layer": ("size", [-1, 4, 3]), "head": ("size", [-1, 5, 2]),
            "draw": [0, 1, 2], "random_heads": ("draw", ["0.1, 0.2", "1.1, 1.2", "<2.1>"]),
            "bound": ["low", "high"],
        },
        attrs={
            "model": "m", "aim": "induce", "threshold": 0.9, "reached": True, "source": 5.0,
            "n_target": 9, "n_source": 8, "positions": [-1], "judge": "rules", "confidence": 0.9,
            "interval": "bootstrap",
        },
    )  # fmt: skip


def levels(figure):
    """Heights of horizontal lines, by the axis that they belong to."""
    shapes = [each for each in figure.layout.shapes if each.type == "line"]
    return {each.yref: each.y0 for each in shapes}


def test_the_set_is_drawn_beside_random_sets_and_the_sum(curve):
    figure = figures.head_set(curve)
    traces = {trace.name: trace for trace in figure.data if trace.name}
    both = [trace for trace in figure.data if trace.name == "set, patched together"]
    assert [list(trace.y) for trace in both] == [[-9, -4, 3], [0, 25, 100]]
    assert both[1].error_y.arrayminus == pytest.approx((0, 10, 10))
    singles = traces["plain score and the sum of single effects"]
    assert list(singles.y) == [-9, -4, -1]
    assert list(traces["3 random sets: range and mean"].y) == [-9, -9, -9]
    area = next(trace for trace in figure.data if trace.fill == "toself")
    assert list(area.y)[:6] == [-9, -10, -11, -7, -8, -9]
    dots = next(trace for trace in figure.data if trace.mode == "markers")
    assert list(dots.y) == [0, 10, 20] and "&lt;2.1&gt;" in dots.customdata[2]
    assert levels(figure) == {"y": 5, "y2": 90}
    assert list(figure.layout.xaxis2.ticktext) == ["none", "1<br>+4.5", "2<br>+3.2"]
    told = subtitle(figure)
    assert "set 4.5, 3.2, threshold 90% reached" in told
    assert "random sets of that size: mean rate 10%, grey dots" in told
    assert "2 heads: 4.5, 3.2<br>refusal score 3 [2.9, 3.1]" in both[0].customdata[2]


def test_suppressing_has_its_threshold_at_the_other_end(curve):
    turned = curve.assign_attrs(aim="suppress", reached=False)
    figure = figures.head_set(turned.isel(draw=[]))
    assert levels(figure)["y2"] == pytest.approx(10)
    assert "threshold 90% not reached" in subtitle(figure)
    assert "random" not in subtitle(figure) and len(figure.data) == 3


def test_a_curve_is_needed(patching):
    with pytest.raises(StudyError, match="no curve of head sets: it has no variable 'score'"):
        figures.head_set(patching)
