"""The figures of vocabulary, of concept or words, and of wording, by their traces."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


@pytest.fixture
def readout():
    axes = ("name", "sign", "rank")
    z = np.array([[[6, 3, 1], [-4, -2, -1]], [[5, 2, 1], [-9, -2, -1]]], float)
    token = [[["<b>no", " sorry", "\n"], ["x" * 40, "b", "c"]], [["d", "e", "f"], ["g", "h", "i"]]]
    return xr.Dataset(
        {
            "z": (axes, z),
            "logit": (axes, 2 * z),
            "token": (axes, np.array(token, dtype=object)),
            "token_id": (axes, np.arange(12).reshape(2, 2, 3)),
            "chance_z": (("name", "null"), np.array([[3.0, 3.5], [3.0, 4.0]])),
        },
        coords={
            "name": ["refusal", "<i>harm"], "sign": ["promoted", "suppressed"], "rank": [1, 2, 3],
            "layer": ("name", [5, 7]), "null": ["isotropic", "covariance"],
        },
        attrs={"model": "m", "n_random": 200, "confidence": 0.95},
    )  # fmt: skip


def test_tokens_stand_at_their_bars(readout):
    figure = figures.vocabulary(readout)
    assert [trace.x for trace in figure.data[:2]] == [(6, 3, 1), (-4, -2, -1)]
    assert figure.data[0].y == (1, 2, 3) and figure.layout.yaxis.range == (3.6, 0.4)
    assert figure.data[0].text == ("&lt;b&gt;no", "␣sorry", "↵")
    assert figure.data[0].marker.color != figure.data[1].marker.color
    assert figure.data[1].text[0].endswith("…") and len(figure.data[1].text[0]) < 20
    assert figure.data[0].customdata[1] == ["␣sorry", 1, "6", "3"]
    # One scale for all, with room for the tokens.
    for axis in (figure.layout.xaxis, figure.layout.xaxis2):
        assert -axis.range[0] == axis.range[1] > 1.5 * 9


def test_each_direction_has_a_panel_with_the_reach_of_chance(readout):
    figure = figures.vocabulary(readout)
    titles = [each.text for each in figure.layout.annotations]
    assert titles == ["<b>refusal</b>, layer 5", "<b>&lt;i&gt;harm</b>, layer 7"]
    assert sorted((s.xref, s.x0) for s in figure.layout.shapes) == [
        ("x", -3.5), ("x", 3.5), ("x2", -4), ("x2", 4)
    ]  # fmt: skip
    told = "95% of 200 directions without meaning, of the kind that reaches furthest"
    assert f"{told} (random 3, as activations vary 3.5 to 4)" in subtitle(figure)
    assert len(figures.vocabulary(readout, top=1).data[0].x) == 1
    alone = figures.vocabulary(readout.isel(name=[0]).drop_vars("chance_z"))
    assert len(alone.data) == 2 and not alone.layout.shapes


@pytest.fixture
def plane():
    cell = ("name", "layer", "contrast")
    auc = np.array([[[0.6, 0.5], [0.9, np.nan]], [[np.nan, np.nan], [0.8, 0.7]]])
    words = np.array([[0.1, 0.3], [np.nan, 0.02]])
    return xr.Dataset(
        {
            "auc": (cell, auc),
            "auc_interval": ((*cell, "bound"), np.stack([auc - 0.1, auc + 0.05], -1)),
            "words": (cell[:2], words),
            "other_words": (cell[:2], words / 2),
            "other_words_interval": ((*cell[:2], "bound"), np.stack([0 * words, words], -1)),
        },
        coords={
            "name": ["early", "<b>late"], "layer": [3, 7], "contrast": ["all", "harmful"],
            "bound": ["low", "high"], "categories": ("name", ["kites, <i>", "quilts"]),
        },
        attrs={"model": "m", "site": "resid_pre", "n": 30, "random_words_high": 0.22,
               "refusal_token_texts": ["S", "<N>"], "confidence": 0.9},
    )  # fmt: skip


def test_a_line_through_the_layers_ends_in_a_large_mark(plane):
    figure = figures.concept_or_words(plane)
    line, last, late = figure.data
    assert line.x == (0.1, 0.3) and line.y == (0.6, 0.9)
    assert last.x == (0.3,) and last.name == "early (layer 7)"
    assert late.x == (0.02,) and late.y == (0.8,) and late.name == "&lt;b&gt;late (layer 7)"
    assert last.error_y.array[0] == pytest.approx(0.05)
    assert last.error_y.arrayminus[0] == pytest.approx(0.1)
    assert "AUC 0.9 [0.8, 0.95]" in last.customdata[0]
    assert "words 30.0%" in last.customdata[0] and "kites, &lt;i&gt;" in last.customdata[0]
    assert "as many other tokens 15% [0%, 30%]" in last.customdata[0]


def test_random_directions_and_corners_are_marked(plane):
    figure = figures.concept_or_words(plane)
    band, chance = figure.layout.shapes
    assert (band.x0, band.x1) == (0, 0.22) and (chance.y0, chance.y1) == (0.5, 0.5)
    corners = {each.text: (each.x > 0.5, each.y > 0.5) for each in figure.layout.annotations}
    assert corners["<i>a concept</i>"] == (False, True)
    assert corners["<i>words</i>"] == (True, False)
    for part in ("n = 30 prompts", "random direction (up to 0.22)", "90% intervals", "&lt;N&gt;"):
        assert part in subtitle(figure)


def test_the_contrast_is_the_callers(plane):
    figure = figures.concept_or_words(plane, "harmful")
    assert [trace.y for trace in figure.data] == [(0.5,), (0.7,)]
    assert "harmful prompts of other categories" in figure.layout.yaxis.title.text
    with pytest.raises(StudyError, match="no contrast 'harmless'"):
        figures.concept_or_words(plane, "harmless")
    nothing = plane.assign(auc=plane["auc"].where(plane["contrast"] == "all"))
    with pytest.raises(StudyError, match="holds no 'harmful' contrast"):
        figures.concept_or_words(nothing, "harmful")
    with pytest.raises(StudyError, match="no concept-or-words plane"):
        figures.concept_or_words(plane.drop_vars("words"))


@pytest.fixture
def clusters():
    return xr.Dataset(
        {
            "count": (("cluster", "category"), [[9, 1], [2, 6]]),
            "residual": (("cluster", "category"), [[2.9, -2.9], [-2.9, 2.9]]),
            "residual_p": (("cluster", "category"), [[0.03, 0.03], [0.2, 0.2]]),
            "term": (("cluster", "term_rank"), [["i cannot", "<u>"], ["as an", ""]]),
            "representative": ("cluster", ["i cannot <b>help</b>", "as an ai"]),
            "wording": ("cluster", ["i cannot <b> …", "as an ai …"]),
            "silhouette": ("k", [0.9, 0.4]),
            "stability": ("k", [1.0, 0.5]),
            "stability_interval": (("k", "bound"), [[0.9, 1.0], [-0.1, 0.8]]),
            "cramers_v": ((), 0.6),
            "cramers_v_interval": ("bound", [0.3, 0.9]),
            "p_value": ((), 0.004),
        },
        coords={
            "cluster": [1, 2], "category": ["drugs", "<i>fraud"], "k": [2, 3],
            "bound": ["low", "high"],
        },
        attrs={"k": 2, "n_replies": 20, "condition": "plain", "confidence": 0.95},
    )  # fmt: skip


def test_counts_are_printed_on_what_chance_would_not_give(clusters):
    figure = figures.wording(clusters)
    heat = figure.data[0]
    assert [tuple(row) for row in heat.text] == [("9*", "1*"), ("2", "6")]
    assert list(heat.z[0]) == [2.9, -2.9] and (heat.zmin, heat.zmax) == (-4, 4)
    assert figure.layout.yaxis.ticktext[0] == "i cannot &lt;b&gt; …<br>n = 10"
    assert figure.layout.xaxis.ticktext == ("drugs", "&lt;i&gt;fraud")
    hover = heat.customdata[0][0]
    assert "drugs: 9 of 11 refusals (82%), residual 2.9 (p = 0.03, corrected over cells)" in hover
    assert "than by chance (p ≤ 0.05, corrected over 4 cells): 2" in subtitle(figure)
    assert "i cannot &lt;b&gt;help" in hover and "<u>" not in hover
    far = clusters.assign(residual=3 * clusters["residual"])
    assert figures.wording(far).data[0].zmax == pytest.approx(8.7)


def test_the_choice_of_k_is_drawn_below(clusters):
    figure = figures.wording(clusters)
    drawn = {trace.name: trace for trace in figure.data[1:] if trace.name}
    assert drawn["silhouette"].y == (0.9, 0.4)
    assert drawn["stability (adjusted Rand index)"].y == (1.0, 0.5)
    assert figure.data[1].y == (0.9, -0.1, 0.8, 1.0)
    assert figure.layout.shapes[0].x0 == 2
    assert figure.layout.yaxis2.range[0] < -0.1
    for part in (
        "n = 18 refusals of 20 replies",
        "V 0.60 [0.30, 0.90], p = 0.004",
        "condition: plain",
    ):
        assert part in subtitle(figure)


def test_a_single_wording_has_no_choice_to_draw(clusters):
    one = clusters.isel(cluster=[0], k=slice(0, 0)).assign(cramers_v=np.nan)
    figure = figures.wording(one)
    assert len(figure.data) == 1 and "nothing to go together" in subtitle(figure)
    with pytest.raises(StudyError, match="no clustering of refusals: it has no variable 'count'"):
        figures.wording(clusters.drop_vars("count"))
