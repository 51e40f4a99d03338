"""Tidy tables: every measured number once, under its labels; equal files from equal data."""

import io

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from workbench import figures
from workbench.figures.tidy import COLUMNS, drawn


@pytest.fixture
def result():
    """Numbers with and without an interval, over different axes, with text and one missing."""
    rate = np.array([[0.25, np.nan], [1 / 3, 1.0]])
    return xr.Dataset(
        {
            "rate": (("layer", "name"), rate, {"units": "share"}),
            "rate_interval": (("layer", "name", "bound"), np.stack([rate - 0.1, rate + 0.1], -1)),
            "token": ("name", np.array(["yes, sure", 'a "no"'], dtype=object)),
            "n": ("layer", [10, 20]),
            "threshold": 0.5,
        },
        coords={
            "layer": [3, 4],
            "name": ["drugs", "fraud"],
            "bound": ["low", "high"],
            "label": ("name", ["harmful", "harmless"]),
        },
    )


def test_every_measured_number_has_one_row_under_its_labels(result):
    table = figures.tidy(result)
    assert tuple(table.columns[-4:]) == COLUMNS
    rate = table[table["quantity"] == "rate"]
    assert len(rate) == 3  # what was not measured has none
    for row in rate.itertuples():
        cell = result.sel(layer=row.layer, name=row.name)
        assert row.value == float(cell["rate"])
        assert [row.low, row.high] == cell["rate_interval"].values.tolist()
        assert (row.token, row.label) == (cell["token"].item(), cell["label"].item())
        assert row.units == "share"
    n = table[table["quantity"] == "n"]
    assert n["value"].tolist() == [10, 20] and n["layer"].tolist() == [3, 4]
    assert {type(each) for each in n["layer"]} == {int}
    assert n["name"].isna().all() and n["low"].isna().all()
    assert table[table["quantity"] == "threshold"]["value"].tolist() == [0.5]
    assert set(table["quantity"]) == {"rate", "n", "threshold"}


def test_a_written_table_reads_back_and_integers_stay_integers(result):
    text = figures.tidy_csv(result)
    read = pd.read_csv(io.StringIO(text))
    assert read["value"].tolist() == pytest.approx([0.25, 1 / 3, 1, 10, 20, 0.5], abs=1e-6)
    assert read["token"].dropna().tolist() == ["yes, sure", "yes, sure", 'a "no"']
    first = text.splitlines()[1]
    assert first.startswith("rate,3,drugs,harmful,") and "3.0" not in first


def test_order_of_dimensions_and_type_of_floats_change_nothing(result):
    text = figures.tidy_csv(result)
    assert figures.tidy_csv(result.transpose("bound", "layer", "name")) != ""
    narrow = result.assign(rate=result["rate"].astype("float32"))
    assert figures.tidy_csv(narrow) == text


def test_drawn_takes_intervals_along_and_leaves_out_what_is_not_there(result):
    assert set(drawn(result, "rate", "absent")) == {"rate", "rate_interval"}
    assert set(drawn(result, "n")) == {"n"}
