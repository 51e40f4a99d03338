"""Colours, scales and labels."""

from itertools import combinations

import numpy as np
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from workbench.errors import StudyError
from workbench.figures.parts.theme import (
    PALETTE,
    diverging,
    legend_below,
    position_label,
    require,
    themed,
    translucent,
)
from workbench.written import number

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def lab(colour, sight="usual"):
    """CIE Lab of a hex colour as it is seen."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_palette_survives_colour_blindness(sight):
    seen = [lab(colour, sight) for colour in PALETTE]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 12


def test_palette_survives_greyscale():
    lightness = [lab(colour)[0] for colour in PALETTE]
    assert lightness == sorted(lightness)
    assert min(np.diff(lightness)) >= 8


@given(nps.arrays(float, st.integers(0, 20), elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
def test_diverging_scale_is_centred_on_zero_and_holds_every_value(values):
    scale = diverging(values)
    assert scale["cmin"] == -scale["cmax"] < 0
    finite = values[np.isfinite(values)]
    assert np.all(np.abs(finite) <= scale["cmax"])
    assert scale["colorscale"][2][0] == 0.5


def test_position_labels_show_line_breaks_and_are_not_read_as_tags():
    assert position_label(-2, "<end_of_turn>") == "\N{MINUS SIGN}2 &lt;end_of_turn&gt;"
    assert position_label(-1, "\n") == "\N{MINUS SIGN}1 \u21b5"
    assert position_label(-1) == "\N{MINUS SIGN}1"


@given(st.floats(-900, 900))
def test_numbers_keep_their_value_and_have_a_real_minus(value):
    text = number(value)
    assert "-" not in text or "e-" in text.replace("\N{MINUS SIGN}", "-")
    assert float(text.replace("\N{MINUS SIGN}", "-")) == pytest.approx(value, rel=6e-3)


def test_a_long_subtitle_wraps_between_its_parts_and_pushes_the_plot_down():
    short = themed(go.Figure(), "T", ["model a", "n = 3"], height=300)
    long = themed(go.Figure(), "T <1>", ["model a" * 9, "", "n = 3" * 9], height=300)
    assert short.layout.title.subtitle.text == "model a · n = 3"
    assert long.layout.title.subtitle.text.count("<br>") == 1
    assert long.layout.margin.t == short.layout.margin.t + 17
    assert long.layout.height == short.layout.height + 17
    assert long.layout.title.text == "<b>T &lt;1&gt;</b>"


def test_legend_gets_rows_for_its_entries():
    few, many = (
        legend_below(
            themed(go.Figure([go.Scatter(name="entry" * 4) for _ in range(n)]), "T", [], 300), "x"
        )
        for n in (2, 9)
    )
    assert many.layout.margin.b > few.layout.margin.b
    assert many.layout.height - few.layout.height == many.layout.margin.b - few.layout.margin.b


def test_translucent_keeps_the_colour():
    assert translucent("#0A141E", 0.5) == "rgba(10, 20, 30, 0.5)"


@pytest.mark.usefixtures("unchecked")
def test_what_is_not_the_result_is_refused_by_message(scores):
    with pytest.raises(StudyError, match="expected the dataset of a sweep, found dict"):
        require({}, "sweep", ["kl"], ["layer"])
    with pytest.raises(StudyError, match="it has no variable 'cosine'"):
        require(scores, "sweep", ["cosine"], ["layer"])
    with pytest.raises(StudyError, match="kl has no dimension 'head'"):
        require(scores, "sweep", ["kl"], ["head"])
    with pytest.raises(StudyError, match="every value of this sweep is NaN"):
        require(scores * np.nan, "sweep", ["kl"], ["layer"])
