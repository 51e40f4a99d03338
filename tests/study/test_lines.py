"""One line of what was found: the ends of a range with their names, and no nan."""

import numpy as np
import xarray as xr

from workbench.cli.tables import _overlap
from workbench.study.steps.geometry import angles_line
from workbench.study.steps.meaning import concept_line


def overlaps(values):
    names = ["drugs", "fraud"]
    return xr.Dataset(
        {
            "half_overlap": (("name", "name_other", "layer", "position"), values[..., None, None]),
            "random_overlap": (("layer", "position"), [[0.1]]),
        },
        {"name": names, "name_other": names, "layer": [3], "position": [-1]},
        {"n_components": 4},
    )


def test_refusal_words_are_said_with_their_ends():
    found = xr.Dataset(
        {
            "auc": (("name", "layer", "contrast"), [[[0.9]], [[0.8]], [[0.7]]]),
            "words": (("name", "layer"), [[0.02], [0.81], [0.1]]),
        },
        {"name": ["drugs", "fraud", "hate"], "layer": [3], "contrast": ["harmful"]},
    )
    line = concept_line({"concept": found}, 3, -1)
    assert "AUC of the own category among harmful prompts 0.70 (hate) to 0.90 (drugs)" in line
    assert line.endswith("refusal words 2% (drugs) to 81% (fraud)")


def test_a_category_that_does_not_span_is_named_and_spoils_no_mean():
    nan = np.nan
    whole = overlaps(np.array([[0.8, 0.2], [0.4, 0.6]]))
    line = angles_line({"angles": whole}, 3, -1)
    assert line.endswith("0.30 between categories, 0.70 within; random 0.10")
    torn = overlaps(np.array([[nan, nan], [0.4, 0.6]]))
    line = angles_line({"angles": torn}, 3, -1)
    assert "0.40 between categories, 0.60 within" in line and "nan" not in line
    assert line.endswith("not measured: drugs")
    lost = angles_line({"angles": overlaps(np.full((2, 2), nan))}, 3, -1)
    assert "not measured between categories, not measured within" in lost


def test_the_table_of_a_comparison_says_the_same():
    class Found:
        angles, layer, position = overlaps(np.array([[0.8, 0.2], [0.4, 0.6]])), 3, -1

    assert _overlap(Found) == angles_line({"angles": Found.angles}, 3, -1)  # pyright: ignore[reportArgumentType]
