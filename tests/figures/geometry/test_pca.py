"""Projections as figures, by their traces."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError


@pytest.fixture
def projection():
    """Six prompts at three layers and two positions; layer 0 is the same in every prompt."""
    rng = np.random.default_rng(0)
    score = rng.normal(size=(6, 3, 2, 2))
    score[:, 0] = np.nan
    share, auc = np.full((3, 2, 2), 0.25), np.full((3, 2), 0.9)
    share[0] = auc[0] = np.nan
    where = ("layer", "position")
    return xr.Dataset(
        {
            "score": (("prompt", *where, "component"), score),
            "explained_variance": ((*where, "component"), share),
            "auc": (where, auc),
            "auc_interval": ((*where, "bound"), np.stack([auc - 0.2, auc + 0.05], -1)),
        },
        {
            "prompt": [f"p{row}" for row in range(6)],
            "label": ("prompt", ["harmless", "harmful"] * 3),
            "category": ("prompt", ["c", "a", "c", "b", "c", "b"]),
            "text": ("prompt", [f"<img src=x onerror=alert({row})> " + "word " * 80
                                for row in range(6)]),
            "layer": [0, 2, 5], "position": [-2, -1], "component": [1, 2],
            "bound": ["low", "high"],
        },
        {"model": "m", "site": "resid_pre", "n": 6, "positive": "harmful", "negative": "harmless",
         "confidence": 0.9},
    )  # fmt: skip


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def test_every_prompt_stands_where_its_scores_say(projection):
    figure = figures.pca(projection, position=-1)
    assert len(figure.data) == 4
    for trace in figure.data:
        layer = {"x": 2, "x2": 5}[trace.xaxis]
        at = projection["score"].sel(layer=layer, position=-1)
        expected = at.values[projection["label"].values == trace.name]
        np.testing.assert_allclose(np.stack([trace.x, trace.y], 1), expected)
    assert [trace.showlegend for trace in figure.data] == [True, False, True, False]
    colours = {trace.name: trace.marker.color for trace in figure.data}
    symbols = {trace.name: trace.marker.symbol for trace in figure.data}
    assert len(set(colours.values())) == len(set(symbols.values())) == 2


def test_titles_say_how_much_is_seen_and_how_well_labels_separate(projection):
    titles = [each.text for each in figures.pca(projection, position=-1).layout.annotations]
    assert titles[:2] == [
        f"layer {layer}<br>50% of variance<br>AUC 0.90 [0.70, 0.95]" for layer in (2, 5)
    ]
    without = projection.drop_vars(["auc", "auc_interval"])
    titles = [each.text for each in figures.pca(without, position=-1).layout.annotations]
    assert titles[0] == "layer 2<br>50% of variance"


def test_hovering_shows_the_prompt_and_nothing_in_it_is_markup(projection):
    figure = figures.pca(projection, position=-1)
    text = next(t for t in figure.data if t.name == "harmful").customdata[0]
    assert text.startswith("p1 · harmful · a<br>&lt;img src=x onerror=alert(1)&gt; word")
    assert "<img" not in text
    assert len(text) < 450
    assert max(len(line) for line in text.split("<br>")) < 80
    bare = figures.pca(projection.drop_vars("text"), position=-1)
    assert bare.data[0].customdata[0] == "p1 · harmful · a"
    projection["category"] = ("prompt", ["<script>"] * 6)
    assert figures.pca(projection, position=-1, colour="category").data[0].name == "&lt;script&gt;"


def test_colour_by_category(projection):
    figure = figures.pca(projection, position=-1, colour="category")
    assert [t.name for t in figure.data if t.showlegend] == ["a", "b", "c"]
    single = projection.isel(prompt=[1, 3, 5])
    assert {t.name for t in figures.pca(single, position=-1).data} == {"a", "b"}


def test_subtitle_states_model_place_n_and_what_is_left_out(projection):
    text = subtitle(figures.pca(projection, position=-1))
    for part in ("m", "site resid_pre", "position \N{MINUS SIGN}1",
                 "n = 3 harmful and 3 harmless prompts", "each panel has its own scale",
                 "AUC: harmful against harmless", "90% intervals", "1 layer left out"):  # fmt: skip
        assert part in text


def test_many_layers_are_thinned_out(projection):
    many = xr.concat([projection.sel(layer=5)] * 30, "layer").assign_coords(layer=range(30))
    many["label"] = projection["label"]
    figure = figures.pca(many.transpose("prompt", "layer", ...), position=-1)
    assert len(figure.data) == 24
    assert "12 of 30 layers shown" in subtitle(figure)


def test_titles_of_panels_do_not_touch_the_subtitle(projection):
    # Three lines over the first row of panels, and the title where it was.
    figure = figures.pca(projection, position=-1)
    lines = figure.layout.title.subtitle.text.count("<br>") + 1
    assert figure.layout.margin.t - (52 + 17 * lines) >= 3 * 16
    assert (1 - figure.layout.title.y) * figure.layout.height == pytest.approx(16, abs=2)


def test_what_cannot_be_drawn(projection):
    with pytest.raises(StudyError, match=r"several positions: choose position= among \[-2, -1\]"):
        figures.pca(projection)
    with pytest.raises(StudyError, match="no position -3 in this projection"):
        figures.pca(projection, position=-3)
    with pytest.raises(StudyError, match="one component is no plane"):
        figures.pca(projection.sel(component=[1]), position=-1)
    with pytest.raises(StudyError, match="nothing to draw"):
        figures.pca(projection.sel(layer=[0]), position=-1)
    with pytest.raises(StudyError, match="no projection: it has no variable 'score'"):
        figures.pca(projection.drop_vars("score"), position=-1)
    projection["score"].loc[{"position": -1}] = np.nan
    with pytest.raises(StudyError, match="all prompts have the same activation"):
        figures.pca(projection, position=-1)
