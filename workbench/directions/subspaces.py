"""Subspaces instead of single vectors: the principal angles between them."""

import itertools

import numpy as np
import torch
import xarray as xr

from workbench.activations import Activations
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.positions import position_axis

_NOISE = 1e-9
"""Prompts that spread less than this share of their length all have the same activation."""


def category_subspace(
    positive: Activations, negative: Activations, category: str, n_components: int = 3
) -> Directions:
    """Orthonormal directions along which a category's prompts lie, as seen from the harmless mean.

    The right singular vectors of x - mean(negative), not centred: the first is close to the mean
    difference, the others are how the category's prompts differ among themselves.

    Args:
        positive: activations per prompt, usually on harmful prompts.
        negative: activations, usually on harmless prompts.
        category: whose prompts.
        n_components: dimensions of the subspace.

    Returns:
        Directions named ``"<category> 1"``, ``"<category> 2"``, …; zero where all its prompts have
        the same activation.

    Raises:
        AxisError: no such category, or the two sets were not read at the same place.
        StudyError: the positive activations are means, or fewer prompts than components.
    """
    if not positive.per_prompt:
        raise StudyError("a subspace needs single prompts: collect with per_prompt=True.")
    for axis in ("site", "layers", "positions"):
        mine, other = getattr(positive, axis), getattr(negative, axis)
        if mine != other:
            raise AxisError(
                f"{axis} differ: positive {mine}, negative {other}. Collect both alike."
            )
    positive.mean(category)  # says which categories there are if this is none
    rows = [row for row, own in enumerate(positive.categories) if own == category]
    if not 1 <= n_components <= min(len(rows), positive.values.shape[-1]):
        raise StudyError(
            f"cannot span {n_components} dimensions with {len(rows)} prompts of width "
            f"{positive.values.shape[-1]} in {category!r}: expected 1 to "
            f"{min(len(rows), positive.values.shape[-1])} components."
        )
    own = positive.values[rows].double()
    _, lengths, vectors = torch.linalg.svd((own - negative.mean()).movedim(0, 2), False)
    spanned = lengths > _NOISE * own.norm(dim=-1).max()
    basis = (vectors * spanned[..., None])[:, :, :n_components].movedim(2, 0)
    return Directions(
        basis.float(),
        tuple(f"{category} {index + 1}" for index in range(n_components)),
        positive.layers,
        positive.positions,
        positive.site,
        {**positive.provenance, "method": "category_subspace", "n": {"positive": len(rows)}},
        prompt_keys=tuple(sorted({*positive.prompt_keys, *negative.prompt_keys})),
    )


@checked
def principal_angles(a: Directions, b: Directions) -> xr.Dataset:
    """Angles between the subspaces that two sets of directions span, at every layer and position.

    The names of each set span its subspace; how long the vectors are does not matter.

    Args:
        a: one set, with as many names as its subspace has dimensions.
        b: the other, at the same layers and positions.

    Returns:
        Dataset over (layer, position): ``angle`` (…, component) in degrees, the smallest first;
        ``overlap``, the mean squared cosine of the angles, from 0 (orthogonal) to 1 (the smaller
        subspace lies in the other); ``random_overlap`` and ``random_overlap_sd``, what random
        subspaces of these dimensions have. NaN where the vectors of a set do not span as many
        dimensions as there are names.

    Raises:
        AxisError: widths, sites, layers or positions do not match.

    Source: Björck and Golub 1973, by `scipy.linalg.subspace_angles`; the overlap is
    TransformerLens' projection kernel divided by the smaller dimension.
    """
    from scipy.linalg import subspace_angles
    from transformer_lens.tools.analysis.projection_kernel import (
        orthonormal_subspace,
        projection_kernel,
    )

    if a.d_model != b.d_model or a.site != b.site:
        raise AxisError(
            f"subspaces of width {a.d_model} at {a.site} and width {b.d_model} at {b.site} cannot "
            "be compared."
        )
    b = b.at(layer=a.layers, position=a.positions)
    smaller = min(len(a.names), len(b.names))
    cells = (len(a.layers), len(a.positions))
    angles, overlap = np.full((*cells, smaller), np.nan), np.full(cells, np.nan)
    for cell in np.ndindex(*cells):
        pair = [_basis(each, cell) for each in (a, b)]
        if any(np.linalg.matrix_rank(columns) < columns.shape[1] for columns in pair):
            continue
        angles[cell] = np.degrees(subspace_angles(*pair))[::-1]
        spans = [orthonormal_subspace(torch.from_numpy(columns)) for columns in pair]
        overlap[cell] = float(projection_kernel(*spans).score) / smaller
    mean, sd = _random_overlap(len(a.names), len(b.names), a.d_model)
    where = ("layer", "position")
    share = {"units": "share"}
    return xr.Dataset(
        {
            "angle": (
                (*where, "component"),
                angles,
                {"units": "degrees", "long_name": "principal angle"},
            ),
            "overlap": (where, overlap, {**share, "long_name": "mean squared cosine"}),
            "random_overlap": ((), mean, {**share, "long_name": "of random subspaces"}),
            "random_overlap_sd": ((), sd, {**share, "long_name": "of random subspaces"}),
        },
        coords={
            "layer": list(a.layers),
            "position": position_axis(a.positions),
            "component": list(range(1, smaller + 1)),
        },
        attrs={
            "model": a.provenance.get("model", ""),
            "site": a.site,
            "names": list(a.names),
            "names_other": list(b.names),
            "provenance": dict(a.provenance),
            "provenance_other": dict(b.provenance),
        },
    )


