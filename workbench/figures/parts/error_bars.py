"""Intervals as error bars."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def error_bars(
    values: ArrayLike, low: ArrayLike, high: ArrayLike, width: int = 4, **style: Any
) -> dict[str, Any]:
    """Bars from lower to upper bounds around values, for ``error_x`` or ``error_y`` of a trace.

    An end beside the value by rounding, as one that stops at 0 or 1 may be, is drawn at it; NaN is
    no end.

    Args:
        values: where the marks stand.
        low: ends below them.
        high: ends above them.
        width: of the caps, in pixels.
        style: such as ``color`` and ``thickness``.

    >>> error_bars([2.0], [1.5], [2.25], color="black")["arrayminus"]
    [0.5]
    """
    at = np.asarray(values, dtype=float)
    return {
        "type": "data",
        "symmetric": False,
        "array": np.maximum(np.asarray(high, dtype=float) - at, 0).tolist(),
        "arrayminus": np.maximum(at - np.asarray(low, dtype=float), 0).tolist(),
        "width": width,
        **style,
    }
