"""The cosine of two categories by layer: numbers at their layers, and what to read them against."""

import numpy as np
import pytest
import xarray as xr

from workbench.errors import StudyError
from workbench.figures.geometry.cosine_pair import cosine_pair

LAYERS = (2, 5, 9)


def cosines(baselines=True, layers=LAYERS):
    """A map between two categories at two positions; the pair's cosine falls with depth."""
    fall = np.linspace(0.9, 0.3, len(layers))[:, None] - [0.2, 0.0]
    values = np.ones((2, 2, len(layers), 2))
    values[0, 1] = values[1, 0] = fall
    dims = ("name", "name_other", "layer", "position")
    variables = {"cosine": (dims, values)}
    coords = {
        "name": ["drug_use", "fraud <b>"], "name_other": ["drug_use", "fraud <b>"],
        "layer": list(layers), "position": [-2, -1],
    }  # fmt: skip
    attrs = {"model": "m", "site": "resid_pre", "over": "name"}
    if not baselines:
        return xr.Dataset(variables, coords, {**attrs, "baselines": "none: no resamples"})
    variables["disattenuated"] = (dims, 1.1 * values)
    for name, factor in (("cosine", 1.0), ("disattenuated", 1.1)):
        ends = np.stack([factor * values - 0.1, factor * values + 0.1], -1)
        variables[f"{name}_interval"] = ((*dims, "bound"), ends)
    variables["ceiling"] = (dims, 0 * values + 0.95)
    coords["bound"] = ["low", "high"]
    return xr.Dataset(variables, coords, {**attrs, "confidence": 0.9, "interval": "bootstrap"})


def lines(figure):
    return {trace.name: trace for trace in figure.data if trace.name}


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def test_each_line_holds_the_pair_at_the_position():
    data = cosines()
    found = lines(cosine_pair(data, ("drug_use", "fraud <b>"), position=-2))
    pair = data.sel(name="drug_use", name_other="fraud <b>", position=-2)
    for label, variable in (
        ("as measured", "cosine"),
        ("without noise", "disattenuated"),
        ("ceiling that noise sets", "ceiling"),
    ):
        assert found[label].x == LAYERS
        np.testing.assert_allclose(np.array(found[label].y, float), pair[variable])
    assert found["as measured"].line.color != found["without noise"].line.color
    assert found["as measured"].marker.symbol != found["without noise"].marker.symbol


def test_layers_stand_in_their_order_whatever_the_map_has():
    data = cosines().isel(layer=[2, 0, 1])
    found = lines(cosine_pair(data, ("fraud <b>", "drug_use"), position=-1))["as measured"]
    assert found.x == LAYERS
    np.testing.assert_allclose(np.array(found.y, float), [0.9, 0.6, 0.3])


def test_intervals_are_bands_and_on_hover():
    figure = cosine_pair(cosines(), ("drug_use", "fraud <b>"), position=-1)
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    assert len(bands) == 2
    heights = [y for y in bands[0].y if y is not None]
    assert (min(heights), max(heights)) == pytest.approx((0.2, 1.0))
    assert "[0.8, 1]" in lines(figure)["as measured"].customdata[0]
    assert "bands: 90% intervals (bootstrap)" in subtitle(figure)


def test_without_baselines_there_is_one_line_and_the_subtitle_says_why():
    figure = cosine_pair(cosines(baselines=False), ("drug_use", "fraud <b>"), position=-1)
    assert set(lines(figure)) == {"as measured"}
    assert "no intervals: directions were not resampled" in subtitle(figure)


def test_names_are_words_and_never_tags():
    figure = cosine_pair(cosines(), ("drug_use", "fraud <b>"), position=-1)
    assert "drug use and fraud &lt;b&gt;, by layer" in figure.layout.title.text


def test_the_scale_holds_every_value_and_zero():
    data = cosines()
    data["cosine"][0, 1, 2] = -0.7
    for each in (data, cosines()):
        low, high = cosine_pair(each, ("drug_use", "fraud <b>"), position=-1).layout.yaxis.range
        assert low < min(0, float(each["cosine"].min()))
        assert high >= 1


def test_what_cannot_be_drawn():
    with pytest.raises(StudyError, match="no category 'theft' in this map: drug_use, fraud"):
        cosine_pair(cosines(), ("drug_use", "theft"), position=-1)
    with pytest.raises(StudyError, match="several positions: choose position= among"):
        cosine_pair(cosines(), ("drug_use", "fraud <b>"))
    between_layers = cosines().rename(name_other="other").assign_attrs(over="layer")
    with pytest.raises(StudyError):
        cosine_pair(between_layers, ("drug_use", "fraud <b>"), position=-1)