@checked
def subspace_overlaps(
    positive: Activations, negative: Activations, *, n_components: int = 3, seed: int = 0
) -> xr.Dataset:
    """Overlaps of the subspaces of all pairs of categories, at every layer and position.

    Each category's subspace is that of `category_subspace`. A few prompts do not span what many
    would, so overlaps are low even between a category and itself. They are therefore measured
    across random halves too, where a category has an overlap with itself to compare with.

    Args:
        positive: activations per prompt, usually on harmful prompts of several categories.
        negative: activations, usually on harmless prompts.
        n_components: dimensions of the subspaces; fewer where a category has too few prompts.
        seed: of the halves.

    Returns:
        Dataset over (layer, position, name, name_other): ``overlap``, the mean squared cosine of
        the principal angles, and ``smallest_angle`` in degrees, of all prompts; ``half_overlap``,
        from one half of one category's prompts to the other half of the other's, on its diagonal
        what a category has with itself. ``random_overlap`` and ``random_overlap_sd``, of random
        subspaces. NaN where the prompts do not span as many dimensions.

    Raises:
        StudyError: one category, or one of fewer than two prompts.
    """
    names = sorted(set(positive.categories))
    fewest = min((positive.categories.count(name) for name in names), default=0)
    if len(names) < 2 or fewest < 2:
        raise StudyError(
            f"expected two or more categories of two or more prompts, found {len(names)}, the "
            f"smallest with {fewest}."
        )
    n_components = min(n_components, fewest // 2)
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(np.array(positive.categories) == name) for name in names]
    shuffled = [rng.permutation(own) for own in rows]

    def spanned(parts: list[np.ndarray]) -> list[Directions]:
        sets = [positive.rows(np.sort(own).tolist()) for own in parts]
        return [
            category_subspace(own, negative, name, n_components)
            for name, own in zip(names, sets, strict=True)
        ]

    whole, first, second = (
        spanned(parts)
        for parts in (rows, [own[::2] for own in shuffled], [own[1::2] for own in shuffled])
    )
    shape = (len(positive.layers), len(positive.positions), len(names), len(names))
    overlap, smallest, across = (np.full(shape, np.nan) for _ in range(3))
    for i, j in itertools.product(range(len(names)), repeat=2):
        across[..., i, j] = principal_angles(first[i], second[j])["overlap"].values
        if i >= j:
            found = principal_angles(whole[i], whole[j])
            overlap[..., i, j] = overlap[..., j, i] = found["overlap"].values
            smallest[..., i, j] = smallest[..., j, i] = found["angle"].values[..., 0]
    mean, sd = _random_overlap(n_components, n_components, positive.values.shape[-1])
    cells = ("layer", "position", "name", "name_other")
    share = {"units": "share", "long_name": "mean squared cosine"}
    return xr.Dataset(
        {
            "overlap": (cells, overlap, share),
            "smallest_angle": (cells, smallest, {"units": "degrees"}),
            "half_overlap": (cells, (across + across.swapaxes(-1, -2)) / 2, share),
            "random_overlap": ((), mean, share),
            "random_overlap_sd": ((), sd, share),
        },
        coords={
            "layer": list(positive.layers),
            "position": position_axis(positive.positions),
            "name": names,
            "name_other": names,
        },
        attrs={
            "model": positive.provenance.get("model", ""),
            "site": positive.site,
            "n_components": n_components,
            "n_by_name": {name: len(own) for name, own in zip(names, rows, strict=True)},
            "n": {"positive": positive.n_prompts, "negative": negative.n_prompts},
            "seed": seed,
            "provenance": dict(positive.provenance),
        },
    )


def _basis(directions: Directions, cell: tuple[int, ...]) -> np.ndarray:
    """The vectors at one layer and position as columns of length 1, or of zeros, [d_model name]."""
    index = (slice(None), *cell)
    known = ~directions.degenerate[index]
    vectors = directions.values[index].detach().double().cpu() * known[:, None].cpu()
    return torch.nn.functional.normalize(vectors, dim=1).T.numpy()


def _random_overlap(rank_a: int, rank_b: int, d_model: int) -> tuple[float, float]:
    """Mean and standard deviation of the overlap of two uniformly random subspaces.

    Generalises TransformerLens' `random_projection_kernel_moments` to two different dimensions.
    """
    mean = rank_a * rank_b / d_model
    spread = 2 * mean * (d_model - rank_a) * (d_model - rank_b)
    variance = spread / (d_model * (d_model - 1) * (d_model + 2))
    smaller = min(rank_a, rank_b)
    return mean / smaller, variance**0.5 / smaller
