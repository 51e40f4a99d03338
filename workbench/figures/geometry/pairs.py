"""How the figures of a cosine map read it: which axis, in which order, at which place."""

import html
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from workbench.errors import StudyError
from workbench.few import few_resamples, too_few
from workbench.figures.parts.theme import model_of, position_text, require
from workbench.positions import T_INST
from workbench.written import beyond

WORDS = {"name": "categories", "layer": "layers", "position": "positions"}
"""What is compared along each axis, in words."""


def compared(cosines: xr.Dataset, wanted: str | None = None) -> str:
    """The axis whose labels are compared.

    Raises:
        StudyError: not a map of cosines, or one between other things than wanted.
    """
    require(cosines, "map of cosines", ["cosine"], ())
    over = next((axis for axis in WORDS if f"{axis}_other" in cosines["cosine"].dims), None)
    if over is None:
        raise StudyError("this is no map of cosines: no axis is compared with another.")
    if wanted is not None and over != wanted:
        raise StudyError(
            f"expected a map between {WORDS[wanted]}, found one between {WORDS[over]}."
        )
    return over


def selected(
    cosines: xr.Dataset, over: str, chosen: dict[str, Any], keep: str | None = None
) -> xr.Dataset:
    """The map at the chosen labels of the axes that are not compared."""
    for axis in WORDS:
        if axis in (over, keep) or axis not in cosines["cosine"].dims:
            continue
        label, known = chosen.get(axis), cosines[axis].values.tolist()
        if label is None and len(known) > 1:
            raise StudyError(f"this map has several {axis}s: choose {axis}= among {known}.")
        if label is not None and label not in known:
            raise StudyError(f"no {axis} {label!r} in this map: {known}.")
        cosines = cosines.sel({axis: known[0] if label is None else label})
    require(cosines, "map of cosines there", ["cosine"], ())
    return cosines


def is_square(cosines: xr.Dataset) -> bool:
    """Whether a set is compared with itself."""
    over = compared(cosines)
    other = cosines[f"{over}_other"].values.tolist()
    return cosines[over].values.tolist() == other and "provenance_other" not in cosines.attrs


def similar_first(cosines: xr.Dataset) -> list[int]:
    """Places of the labels such that similar categories are neighbours, the same at all layers.

    By the angle of the first two eigenvectors of the mean map (Friendly 2002, "Corrgrams").
    """
    over = compared(cosines)
    n = cosines.sizes[over]
    if over != "name" or not is_square(cosines) or n < 3:
        return list(range(n))
    values = cosines["cosine"].transpose("name", "name_other", ...).values.reshape(n, n, -1)
    known = np.isfinite(values)
    mean = np.where(known, values, 0).sum(-1) / np.maximum(known.sum(-1), 1)
    second, first = np.linalg.eigh((mean + mean.T) / 2)[1][:, -2:].T
    angles = np.sort(np.arctan2(second, first))
    # The circle of angles is cut where it is widest.
    gaps = np.diff(np.r_[angles, angles[0] + 2 * np.pi])
    start = angles[(int(np.argmax(gaps)) + 1) % n]
    return np.argsort((np.arctan2(second, first) - start) % (2 * np.pi), kind="stable").tolist()


def as_words(values: np.ndarray) -> list[str]:
    """Names as words, numbers with a real minus sign."""
    return [
        position_text(value)
        if isinstance(value, int) or value == T_INST
        else html.escape(str(value).replace("_", " "))
        for value in values.tolist()
    ]


def marked(symbol: str, values: np.ndarray) -> str | list[str]:
    """Marks of a line of cosines: its own, and a triangle where an estimate lies beyond 1."""
    outside = beyond(values)
    if not outside.any():
        return symbol
    up_or_down = np.where(values > 0, "triangle-up", "triangle-down")
    return np.where(outside, up_or_down, symbol).tolist()


def methods(attrs: Mapping[str, Any]) -> str:
    """How the directions of a map were estimated, in words; "" where that is not recorded."""
    known = [attrs.get(key) for key in ("method", "method_other")]
    said = dict.fromkeys(str(each).replace("_", " ") for each in known if each)
    return f"estimated by {' and '.join(said)}" if said else ""


def describe(cosines: xr.Dataset, at: xr.Dataset, over: str) -> list[str]:
    """The parts of the subtitle: model, place, estimator, n, and whether there are baselines."""
    attrs = cosines.attrs
    place = [
        f"{axis} {position_text(at[axis].item())}"
        if axis != "name"
        else f"direction {at[axis].item()}"
        for axis in WORDS
        if axis != over and axis in at.coords and at[axis].ndim == 0
    ]
    n, by_name = attrs.get("n") or {}, list((attrs.get("n_by_name") or {}).values())
    counts = "n not recorded"
    if n:
        each = f"{min(by_name)}" if by_name else f"{n['positive']}"
        if by_name and min(by_name) != max(by_name):
            each += f" to {max(by_name)}"
        counts = f"n = {each} prompts{' each' if by_name else ''} against {n['negative']}"
    last = (attrs.get("provenance") or {}).get("after_last_block")
    plain = isinstance(attrs.get("baselines"), str) and "disattenuated" not in cosines
    few = few_resamples(cosines)
    return [
        model_of(attrs),
        f"site {attrs['site']}" if attrs.get("site") else "",
        ", ".join(place),
        html.escape(methods(attrs)),
        counts,
        "no intervals: directions were not resampled" if plain else "",
        html.escape(too_few(cosines)),
        few and f"no intervals: {few}",
        f"layer {last} follows the last block, before or after the final norm: not recorded"
        if "layer" in at.coords and last in np.atleast_1d(at["layer"].values)
        else "",
    ]
