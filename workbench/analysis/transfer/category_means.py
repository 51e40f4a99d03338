"""From scores by prompt to means over categories, with intervals, and the shape of the matrix."""

from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from workbench.analysis.transfer.blocks import asymmetry, profile_blocks
from workbench.statistics.intervals import binomial_interval, bootstrap_interval

_UNITS = {
    "score": {"units": "nats", "long_name": "refusal score"},
    "effect": {"units": "nats", "long_name": "change of the refusal score"},
    "rate": {"units": "share of replies", "long_name": "refusal rate"},
}

_FAINT = 0.1
"""An effect below this share of the largest says nothing about which directions do the same."""


def with_category_means(by_prompt: xr.Dataset, confidence: float, seed: int) -> xr.Dataset:
    """Adds means over the prompts of each category to scores by prompt.

    Args:
        by_prompt: ``plain_score_by_prompt`` (prompt) and ``score_by_prompt`` (name, mode,
            prompt); where measured ``plain_refused_by_prompt``, ``refused_by_prompt`` and
            ``window_score_by_prompt`` (name, window, prompt). Coordinates ``category`` and
            ``prompt_category``.
        confidence: of the intervals; see `bootstrap_interval` for which means have one.
        seed: of the bootstrap.

    Returns:
        The same dataset with ``score``, ``effect`` and ``rate`` over (name, category, mode),
        ``window_…`` over (name, category, window), ``plain_…`` over (category), each with its
        ``…_interval`` (…, bound); and ``n`` (category), the prompts of each.
    """
    rows = [
        np.flatnonzero(by_prompt["prompt_category"].values == category)
        for category in by_prompt["category"].values
    ]
    variables: dict[str, Any] = {
        "n": ("category", np.array([len(own) for own in rows]), {"units": "prompts"})
    }
    plain = by_prompt["plain_score_by_prompt"]
    for prefix in ("plain_", "", "window_"):
        name = f"{prefix}score_by_prompt"
        if name not in by_prompt:
            continue
        scores = by_prompt[name]
        variables |= _means(f"{prefix}score", scores, rows, confidence, seed)
        if prefix != "plain_":
            variables |= _means(f"{prefix}effect", scores - plain, rows, confidence, seed)
        refused = f"{prefix}refused_by_prompt"
        if refused in by_prompt:
            variables |= _rates(f"{prefix}rate", by_prompt[refused], rows, confidence)
    return by_prompt.assign(variables)


def with_shape(matrix: xr.Dataset, cut: float = 0.5) -> xr.Dataset:
    """Adds to a transfer matrix in which order, and in which blocks, its rows and columns stand.

    Cells whose interval holds zero, or that are below a tenth of the largest, count as zero; where
    there are too few prompts for an interval, the size alone decides.
    Where every category has one direction, named after it, columns take the order and the blocks of
    the rows, and ``asymmetry`` is added too. Where no direction does much, blocks sort noise.

    Args:
        matrix: as `with_category_means` returns it, with ``own`` (name, category).
        cut: see `profile_blocks`.
    """
    attrs = matrix.attrs
    low, high = (matrix["effect_interval"].sel(bound=bound) for bound in ("low", "high"))
    found = matrix["effect"].where((low > 0) | (high < 0) | low.isnull(), 0.0)
    size = abs(found)
    found = found.where(size >= _FAINT * size.max(dim=("name", "category")), 0.0)
    own = matrix["own"].values
    # Columns without a direction of their own, such as the harmless one, have no place in a block.
    named = np.flatnonzero(own.any(axis=0))
    square = own.shape[0] == len(named) and np.array_equal(own[:, named], np.eye(len(own)) > 0)
    modes = matrix["mode"].values
    names = ("order", "block", "category_order", "category_block")
    shapes: dict[str, list[Any]] = {name: [] for name in names}
    asymmetries = []
    for mode in modes:
        effects = found.sel(mode=mode).transpose("name", "category").values
        rows = profile_blocks(effects, cut)
        columns = rows if square else _columns_beside(rows[0], effects[:, named], cut)
        for name, values in zip(names, (*rows, *columns), strict=True):
            shapes[name].append(values)
        if square and len(named) > 1:
            changes = _changes(matrix.sel(mode=mode), named)
            asymmetries.append(asymmetry(changes, attrs["confidence"], seed=attrs["seed"]))
    # The columns that nobody owns keep their places at the end, in block 0.
    rest = [index for index in range(own.shape[1]) if index not in named]
    order = [np.array([*named[each], *rest]) for each in shapes["category_order"]]
    block = np.zeros((len(modes), own.shape[1]), dtype=np.int64)
    block[:, named] = shapes["category_block"]
    variables: dict[str, Any] = {
        "order": (("mode", "place"), np.stack(shapes["order"])),
        "block": (("mode", "name"), np.stack(shapes["block"])),
        "category_order": (("mode", "category_place"), np.stack(order)),
        "category_block": (("mode", "category"), block),
    }
    if asymmetries:
        unit = {"units": "1", "long_name": "asymmetry off the diagonal"}
        intervals = np.array([each.interval for each in asymmetries])
        variables["asymmetry"] = ("mode", [each.index for each in asymmetries], unit)
        variables["asymmetry_interval"] = (("mode", "bound"), intervals, unit)
        variables["asymmetry_noise"] = ("mode", [each.noise for each in asymmetries], unit)
    return matrix.assign(variables).assign_attrs(block_cut=cut)


