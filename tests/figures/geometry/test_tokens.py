"""A prompt's tokens along a direction: every cell at its token and layer, and the marks."""

import numpy as np
import pytest
import xarray as xr

from workbench.errors import StudyError
from workbench.figures.geometry.tokens import token_projections

TOKENS = ("<s>", "Bake", " a", " <b>cake", "\n", "!")


def projections(n_tokens=6, **attrs):
    """One prompt: a token of the template before the words, two after them; layers 0 to 3."""
    tokens = [TOKENS[0], *["x"] * (n_tokens - len(TOKENS)), *TOKENS[1:]]
    values = np.arange(4 * n_tokens, dtype=float).reshape(4, n_tokens) - 2 * n_tokens
    cell = ("layer", "position")
    given = {
        "model": "m", "site": "resid_pre", "name": "refusal", "direction_layer": 2,
        "direction_position": -1, "n_pre": 1, "n_post": 2, "text": "Bake a <b>cake",
    }  # fmt: skip
    return xr.Dataset(
        {"projection": (cell, values), "cosine": (cell, values / 100)},
        {
            "layer": range(4),
            "position": range(-n_tokens, 0),
            "token": ("position", tokens),
        },
        {**given, **attrs},
    )


def heat(figure):
    (found,) = [t for t in figure.data if t.type == "heatmap" and t.zmin is not None]
    return found


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def names(figure):
    return {each.text: each for each in figure.layout.annotations}


def test_every_cell_holds_its_token_at_its_layer():
    data = projections()
    shuffled = data.isel(layer=[3, 1, 0, 2], position=[5, 0, 2, 1, 4, 3])
    for each in (data, shuffled):
        figure = token_projections(each)
        np.testing.assert_allclose(np.array(heat(figure).z, float), data["projection"])
        assert len(figure.layout.xaxis.ticktext) == len(TOKENS)
        assert figure.layout.yaxis.ticktext == ("0", "1", "2", "3")
        assert heat(figure).zmin == -heat(figure).zmax == data["projection"].min()


def test_hovering_tells_token_projection_and_cosine():
    text = heat(token_projections(projections())).customdata[1][3]
    for part in ("layer 1", "position \N{MINUS SIGN}3", "projection \N{MINUS SIGN}3",
                 "cosine \N{MINUS SIGN}0.03", "&lt;b&gt;cake"):  # fmt: skip
        assert part in text
    bare = projections().drop_vars("cosine")
    assert "cosine" not in heat(token_projections(bare)).customdata[0][0]


def test_the_ends_of_instruction_and_prompt_are_framed_and_the_template_set_apart():
    figure = token_projections(projections())
    frames = {shape.x0: shape.x1 for shape in figure.layout.shapes if shape.type == "rect"}
    assert frames == {2.5: 3.5, 4.5: 5.5}
    assert (names(figure)["<b>t_inst</b>"].x, names(figure)["<b>t_post</b>"].x) == (3, 5)
    (line,) = [shape for shape in figure.layout.shapes if shape.type == "line"]
    assert line.x0 == line.x1 == 0.5
    assert names(figure)["◂"].y == 2
    plain = token_projections(projections(n_pre=0, n_post=0, direction_layer=9))
    assert not plain.layout.shapes
    assert "◂" not in names(plain)
    assert "◂" not in subtitle(plain), "what is not drawn is not explained"


def test_no_token_is_read_as_a_tag():
    ticks = token_projections(projections()).layout.xaxis.ticktext
    assert not any("<b>" in each for each in ticks)
    assert any("cake" in each for each in ticks)
    assert "<b>cake" not in subtitle(token_projections(projections()))


def test_of_a_long_prompt_the_last_tokens_are_shown():
    figure = token_projections(projections(n_tokens=150))
    assert np.shape(heat(figure).z) == (4, 120)
    assert "the last 120 of 150 tokens" in subtitle(figure)
    assert names(figure)["<b>t_post</b>"].x == 119
    assert not [shape for shape in figure.layout.shapes if shape.type == "line"]


def test_subtitles_state_model_direction_and_that_it_is_one_prompt():
    text = subtitle(token_projections(projections()))
    for part in ("m · ", "site resid_pre", "of layer 2, position \N{MINUS SIGN}1", "n = 1 prompt",
                 "no intervals: one prompt"):  # fmt: skip
        assert part in text


def test_what_cannot_be_drawn():
    with pytest.raises(StudyError, match="projection of tokens: it has no variable 'projection'"):
        token_projections(projections().drop_vars("projection"))
    nothing = projections()
    nothing["projection"][:] = np.nan
    with pytest.raises(StudyError):
        token_projections(nothing)
