"""The numbers of a figure as a tidy table: one value a row, named by quantity and labels."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from workbench.arguments import checked

COLUMNS = ("value", "low", "high", "units")
"""What follows the quantity and its labels."""


def drawn(dataset: xr.Dataset, *names: str) -> xr.Dataset:
    """Those of the named variables that a result has, with their intervals.

    Args:
        dataset: a result.
        names: of variables; figures draw some of them only where they are there.
    """
    wanted = [each for name in names for each in (name, f"{name}_interval")]
    return dataset[[name for name in wanted if name in dataset]]


@checked
def tidy(dataset: xr.Dataset) -> pd.DataFrame:
    """A result as a table: quantity, one column per label, value, low, high, units.

    Text that belongs to a value, such as a token or a prompt's category, stands among its labels.
    Values that were not measured have no row. Equal results give equal tables.

    Args:
        dataset: variables over labelled axes; ``NAME_interval`` over ``bound`` is the interval of
            ``NAME``.

    >>> rate = xr.Dataset({"rate": ("layer", [0.5, np.nan])}, {"layer": [3, 4]})
    >>> print(tidy(rate).to_csv(index=False).strip())
    quantity,layer,value,low,high,units
    rate,3,0.5,,,
    """
    frames = [
        _rows(dataset, name)
        for name, variable in dataset.data_vars.items()
        if not str(name).endswith("_interval") and variable.dtype.kind in "biuf"
    ]
    labels = list(dict.fromkeys(each for frame in frames for each in frame.columns))
    labels = [each for each in labels if each not in ("quantity", *COLUMNS)]
    # One row at a time: what one quantity lacks and another has is left empty, and keeps its type.
    rows = [row for frame in frames for row in frame.to_dict("records")]
    return pd.DataFrame(rows, columns=["quantity", *labels, *COLUMNS], dtype=object)


@checked
def tidy_csv(dataset: xr.Dataset) -> str:
    """The tidy table as CSV, numbers to six digits, so that equal results give equal files."""
    table = tidy(dataset)
    return table.map(_written).to_csv(index=False, lineterminator="\n")


def _rows(dataset: xr.Dataset, name: Hashable) -> pd.DataFrame:
    """The measured values of one variable."""
    variable = dataset[name]
    labels = {
        label: xr.broadcast(coordinate, variable)[0].transpose(*variable.dims).values.ravel()
        for label, coordinate in _labels(dataset, variable).items()
    }
    columns: dict[str, Any] = {"quantity": str(name), **labels, "value": variable.values.ravel()}
    interval = f"{name}_interval"
    for bound in ("low", "high"):
        columns[bound] = np.nan
        if interval in dataset:
            ends = dataset[interval].sel(bound=bound).transpose(*variable.dims)
            columns[bound] = ends.values.ravel()
    columns["units"] = str(variable.attrs.get("units", ""))
    frame = pd.DataFrame(columns)
    return frame.loc[frame["value"].notna()]


def _labels(dataset: xr.Dataset, variable: xr.DataArray) -> dict[str, xr.DataArray]:
    """Axes of a variable, whatever else is known along them, and text of the same place."""
    axes = {str(dim): variable[dim] for dim in variable.dims}
    beside = {str(name): each for name, each in variable.coords.items() if name not in axes}
    texts = {
        str(name): each
        for name, each in dataset.data_vars.items()
        if each.dtype.kind in "OUT" and set(each.dims) <= set(variable.dims)
    }
    return axes | beside | texts


def _written(value: Any) -> Any:
    """A cell as it is written: six digits, nothing for what is missing."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{float(value):.6g}"
    return value
