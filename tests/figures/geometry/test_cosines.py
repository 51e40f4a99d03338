"""Cosine maps as figures, by their traces."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError
from workbench.figures.geometry.pairs import similar_first

NAMES = ["hate <b>", "fraud", "drug_use", "theft"]


def cosines(seed=0, layers=(0, 3, 7), positions=(-2, -1), baselines=True, names=NAMES):
    """A map of four categories in two groups; layer 0 was zero but for rounding."""
    rng = np.random.default_rng(seed)
    n, cells = len(names), (len(layers), len(positions))
    group = np.arange(n) % 2
    values = np.where(group[:, None] == group, 0.7, -0.2)[..., None, None] + np.zeros(cells)
    values = values + 0.05 * rng.normal(size=(1, 1, *cells))
    values[np.arange(n), np.arange(n)] = 1
    values[:, :, 0] = np.nan
    pair, rest = ("name", "name_other", "layer", "position"), ("layer", "position")
    off = ~np.eye(n, dtype=bool)
    variables = {"cosine": (pair, values), "mean_cosine": (rest, values[off].mean(0))}
    coords = {
        "name": names,
        "name_other": names,
        "layer": list(layers),
        "position": list(positions),
    }
    attrs = {"model": "m <7b>", "site": "resid_pre", "over": "name"}
    if not baselines:
        return xr.Dataset(variables, coords, {**attrs, "baselines": "none: no resamples"})
    for prefix, dims, v in (("", pair, values), ("mean_", rest, values[off].mean(0))):
        variables[f"{prefix}disattenuated"] = (dims, 1.1 * v)
        for name, factor in (("cosine", 1.0), ("disattenuated", 1.1)):
            ends = np.stack([factor * v - 0.1, factor * v + 0.1], -1)
            variables[f"{prefix}{name}_interval"] = ((*dims, "bound"), ends)
        variables[f"{prefix}ceiling"] = (dims, 0 * v + 0.9)
        null = np.stack([0 * v + q for q in (0.8, 0.85, 0.88)], -1)
        variables[f"{prefix}null"] = ((*dims, "quantile"), null)
        variables[f"{prefix}p_permuted"] = (dims, 0 * v + 0.01)
        variables[f"{prefix}p_one_direction"] = (dims, np.where(v > 0.5, 0.4, 0.01))
    # At layer 3 the length of some direction is not known well enough.
    variables["mean_disattenuated_interval"][1][1] = np.nan
    variables["reliability"] = (("name", *rest), 0.8 + np.zeros((n, *cells)))
    variables["reliability"][1][:, 0] = np.nan
    coords |= {"bound": ["low", "high"], "quantile": [0.025, 0.5, 0.975]}
    attrs |= {"confidence": 0.95, "interval": "bootstrap", "n": {"positive": 70, "negative": 50}}
    attrs["n_by_name"] = dict(zip(names, (20, 20, 15, 15), strict=True))
    return xr.Dataset(variables, coords, attrs)


def layer_map():
    """A map between layers, of two names."""
    values = np.stack([[[1, 0.5], [0.5, 1]], [[1, -0.4], [-0.4, 1]]], -1)[..., None].astype(float)
    return xr.Dataset(
        {"cosine": (("layer", "layer_other", "name", "position"), values)},
        {"layer": [2, 4], "layer_other": [2, 4], "name": ["a", "b"], "position": [-1]},
        {"over": "layer"},
    )


def heats(figure):
    """The traces that show cosines, without the grey under them."""
    return [t for t in figure.data if t.type == "heatmap" and t.coloraxis]


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def test_values_stand_where_they_belong():
    data = cosines()
    figure = figures.cosine_map(data, layer=3, position=-1)
    (heat,) = heats(figure)
    words = {"hate <b>": "hate &lt;b&gt;", "drug_use": "drug use"}
    at = data["cosine"].sel(layer=3, position=-1)
    for name in NAMES:
        for other in NAMES:
            row = heat.y.index(words.get(name, name))
            column = heat.x.index(words.get(other, other))
            value = np.array(heat.z, dtype=float)[row, column]
            if name == other:
                assert np.isnan(value)
                assert heat.text[row][column] == ""
            else:
                expected = float(at.sel(name=name, name_other=other))
                assert value == pytest.approx(expected)
                printed = heat.text[row][column].replace("\N{MINUS SIGN}", "-")
                assert float(printed.rstrip("°")) == pytest.approx(expected, abs=0.006)
                # The ring is for what is not told from one direction.
                assert printed.endswith("°") == (expected > 0.5)
    assert "°: not told from one direction (p &gt; 0.05, corrected" in subtitle(figure)
    assert "?: not tested" not in subtitle(figure)


def test_similar_categories_stand_beside_each_other():
    data = cosines()
    order = [NAMES[index] for index in similar_first(data)]
    assert {frozenset(order[:2]), frozenset(order[2:])} == {
        frozenset(("hate <b>", "drug_use")),
        frozenset(("fraud", "theft")),
    }
    (heat,) = heats(figures.cosine_map(data, layer=3, position=-1))
    assert heat.x == heat.y
    # The same order at every layer and position, whatever they were given in.
    for figure in (
        figures.cosine_map(data, layer=7, position=-2),
        figures.cosine_maps_by_layer(data, position=-1),
    ):
        assert all(each.y == heat.y for each in heats(figure))
    assert similar_first(layer_map()) == [0, 1]


def test_the_scale_is_the_same_for_all_maps_and_white_at_zero():
    for figure in (
        figures.cosine_map(cosines(), layer=3, position=-1),
        figures.cosine_maps_by_layer(cosines(), position=-1),
    ):
        axis = figure.layout.coloraxis
        assert (axis.cmin, axis.cmax) == (-1, 1)
        assert axis.colorscale[2] == (0.5, "#F7F7F5")


def test_hovering_shows_everything_that_is_known_of_a_pair():
    (heat,) = heats(figures.cosine_map(cosines(), layer=3, position=-1))
    text = heat.customdata[0][1]
    for part in ("layer 3", "cosine", "without noise", "[", "ceiling 0.9",
                 "permuted among prompts 0.8 to 0.88, p = 0.01 (lengths count)",
                 "one direction: p = 0.4, corrected"):  # fmt: skip
        assert part in text
    (plain,) = heats(figures.cosine_map(cosines(baselines=False), layer=3, position=-1))
    assert "p = " not in plain.customdata[0][1]


def test_what_was_not_tested_is_marked_and_named():
    data = cosines().assign_attrs(too_few={"drug_use": 3}, fewest=8)
    few = (data["name"] == "drug_use") | (data["name_other"] == "drug_use")
    for name in ("disattenuated", "disattenuated_interval", "cosine_interval", "p_one_direction"):
        data[name] = data[name].where(~few)
    figure = figures.cosine_map(data, layer=3, position=-1)
    (heat,) = heats(figure)
    row = heat.y.index("drug use")
    assert all(text.endswith("?") for text in heat.text[row] if text)
    told = " ".join(subtitle(figure).split())
    assert "?: not tested for being one direction" in told
    assert "fewer than 8 prompts, too few for intervals, reliability and cosines" in told
    assert "drug use 3" in told
    hover = heat.customdata[row][heat.x.index("fraud")]
    assert "(no interval)" in hover and "one direction: not tested" in hover
    assert "3 categories" in subtitle(figures.cosine_by_layer(data, position=-1))


def test_the_mean_by_layer_promises_nothing_that_was_not_measured():
    data = cosines().assign_attrs(too_few={"harmless prompts": 7}, fewest=8, averaged=NAMES)
    for name in ("disattenuated", "disattenuated_interval", "cosine_interval", "ceiling"):
        data[f"mean_{name}"] = data[f"mean_{name}"] * np.nan
    figure = figures.cosine_by_layer(data, position=-1)
    told = subtitle(figure)
    assert "bands under the lines" not in told and "hollow" not in told
    assert "harmless prompts 7; means are over all pairs" in " ".join(told.split())
    assert not figure.layout.annotations  # no panel without noise
    null = "categories permuted (95% range)"
    assert {trace.name for trace in figure.data if trace.showlegend is not False} == {
        null,
        "mean over pairs",
    }
    # Without the null, too, there are the extremes.
    figure = figures.cosine_by_layer(data.drop_vars(["mean_null", "null"]), position=-1)
    assert {"lowest pair", "highest pair"} < {trace.name for trace in figure.data}
    few = cosines().assign_attrs(n_resamples=20)
    few["mean_cosine_interval"] = few["mean_cosine_interval"] * np.nan
    few["mean_disattenuated_interval"] = few["mean_disattenuated_interval"] * np.nan
    told = subtitle(figures.cosine_by_layer(few, position=-1))
    assert "no intervals: 20 resamples are too few for 95% intervals" in told
    assert "hollow" not in told and "bands" not in told


def test_an_estimate_beyond_1_is_not_shown_as_a_cosine():
    data = cosines()
    data["disattenuated"] = data["disattenuated"] + 0.4
    data["mean_disattenuated"] = data["mean_disattenuated"] * 0 + 1.09
    (heat,) = heats(figures.cosine_map(data, layer=3, position=-1))
    hovers = [text for line in heat.customdata for text in line]
    assert any("without noise \N{GREATER-THAN OR EQUAL TO}1 [" in text for text in hovers)
    assert not any("without noise 1." in text for text in hovers)
    figure = figures.cosine_by_layer(data, position=-1)
    (line,) = [trace for trace in figure.data if trace.name == "without noise"]
    assert line.y[1:] == (1, 1) and line.marker.symbol[1:] == ("triangle-up",) * 2
    assert "\N{GREATER-THAN OR EQUAL TO}1" in line.customdata[2]
    assert "estimate 1.09" in line.customdata[2]
    assert "triangle: estimated beyond 1, not told from 1" in subtitle(figure)
    assert max(y for t in figure.data if t.fill == "toself" for y in t.y if y is not None) <= 1


def test_reliability_stands_beside_its_row():
    figure = figures.cosine_map(cosines(), layer=3, position=-1)
    (bar,) = [trace for trace in figure.data if trace.type == "bar"]
    assert bar.y == heats(figure)[0].y
    assert set(bar.x) == {0.8}
    assert bar.text == ("0.80",) * 4
    assert not [t for t in figures.cosine_map(cosines(baselines=False), layer=3, position=-1).data
                if t.type == "bar"]  # fmt: skip


def test_subtitles_state_model_place_n_and_what_is_missing():
    text = subtitle(figures.cosine_map(cosines(), layer=3, position=-1))
    for part in ("m &lt;7b&gt;", "site resid_pre", "layer 3, position \N{MINUS SIGN}1",
                 "n = 15 to 20 prompts each against 50", "diagonal"):  # fmt: skip
        assert part in text
    text = subtitle(figures.cosine_map(cosines(baselines=False), layer=3, position=-1))
    assert "no intervals: directions were not resampled" in text
    assert "n not recorded" in text


def test_what_has_no_cosine_is_grey_and_says_so():
    data = layer_map()
    data["cosine"][0, 1] = np.nan
    figure = figures.cosine_map(data, name="b")
    under = figure.data[0]
    assert under.text[0][1] == "n/m"
    assert under.text[0][0] == ""
    assert under.z[0][1] == 0
    assert "n/m: not measured" in subtitle(figure)
    assert heats(figure)[0].text[0][1] == ""


def test_maps_between_layers_keep_the_order_of_layers():
    figure = figures.cosine_map(layer_map(), name="b")
    (heat,) = heats(figure)
    assert heat.x == heat.y == ("2", "4")
    assert heat.text[0][1] == "\N{MINUS SIGN}0.40"
    assert figure.layout.xaxis.title.text == "layer"
    assert "direction b" in subtitle(figure)


def test_two_sets_are_compared_in_their_own_order_with_their_own_diagonal():
    data = cosines(baselines=False).drop_vars("mean_cosine")
    data.attrs["provenance_other"] = {}
    (heat,) = heats(figures.cosine_map(data, layer=3, position=-1))
    assert heat.x[1] == "fraud"
    assert heat.text[1][1] == "1.00"
    assert figures.cosine_maps_by_layer(data, position=-1)


def test_layers_stand_side_by_side():
    figure = figures.cosine_maps_by_layer(cosines(), position=-1)
    assert len(heats(figure)) == 2
    titles = [each.text for each in figure.layout.annotations]
    mean = cosines()["mean_cosine"].sel(position=-1)
    expected = f"{float(mean.sel(layer=3)):.2f}".replace("-", "\N{MINUS SIGN}")
    assert titles[0] == f"layer 3: {expected}"
    assert "1 layer left out: the same in every prompt" in subtitle(figure)
    many = figures.cosine_maps_by_layer(cosines(layers=tuple(range(30))), position=-1)
    assert len(heats(many)) == 12
    assert "12 of 29 layers shown" in subtitle(many)
    labels = [t.text.split(":")[0] for t in many.layout.annotations]
    assert (labels[0], labels[-1]) == ("layer 1", "layer 29")


def test_the_mean_by_layer_stands_against_ceiling_and_null():
    data = cosines()
    figure = figures.cosine_by_layer(data, position=-1)
    traces = {trace.name: trace for trace in figure.data if trace.name}
    line = traces["mean over pairs"]
    np.testing.assert_allclose(np.array(line.y, dtype=float), data["mean_cosine"].sel(position=-1))
    assert line.yaxis == "y"
    assert traces["without noise"].yaxis == "y2"
    assert set(np.array(traces["if all were one direction"].y, dtype=float)[1:]) == {0.9}
    null = next(t for name, t in traces.items() if name.startswith("categories permuted (95%"))
    assert {y for y in null.y if y is not None} == {0.8, 0.88}
    assert null.yaxis == traces["if all were one direction"].yaxis == "y"
    bands = [t for t in figure.data if t.fill == "toself" and t is not null]
    assert len(bands) == 2
    # Too noisy for an interval at layer 3: hollow, and no band there.
    assert traces["without noise"].marker.color[1:] == ("white", traces["without noise"].line.color)
    assert {x for x in bands[1].x if x is not None} == {7}
    assert "hollow: too noisy" in subtitle(figure)
    assert "95% intervals (bootstrap)" in subtitle(figure)
    assert "p = " in line.customdata[1]


def test_the_mean_by_layer_without_baselines_shows_the_extremes():
    data = cosines(baselines=False)
    figure = figures.cosine_by_layer(data, position=-1)
    traces = {trace.name: trace for trace in figure.data}
    assert set(traces) == {"mean over pairs", "lowest pair", "highest pair"}
    off = data["cosine"].sel(position=-1).values[~np.eye(4, dtype=bool)]
    np.testing.assert_allclose(np.array(traces["lowest pair"].y, dtype=float), off.min(0))
    np.testing.assert_allclose(np.array(traces["highest pair"].y, dtype=float), off.max(0))
    assert traces["lowest pair"].line.dash != traces["highest pair"].line.dash
    assert traces["mean over pairs"].showlegend
    low, high = figure.layout.yaxis.range
    assert low < off[:, 1:].min()
    assert high > 1


def test_figures_change_nothing():
    data = cosines()
    before = data.copy(deep=True)
    figures.cosine_map(data, layer=3, position=-1)
    figures.cosine_maps_by_layer(data, position=-1)
    figures.cosine_by_layer(data, position=-1)
    assert data.identical(before)


def test_what_cannot_be_drawn():
    data = cosines()
    with pytest.raises(StudyError, match=r"several layers: choose layer= among \[0, 3, 7\]"):
        figures.cosine_map(data, position=-1)
    with pytest.raises(StudyError, match=r"several positions: choose position= among"):
        figures.cosine_by_layer(data)
    with pytest.raises(StudyError, match=r"no layer 1 in this map: \[0, 3, 7\]"):
        figures.cosine_map(data, layer=1, position=-1)
    with pytest.raises(StudyError, match="nothing to draw"):
        figures.cosine_map(data, layer=0, position=-1)
    with pytest.raises(StudyError, match="expected a map between categories, found one between"):
        figures.cosine_maps_by_layer(layer_map())
    with pytest.raises(StudyError, match="categories of one set: it has no variable 'mean_cosine'"):
        figures.cosine_by_layer(data.drop_vars("mean_cosine"), position=-1)
    with pytest.raises(StudyError, match="no map of cosines: it has no variable 'cosine'"):
        figures.cosine_map(data.drop_vars("cosine"))
    with pytest.raises(StudyError, match="no axis is compared"):
        figures.cosine_map(data.isel(name_other=0))
