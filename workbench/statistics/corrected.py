"""p-values of several questions that are asked at once."""

import numpy as np
from jaxtyping import Float


def holm(
    p_values: Float[np.ndarray, "*rest question"],
) -> Float[np.ndarray, "*rest question"]:
    """p-values corrected over the last axis, so that one of any true nulls is rejected rarely.

    With the corrected values, the chance to reject any true null at a level is at most the level,
    however the questions hang together. NaN is a question that was not asked, and counts for none.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm(np.array([0.01, 0.04, np.nan, 0.03])).tolist()
    [0.03, 0.06, nan, 0.06]
    """
    asked = np.isfinite(p_values)
    order = np.argsort(p_values, axis=-1)  # NaN last
    ranked = np.take_along_axis(p_values, order, axis=-1)
    left = asked.sum(-1, keepdims=True) - np.arange(p_values.shape[-1])
    stepped = np.maximum.accumulate(np.minimum(ranked * left, 1.0), axis=-1)
    found = np.empty(p_values.shape)
    np.put_along_axis(found, order, stepped, axis=-1)
    return np.where(asked, found, np.nan)
