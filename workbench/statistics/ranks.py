"""A value among those of controls: whether it leaves their range, and its p-value by rank."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def is_outside(value: Any, controls: Any) -> np.ndarray:
    """Whether a value lies below all controls or above all of them; controls on the last axis.

    >>> is_outside([3.0, 1.5], [[1.0, 2.0], [1.0, 2.0]]).tolist()
    [True, False]
    """
    value, controls = np.asarray(value), np.asarray(controls)
    return np.asarray((value < controls.min(-1)) | (value > controls.max(-1)))


def rank_p_value(value: Any, controls: Any) -> np.ndarray:
    """Twice ``(1 + controls at least as far out) / (1 + controls)``, at most 1.

    Two-sided, since the side is that on which the value lies. 20 controls give 2/21 = .095 at
    least, which is outside their range: another vector without signal leaves it as often.

    Args:
        value: of the direction.
        controls: their values, all of one kind, on the last axis.

    Source: Phipson and Smyth 2010, "Permutation p-values should never be zero".

    >>> rank_p_value(9.0, [1.0, 2.0, 3.0]).item(), rank_p_value(1.5, [1.0, 2.0, 3.0]).item()
    (0.5, 1.0)
    """
    value, controls = np.asarray(value)[..., None], np.asarray(controls)
    above, below = ((side).sum(-1) for side in (controls >= value, controls <= value))
    found = np.minimum(1, 2 * (1 + np.minimum(above, below)) / (1 + controls.shape[-1]))
    known = np.isfinite(value[..., 0]) & np.isfinite(controls).all(-1)
    return np.asarray(np.where(known, found, np.nan))


def beside(value: Any, controls: Any, kinds: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Whether a value leaves the range of every kind of controls, and the largest p of a kind.

    Args:
        value: of the direction.
        controls: their values, on the last axis.
        kinds: of each control, as `control_kinds` gives them.

    >>> outside, p = beside(3.0, [1.0, 2.0, 2.0, 4.0], ["isotropic"] * 2 + ["covariance"] * 2)
    >>> bool(outside), float(p)
    (False, 1.0)
    """
    controls, of_kind = np.asarray(controls), np.array(kinds)
    each = [controls[..., of_kind == kind] for kind in dict.fromkeys(kinds)]
    outside = np.all([is_outside(value, own) for own in each], axis=0)
    p = np.max([rank_p_value(value, own) for own in each], axis=0)
    return np.asarray(outside), np.asarray(p)
