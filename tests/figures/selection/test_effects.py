"""The figure of effects, by its traces."""

from itertools import pairwise

import numpy as np
import pytest

from workbench import figures
from workbench.errors import StudyError


def bars(figure):
    return {trace.name: trace for trace in figure.data if trace.type == "bar"}


def values(figure):
    return [trace.text for trace in figure.data if trace.type == "scatter"]


def test_every_condition_has_its_rates_in_percent(rates):
    drawn = bars(figures.effects(rates))
    assert list(drawn) == ["plain", "ablated", "added"]
    for condition, bar in drawn.items():
        expected = 100 * rates["refusal_rate"].sel(condition=condition).values
        np.testing.assert_allclose(np.array(bar.y, dtype=float), expected)
    assert len({bar.marker.color for bar in drawn.values()}) == 3
    axis = figures.effects(rates).layout.yaxis
    assert axis.tickvals == (0, 20, 40, 60, 80, 100)
    assert axis.range[0] == 0


def test_intervals_end_where_the_result_says(rates):
    for condition, bar in bars(figures.effects(rates)).items():
        at = 100 * rates["refusal_rate_interval"].sel(condition=condition)
        known = np.isfinite(np.array(bar.y, dtype=float))
        high = np.add(bar.y, bar.error_y.array, dtype=float)
        low = np.subtract(bar.y, bar.error_y.arrayminus, dtype=float)
        np.testing.assert_allclose(high[known], at.sel(bound="high")[known])
        np.testing.assert_allclose(low[known], at.sel(bound="low")[known])
        assert np.nanmin([*bar.error_y.array, *bar.error_y.arrayminus]) >= 0


def test_values_stand_clear_of_the_caps_and_inside_the_axis(rates):
    figure = figures.effects(rates)
    texts = [trace for trace in figure.data if trace.type == "scatter"]
    for text, bar in zip(texts, bars(figure).values(), strict=True):
        known = np.isfinite(np.array(bar.y, dtype=float))
        caps = np.add(bar.y, bar.error_y.array, dtype=float)[known]
        assert (np.array(text.y, dtype=float)[known] > caps + 1).all()
        assert max(text.y) + 8 < figure.layout.yaxis.range[1], "a value is some 8 percent high"


def test_bars_of_one_prompt_set_stand_side_by_side(rates):
    drawn = list(bars(figures.effects(rates)).values())
    for index in range(2):
        edges = [(bar.x[index] - bar.width / 2, bar.x[index] + bar.width / 2) for bar in drawn]
        assert all(left[1] <= right[0] for left, right in pairwise(edges))
        assert index - 0.5 < edges[0][0]
        assert edges[-1][1] < index + 0.5


def test_values_are_printed_and_what_was_not_measured_says_so(rates):
    figure = figures.effects(rates)
    assert values(figure) == [("100", "0"), ("0", "2"), ("n/m", "96")]
    assert "n/m: not measured" in figure.layout.title.subtitle.text
    assert bars(figure)["added"].customdata[0][1] == "not measured"
    whole = figures.effects(rates.sel(condition=["plain", "ablated"]))
    assert "n/m" not in whole.layout.title.subtitle.text


def test_subtitle_and_axis_state_model_judge_coefficient_and_n(rates):
    figure = figures.effects(rates)
    subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
    for part in ("pocket", "judge: rules", "coefficient 1", "layer 5", "95% intervals (Wilson)"):
        assert part in subtitle
    assert figure.layout.xaxis.ticktext == ("harmful<br>n = 100", "harmless<br>n = 50")
    rates.attrs = {}
    bare = figures.effects(rates.drop_vars(["n", "refusal_rate_interval"]))
    for part in ("model not recorded", "judge not recorded", "n not recorded"):
        assert part in bare.layout.title.subtitle.text
    assert bare.layout.xaxis.ticktext == ("harmful", "harmless")
    assert set(bars(bare)["plain"].error_y.array) == {0}


def test_what_is_not_told_apart_from_plain_is_named_and_never_called_unchanged(rates):
    shape = (("prompt_set", "condition"), [[np.nan, 0.004, np.nan], [np.nan, 1.0, 1e-9]])
    ends = np.full((2, 3, 2), [-0.25, -0.08])
    compared = rates.assign(
        difference=(shape[0], np.full((2, 3), -0.14)),
        difference_interval=((*shape[0], "bound"), ends),
        p_holm=shape,
    ).assign_attrs(n_compared=3, confidence=0.95)
    figure = figures.effects(compared)
    subtitle = figure.layout.title.subtitle.text.replace("<br>", " ")
    assert "not told apart from plain: ablated on harmless (McNemar" in subtitle
    assert "Holm over 3" in subtitle
    ablated, added = (bars(figure)[name].customdata for name in ("ablated", "added"))
    assert ablated[0][3] == "<br>against plain -14 points [-25, -8], p = 0.004"
    assert added[0][3] == "" and added[1][3].endswith("p < .001")
    assert "told apart" not in figures.effects(rates).layout.title.subtitle.text


def test_what_is_not_a_result_of_effects_is_refused(rates):
    with pytest.raises(StudyError, match="no result of effects: it has no variable 'refusal_rate'"):
        figures.effects(rates.drop_vars("refusal_rate"))
    with pytest.raises(StudyError, match="no dimension 'condition'"):
        figures.effects(rates.sel(condition="plain"))
