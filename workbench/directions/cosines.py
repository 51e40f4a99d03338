"""Cosines between directions: between categories, layers or positions, with their baselines."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from workbench.arguments import checked
from workbench.directions.cosine_variables import MEANINGS, Arrays, levels, variables
from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.few import HARMLESS
from workbench.positions import position_axis
from workbench.statistics.attenuation import (
    FEWEST,
    Sample,
    between,
    cosine_draws,
    cosines,
    inner_products,
    pair_mean,
    ratio,
    wide,
    within,
)

Axis = Literal["name", "layer", "position"]

_BASELINES = ("reliability", "disattenuated", "ceiling", "null")
"""What a cosine is read against, where the map holds it."""


@checked
def cosine_similarity_map(
    directions_a: Directions,
    directions_b: Directions | None = None,
    *,
    over: Axis = "name",
    confidence: float = 0.95,
) -> xr.Dataset:
    """Signed cosines between names, layers or positions, at every label of the other two axes.

    Directions of activations that were collected with ``n_resamples`` come with baselines; how they
    are estimated stands in `workbench.statistics.attenuation`. They need about 200 replicates, and
    8 prompts on either side: a name with fewer has its plain cosines alone, takes no part in means
    over pairs, and stands in ``attrs["too_few"]`` with their number; where it is the harmless
    prompts that are few, they stand there, and that goes for every name. Where fewer than two names
    have prompts enough, means are over all: ``attrs["averaged"]`` names those that means are over.

    Whether two directions are one is what ``p_one_direction`` asks. ``p_permuted`` asks more:
    whether categories can be exchanged. It is small, too, where they differ in length only. Names
    with too few prompts have it, since a test by permutation holds its level at any number.

    Which baselines a map has stands in its ``attrs["baselines"]``. Reliability, disattenuated
    cosine, ceiling and intervals exist on every axis, within one set and between two. The null
    exists between the categories of one set alone: categories are permuted among the prompts of
    one label, which is asked while its activations stream by. Between layers, positions or two
    sets the question would be whether prompts are harmful or harmless, and that cannot be permuted
    afterwards: the two labels are collected apart, each in its own pass.

    Args:
        directions_a: the directions.
        directions_b: another set of the same model to compare them with; by default themselves.
        over: the axis whose labels are compared.
        confidence: of the intervals and the null's outer quantiles.

    Returns:
        Dataset over (``over``, ``over``_other, the other two axes): ``cosine``; with resamples
        ``reliability``, ``disattenuated``, ``ceiling``, ``p_one_direction``, and
        ``cosine_interval`` and ``disattenuated_interval`` with a ``bound`` axis; between categories
        of one set also ``null`` (with a ``quantile`` axis) and ``p_permuted``. Between names of one
        set, ``mean_cosine`` and so on are the same for the mean over all pairs. Directions that are
        zero but for rounding give NaN.

    Raises:
        AxisError: widths, sites, weights, or the labels of the axes that are not compared differ;
            or a direction is zero at every layer and position.

    Source: Zhao et al. 2025 for the map between categories.
    """
    if over not in get_args(Axis):
        raise AxisError(f"no axis {over!r} to compare: {', '.join(get_args(Axis))}.")
    other = directions_a if directions_b is None else _matched(directions_a, directions_b, over)
    zero_a, zero_b = _zero(directions_a, over), _zero(other, over)
    missing = _missing(directions_a, other)
    point, draws, reliability = _estimates(directions_a, other, over, bool(missing))
    pairs = directions_b is None and over == "name" and len(other.names) > 1
    permuted = None if missing or other.resampled is None else other.resampled.permuted
    if pairs and permuted is not None:
        draws["null"] = np.stack([cosines(_moved(vectors, over)) for vectors in permuted])
    unknown = zero_a[..., :, None] | zero_b[..., None, :]
    point, draws = (
        {name: np.where(unknown, np.nan, values) for name, values in arrays.items()}
        for arrays in (point, draws)
    )
    too_few = [_too_few(each) if not missing else {} for each in (directions_a, other)]
    few = [
        _is_few(each, over, own) for each, own in zip((directions_a, other), too_few, strict=True)
    ]
    averaged: list[str] = []
    noisy = few[0][..., :, None] | few[1][..., None, :]
    for arrays, whole in ((point, "cosine"), (draws, "null")):
        for name in {*arrays} - {whole}:
            arrays[name] = np.where(noisy, np.nan, arrays[name])
    rest = tuple(axis for axis in get_args(Axis) if axis != over)
    dims = (*rest, over, f"{over}_other")
    found = variables("", dims, point, draws, confidence, square=directions_b is None)
    if pairs:
        # Over the pairs that have intervals; where there is no such pair, over all of them.
        is_few = [name in too_few[0] or HARMLESS in too_few[0] for name in other.names]
        counted = [row for row, lacks in enumerate(is_few) if not lacks]
        counted = counted if len(counted) > 1 else list(range(len(is_few)))
        averaged = [other.names[row] for row in counted]
        own = np.ix_(counted, counted)
        mean_point, mean_draws = (
            {name: pair_mean(values[..., *own]) for name, values in arrays.items()}
            for arrays in (point, draws)
        )
        found |= variables("mean_", rest, mean_point, mean_draws, confidence)
    if not missing:
        names = [("reliability", over), ("reliability_other", f"{over}_other")]
        unknown = [zero_a | few[0], zero_b | few[1]]
        for (name, axis), values, lost in zip(names, reliability, unknown, strict=True):
            if axis == over or directions_b is not None:
                attrs = {"units": "share", "long_name": MEANINGS["reliability"]}
                found[name] = ((*rest, axis), np.where(lost, np.nan, values), attrs)
    dataset = _labelled(found, directions_a, other, over, rest, confidence)
    dataset.attrs = _attrs(directions_a, directions_b, over, missing, confidence)
    if not missing:
        dataset.attrs["baselines"] = {
            name: MEANINGS[name]
            for name in _BASELINES
            if name in dataset and bool(dataset[name].notnull().any())
        }
        dataset.attrs |= {"too_few": too_few[0], "fewest": FEWEST}
        if averaged:
            dataset.attrs["averaged"] = averaged
        if directions_b is not None:
            dataset.attrs["too_few_other"] = too_few[1]
    return dataset


def _estimates(
    a: Directions, b: Directions, over: Axis, plain: bool
) -> tuple[Arrays, Arrays, list[np.ndarray]]:
    """Cosines, [… entry other]; how they move, by replicate; the reliabilities of both sets."""
    mine, others = _moved(a.values, over), _moved(b.values, over)
    if plain or a.resampled is None or b.resampled is None:
        x, y = wide(mine), wide(others)
        cosine = ratio(between(x, y), within(x, x), within(y, y))
        return {"cosine": np.clip(cosine, -1, 1)}, {}, []
    first = Sample(mine, _moved(a.resampled.halves, over))
    second = first if a is b else Sample(others, _moved(b.resampled.halves, over))
    both = inner_products(first, second, between)
    squares = [inner_products(first, first, within)]
    squares.append(squares[0] if a is b else inner_products(second, second, within))
    measured = [each.measured for each in squares]
    noiseless = [np.where(each.noiseless > 0, each.noiseless, np.nan) for each in squares]
    longest = np.sqrt(noiseless[0])[..., :, None] * np.sqrt(noiseless[1])[..., None, :]
    point = {
        "cosine": np.clip(ratio(both.measured, *measured), -1, 1),
        "disattenuated": ratio(both.noiseless, *noiseless),
        "ceiling": ratio(longest + both.measured - both.noiseless, *measured),
    }
    draws = {
        "cosine": cosine_draws(both, *squares),
        "disattenuated": ratio(
            both.noiseless + both.change, *(s.noiseless + s.change for s in squares)
        ),
        "usable": both.change,
    }
    shares = [
        each.noiseless / np.where(each.measured > 0, each.measured, np.nan) for each in squares
    ]
    return point, draws, shares


def _too_few(directions: Directions) -> dict[str, int]:
    """The names with too few prompts for intervals, or the harmless prompts, and how many.

    Where the number of prompts is not recorded it is the mean of their resampled weights.
    """
    assert directions.resampled is not None
    n = directions.provenance.get("n") or {}
    by_name = directions.provenance.get("n_by_name") or {}
    weights = directions.resampled.weights.sum(1).mean(0).round().int().tolist()
    counts = {
        name: by_name.get(name, n.get("positive", weight))
        for name, weight in zip(directions.names, weights, strict=True)
    } | {HARMLESS: n.get("negative", FEWEST)}
    return {name: int(count) for name, count in counts.items() if count < FEWEST}


def _is_few(directions: Directions, over: Axis, too_few: Mapping[str, int]) -> np.ndarray:
    """Whether a direction has too few prompts, [… entry], as the map has it."""
    shape = directions.values.shape[:3]
    few = torch.tensor([name in too_few or HARMLESS in too_few for name in directions.names])
    few = few[:, None, None, None].expand(*shape, 1)
    return _moved(few, over)[..., 0].numpy()


def _labelled(
    variables: dict[str, Any],
    a: Directions,
    b: Directions,
    over: Axis,
    rest: tuple[str, ...],
    confidence: float,
) -> xr.Dataset:
    """The dataset with its coordinates, the compared axes first."""
    labels = {axis: _axis(a, axis) for axis in (over, *rest)}
    labels[f"{over}_other"] = _axis(b, over)
    coords: dict[str, Any] = dict(labels)
    used = {dim for entry in variables.values() for dim in entry[0]}
    if "bound" in used:
        coords["bound"] = ["low", "high"]
    if "quantile" in used:
        coords["quantile"] = levels(confidence)
    return xr.Dataset(variables, coords).transpose(over, f"{over}_other", *rest, ...)


def _axis(directions: Directions, axis: str) -> Any:
    """The labels of an axis."""
    own = getattr(directions, f"{axis}s")
    return position_axis(own) if axis == "position" else list(own)


def _attrs(
    a: Directions, b: Directions | None, over: Axis, missing: str, confidence: float
) -> dict[str, Any]:
    """What was compared, on how many prompts, and what the baselines are."""
    attrs: dict[str, Any] = {
        "model": a.provenance.get("model", ""),
        "site": a.site,
        "over": over,
        "method": a.provenance.get("method", ""),
        "n": a.provenance.get("n", {}),
        "n_by_name": a.provenance.get("n_by_name", {}),
        "provenance": dict(a.provenance),
    }
    if b is not None:
        attrs["method_other"] = b.provenance.get("method", "")
        attrs["provenance_other"] = dict(b.provenance)
    if missing:
        return {**attrs, "baselines": f"none: {missing}"}
    assert a.resampled is not None
    return {
        **attrs,
        "confidence": confidence,
        "interval": "first-order Poisson bootstrap over prompts",
        "n_resamples": a.resampled.n_resamples,
        "seed": a.resampled.seed,
    }


def check_same_model(a: Directions, b: Directions) -> None:
    """Refuses two sets whose cosines mean nothing.

    Raises:
        AxisError: widths, sites or weights differ, or, where those are not recorded, models.
    """
    if a.d_model != b.d_model:
        raise AxisError(
            f"widths differ: {a.d_model} and {b.d_model}; these directions come from different "
            "models, and a cosine between them means nothing. Compare sets of one model."
        )
    if a.site != b.site:
        raise AxisError(f"sites differ: {a.site} and {b.site}. Read both at one site.")
    for key in ("weights", "model"):
        one, two = a.provenance.get(key), b.provenance.get(key)
        if one and two and one != two:
            raise AxisError(
                f"these directions come from different {key}: {one} and {two}. A cosine between "
                "them means nothing; collect both on one model."
            )
        if one and two:
            break


def _matched(a: Directions, b: Directions, over: Axis) -> Directions:
    """The other set with its axes in the order of the first, after checking that it fits."""
    check_same_model(a, b)
    wanted: dict[str, Any] = {}
    for axis in get_args(Axis):
        mine, other = getattr(a, f"{axis}s"), getattr(b, f"{axis}s")
        if axis == over:
            continue
        if set(mine) != set(other):
            raise AxisError(
                f"{axis}s differ: {list(mine)} and {list(other)}. Choose the same ones from both "
                f"with .at({axis}=…), or compare over={axis!r}."
            )
        wanted[axis] = mine
    return b.at(**wanted)


def _zero(directions: Directions, over: Axis) -> np.ndarray:
    """Where a direction is zero but for rounding, [… entry].

    Raises:
        AxisError: it is zero everywhere.
    """
    degenerate = directions.degenerate
    for name, everywhere in zip(directions.names, degenerate.flatten(1).all(1), strict=True):
        if everywhere:
            raise AxisError(
                f"{name} is zero or not finite at every layer and position, so it has no cosine "
                "with anything. Choose other directions with .at(name=…)."
            )
    return _moved(degenerate[..., None], over)[..., 0].numpy()


def _missing(a: Directions, b: Directions) -> str:
    """Why there are no baselines, or nothing."""
    if a.resampled is None or b.resampled is None:
        return "these directions carry no resampled vectors (collect with n_resamples=200)"
    one, two = a.resampled, b.resampled
    if (one.n_resamples, one.seed) != (two.n_resamples, two.seed):
        return (
            f"the two sets were resampled differently ({one.n_resamples} times with seed "
            f"{one.seed}, {two.n_resamples} times with seed {two.seed}): collect both with one "
            "n_resamples= and one seed="
        )
    return ""


def _moved(values: Tensor, over: Axis) -> Tensor:
    """Values […, name, layer, position, d_model] with the compared axis beside d_model."""
    return torch.movedim(values.detach().cpu(), get_args(Axis).index(over) - 4, -2)
