"""Figures of a sweep, by their traces."""

import numpy as np
import pytest

from workbench import figures
from workbench.errors import StudyError

PANELS = ("bypass", "induce", "kl")
AXES = {"bypass": "y", "induce": "y2", "kl": "y3"}


def lines(figure, panel):
    return [
        trace for trace in figure.data
        if (trace.yaxis or "y") == AXES[panel] and trace.mode == "lines+markers"
    ]  # fmt: skip


def named(figure, start):
    return [trace for trace in figure.data if (trace.name or "").startswith(start)]


def test_every_position_is_a_line_in_every_panel(scores):
    figure = figures.sweep(scores)
    for panel in PANELS:
        drawn = lines(figure, panel)
        assert len(drawn) == 3
        for trace, position in zip(drawn, (-3, -2, -1), strict=True):
            expected = scores[panel].sel(position=position).values
            assert trace.x == tuple(range(6))
            np.testing.assert_allclose(np.array(trace.y, dtype=float), expected)
    assert len({(line.line.color, line.marker.symbol) for line in lines(figure, "kl")}) == 3
    assert [line.showlegend for line in lines(figure, "induce")] == [False] * 3


def test_legend_names_position_and_token(scores):
    names = [trace.name for trace in lines(figures.sweep(scores), "bypass")]
    minus = "\N{MINUS SIGN}"
    assert names == [f"{minus}3 t_inst", f"{minus}2 &lt;end_of_turn&gt;", f"{minus}1 \u21b5"]
    bare = lines(figures.sweep(scores.drop_vars("position_label")), "bypass")
    assert [trace.name for trace in bare] == [f"{minus}3", f"{minus}2", f"{minus}1"]


def test_order_of_the_dataset_does_not_matter(scores):
    shuffled = scores.isel(layer=[3, 1, 0, 5, 4, 2], position=[2, 0, 1])
    assert figures.sweep(shuffled).to_json() == figures.sweep(scores).to_json()
    turned = scores.transpose("bound", "position", "layer")
    assert figures.sweep(turned).to_json() == figures.sweep(scores).to_json()


def test_bands_hold_the_intervals_and_leave_gaps_where_candidates_were_skipped(scores):
    bands = [trace for trace in figures.sweep(scores).data if trace.fill == "toself"]
    assert len(bands) == 9
    whole, gap = bands[0], bands[1]
    interval = scores["bypass_interval"].sel(position=-3)
    assert whole.x == (*range(6), *reversed(range(6)), None)
    np.testing.assert_allclose(whole.y[:6], interval.sel(bound="low"))
    np.testing.assert_allclose(whole.y[6:12], interval.sel(bound="high")[::-1])
    assert gap.x == (1, 2, 3, 3, 2, 1, None, 5, 5, None)
    without = scores.drop_vars([f"{panel}_interval" for panel in PANELS])
    figure = figures.sweep(without)
    assert len(figure.data) == 9
    assert "bands" not in figure.layout.title.subtitle.text


def test_kl_is_logarithmic_only_when_it_spans_decades(scores):
    assert figures.sweep(scores).layout.yaxis3.type == "log"
    narrow = scores.assign(kl=scores["kl"] * 0 + 0.02)
    assert figures.sweep(narrow).layout.yaxis3.type != "log"


def test_kl_of_zero_stands_on_the_floor_of_a_log_axis_and_says_so(scores):
    scores["kl"].loc[{"layer": 1}] = [0.0, 1e-9, -1e-9]
    figure = figures.sweep(scores)
    axis = figure.layout.yaxis3
    assert axis.ticktext[0] == f"≤ {axis.tickvals[0]:g}"
    for trace in lines(figure, "kl"):
        assert trace.y[1] == axis.tickvals[0]
        assert axis.range[0] < np.log10(trace.y[1])
    assert lines(figure, "kl")[0].customdata[1][4].startswith("0 ")


def test_choice_is_a_star_in_every_panel_and_its_settings_are_drawn(scores, chosen):
    figure = figures.sweep(scores, chosen)
    stars = named(figure, "chosen")
    assert [star.y[0] for star in stars] == [
        scores[panel].sel(layer=3, position=-1).item() for panel in PANELS
    ]
    assert {star.x[0] for star in stars} == {3}
    assert [star.showlegend for star in stars] == [True, False, False]
    dashes = [shape.y0 for shape in figure.layout.shapes if shape.line.dash == "dash"]
    assert dashes == [5.0, -8, 0.1]
    shades = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(shade.x0, shade.x1) for shade in shades] == [(3.5, 5.5)] * 3
    titles = [note.text for note in figure.layout.annotations]
    assert "(dashed: no intervention, 5)" in titles[0]
    assert "(dashed: cap, 0.1)" in titles[2]


def test_settings_are_drawn_without_a_choice_too(scores):
    scores.attrs |= {"skip_last": 0.5, "kl_cap": 0.3}
    figure = figures.sweep(scores)
    assert not named(figure, "chosen")
    assert {s.x0 for s in figure.layout.shapes if s.type == "rect"} == {2.5}
    assert 0.3 in [shape.y0 for shape in figure.layout.shapes]