def _columns_beside(
    row_order: Int[np.ndarray, " row"], effects: Float[np.ndarray, "row column"], cut: float
) -> tuple[Int[np.ndarray, " column"], Int[np.ndarray, " column"]]:
    """Order and blocks of the columns, their blocks in the order of the rows that act on them."""
    order, block = profile_blocks(effects.T, cut)
    strongest = np.abs(effects[row_order]).argmax(axis=0)
    place = {number: strongest[block == number].mean() for number in np.unique(block)}
    order = np.array(sorted(order, key=lambda column: (place[block[column]], block[column])))
    number = {own: rank for rank, own in enumerate(dict.fromkeys(block[order]), start=1)}
    return order, np.array([number[own] for own in block])


def _changes(matrix: xr.Dataset, named: np.ndarray) -> list[Float[np.ndarray, "direction _prompt"]]:
    """Changes by prompt of one mode, for each of the categories that have a direction."""
    change = matrix["score_by_prompt"] - matrix["plain_score_by_prompt"]
    values = change.transpose("name", "prompt").values
    owner = matrix["prompt_category"].values
    return [values[:, owner == category] for category in matrix["category"].values[named]]


def _dims(values: xr.DataArray) -> tuple[str, ...]:
    """Where the category goes: after the direction, before mode or window."""
    others = [str(dim) for dim in values.dims if dim != "prompt"]
    return (*others[:1], "category", *others[1:])


def _means(
    name: str, values: xr.DataArray, rows: list[np.ndarray], confidence: float, seed: int
) -> dict[str, Any]:
    """Mean and bootstrap interval of every category."""
    dims, attrs = _dims(values), _UNITS[name.split("_")[-1]]
    axis = dims.index("category")
    array = values.transpose(..., "prompt").values
    parts = [array[..., own] for own in rows]
    bounds = [bootstrap_interval(part, confidence, seed=seed) for part in parts]
    intervals = np.stack([np.stack(each, axis=-1) for each in bounds], axis=axis)
    means = np.stack([part.mean(axis=-1) for part in parts], axis=axis)
    return {name: (dims, means, attrs), f"{name}_interval": ((*dims, "bound"), intervals, attrs)}


def _rates(
    name: str, refused: xr.DataArray, rows: list[np.ndarray], confidence: float
) -> dict[str, Any]:
    """Share refused and Wilson interval of every category."""
    dims, attrs = _dims(refused), _UNITS["rate"]
    axis = dims.index("category")
    array = refused.transpose(..., "prompt").values
    counts = np.stack([array[..., own].sum(axis=-1) for own in rows], axis=axis)
    n = np.expand_dims(
        np.array([len(own) for own in rows]),
        tuple(each for each in range(counts.ndim) if each != axis),
    )
    total = np.broadcast_to(n, counts.shape)
    intervals = np.empty((*counts.shape, 2))
    for cell in np.ndindex(*counts.shape):
        intervals[cell] = binomial_interval(int(counts[cell]), int(total[cell]), confidence)
    rates = counts / total
    return {name: (dims, rates, attrs), f"{name}_interval": ((*dims, "bound"), intervals, attrs)}
