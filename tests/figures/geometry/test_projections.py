"""The figure of projections, by its traces."""

import numpy as np
import pytest
import xarray as xr

from workbench import figures
from workbench.errors import StudyError


@pytest.fixture
def projected():
    """Three layers, of which the first was not measured; labels of different size."""
    labels = ["harmful"] * 10 + ["harmless"] * 20 + ["borderline"] * 5
    rng = np.random.default_rng(0)
    values = rng.normal(size=(35, 3)) + np.array([4 if own == "harmful" else 0 for own in labels])[
        :, None
    ] * np.array([1, 1, -1])
    values[:, 0] = np.nan
    area = np.array([[np.nan, 0.99, 0.01], [np.nan, 0.5, 0.5]])
    return xr.Dataset(
        {
            "projection": (("prompt", "layer"), values),
            "auc": (("group", "layer"), area),
            "auc_interval": (("group", "layer", "bound"), np.stack([area - 0.1, area + 0.1], -1)),
        },
        coords={
            "prompt": range(35), "label": ("prompt", labels), "layer": [0, 5, 9],
            "group": ["harmful", "<b>orderline"], "bound": ["low", "high"],
        },
        attrs={"model": "m", "site": "resid_pre", "position": -1, "reference": "harmless"},
    )  # fmt: skip


def test_each_label_adds_up_to_a_hundred_in_every_panel(projected):
    figure = figures.projections(projected)
    assert len(figure.data) == 2 * 3
    for trace in figure.data:
        # Every bin is drawn as two points of equal height between two of zero.
        assert sum(trace.y[1:-1:2]) == pytest.approx(100)


def test_panels_name_layer_and_area_and_skip_what_was_not_measured(projected):
    figure = figures.projections(projected)
    titles = [each.text for each in figure.layout.annotations]
    assert titles[0].startswith("<b>layer 5</b><br>harmful 0.99 [0.89, 1.09]")
    assert "&lt;b&gt;orderline 0.50" in titles[0]
    assert "1 layer left out" in figure.layout.title.subtitle.text


def test_groups_have_their_colours_and_counts(projected):
    figure = figures.projections(projected)
    names = [trace.name for trace in figure.data if trace.showlegend]
    assert names == ["harmless (n = 20)", "borderline (n = 5)", "harmful (n = 10)"]
    assert len({trace.line.color for trace in figure.data}) == 3
    assert "10 harmful" in figure.layout.title.subtitle.text


def test_bins_are_shared_within_a_panel(projected):
    figure = figures.projections(projected)
    first = [trace for trace in figure.data if trace.xaxis in (None, "x")]
    assert len({trace.x for trace in first}) == 1


def test_what_is_no_projection(projected):
    with pytest.raises(StudyError, match="no projection of prompts: it has no variable"):
        figures.projections(projected.drop_vars("projection"))
    with pytest.raises(StudyError, match="every value of this projection of prompts is NaN"):
        figures.projections(projected.sel(layer=[0]))