def test_nothing_is_made_up_about_a_run_that_does_not_say(scores):
    scores.attrs = {}
    figure = figures.sweep(scores)
    subtitle = figure.layout.title.subtitle.text
    assert "model not recorded" in subtitle
    assert "n not recorded" in subtitle
    assert not [shape for shape in figure.layout.shapes if shape.line.dash == "dash"]


def test_subtitle_states_model_n_site_and_judge(scores, chosen):
    for figure in (figures.sweep(scores, chosen), figures.selection_plane(scores, chosen)):
        subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
        assert "gemma &lt;2b&gt;" in subtitle
        assert "n = 32 harmful and 31 harmless prompts" in subtitle
        assert "site resid_pre" in subtitle
        assert "no judge" in subtitle
    assert "bands: 90% intervals (bootstrap)" in figures.sweep(scores).layout.title.subtitle.text


def test_a_choice_that_is_not_in_the_sweep_is_said_to_be_missing(scores, chosen):
    figure = figures.sweep(scores.sel(layer=[0, 1, 2]), chosen)
    assert not named(figure, "chosen")
    assert "the choice (layer 3" in figure.layout.title.subtitle.text


def test_hover_holds_all_three_scores_with_their_intervals(scores):
    trace = lines(figures.sweep(scores), "induce")[2]
    layer, position, bypass, induce, kl = trace.customdata[3]
    assert (layer, position) == ("3", "\N{MINUS SIGN}1 \u21b5")
    assert (induce, kl) == ("2 [1, 3]", "0.05 [0.025, 0.1]")
    assert list(trace.customdata[0][2:]) == ["not measured"] * 3
    assert "[" in bypass


def test_kl_has_its_median_and_maximum_where_its_mean_has_no_interval(scores):
    own = scores.copy(deep=True)
    own["kl_interval"][:] = np.nan
    own["kl_median"], own["kl_max"] = own["kl"] / 2, own["kl"] * 20
    figure = figures.sweep(own)
    assert lines(figure, "induce")[2].customdata[3][4] == "0.05 (median 0.025, max 1)"
    subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "KL: mean without interval, median and maximum on hover" in subtitle


def test_plane_fills_exactly_the_candidates_that_could_be_chosen(scores, chosen):
    figure = figures.selection_plane(scores, chosen)
    marks = [trace for trace in figure.data if trace.showlegend is False]
    assert len(marks) == 3
    for trace, position in zip(marks, (-3, -2, -1), strict=True):
        at = scores.sel(position=position)
        np.testing.assert_allclose(np.array(trace.x, dtype=float), at["bypass"])
        np.testing.assert_allclose(np.array(trace.y, dtype=float), at["kl"])
        eligible = (at["kl"] <= 0.1) & (at["induce"] >= 0) & (at["layer"] < 4)
        filled = [colour != "white" for colour in trace.marker.color]
        assert filled == eligible.values.tolist()
    assert marks[2].marker.color[3] != "white"
    star = named(figure, "chosen")[0]
    assert (star.x[0], star.y[0]) == (scores["bypass"].sel(layer=3, position=-1).item(), 0.05)
    subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "filled: KL ≤ 0.1, induce ≥ 0, layer &lt; 4" in subtitle


def test_plane_draws_the_cap_that_it_is_given_unless_the_choice_has_its_own(scores, chosen):
    def caps(figure):
        return [shape.y0 for shape in figure.layout.shapes if shape.line.dash == "dash"]

    assert caps(figures.selection_plane(scores, kl_cap=0.2)) == [0.2]
    assert caps(figures.selection_plane(scores, chosen, kl_cap=0.2)) == [0.1]


@pytest.mark.parametrize("draw", [figures.sweep, figures.selection_plane])
def test_what_is_not_a_sweep_is_refused(draw, scores):
    with pytest.raises(StudyError, match="this is no sweep: it has no variable 'kl'"):
        draw(scores.drop_vars("kl"))
    with pytest.raises(StudyError, match="nothing to draw"):
        draw(scores * np.nan)


@pytest.mark.parametrize("draw", [figures.sweep, figures.selection_plane])
def test_drawing_changes_nothing(draw, scores, chosen):
    before = scores.copy(deep=True)
    draw(scores, chosen)
    assert scores.identical(before)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["gemma-2b-it", "qwen-1_8b-chat"])
def test_published_runs_are_drawn_with_their_choice_filled(shared, name):
    from workbench.directions.published import load_published

    run = load_published(shared / "data" / "published" / "arditi_2024" / name)
    figure = figures.sweep(run.scores, run.choice)
    assert named(figure, "chosen")[0].y[0] == run.choice.bypass
    plane = figures.selection_plane(run.scores, run.choice)
    marks = [trace for trace in plane.data if trace.showlegend is False]
    filled = np.array([[colour != "white" for colour in trace.marker.color] for trace in marks])
    assert (filled.T == run.scores["passed_filter"].values).all()
