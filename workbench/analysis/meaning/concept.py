"""Concept or words: whether a direction detects its category, or spells the refusal."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float
from scipy.stats import beta, rankdata
from torch import Tensor

from workbench.activations import Activations
from workbench.analysis.inputs import check_unseen, own_categories
from workbench.analysis.meaning.vocabulary import token_text, unembedding_rows
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.models.hooked import HookedModel
from workbench.statistics.auc import auc_interval

CONTRASTS = ("all", "harmful", "harmless")
"""Against whom a category is told apart: everybody else, other harmful prompts, harmless ones."""


@checked
def measure_concept(
    model: HookedModel,
    directions: Directions | Sequence[Directions],
    activations: Activations,
    *,
    refusal_tokens: Sequence[int],
    own: Mapping[str, Collection[str]] | None = None,
    confidence: float = 0.95,
    n_random: int = 200,
    seed: int = 0,
) -> xr.Dataset:
    """How well each direction detects its own category, against how much of it is refusal words.

    Detection is the area under the ROC curve of the projection: the chance that a harmful prompt of
    the direction's own categories projects further than another one. Words are the share of the
    direction's squared length that lies in the span of the refusal tokens' unembedding rows (see
    `unembedding_rows`): what of it acts on the first token of the reply at once. A direction that
    carries a concept is high in the first and low in the second. Both are read at every layer of
    the directions.

    Args:
        model: the model.
        directions: any names and layers at one position; or several such sets.
        activations: single prompts, harmful and others, that the directions were not estimated on,
            with the directions' layers and positions.
        refusal_tokens: ids of the tokens that begin refusals.
        own: the categories that each direction stands for; by default the one it is named after.
        confidence: of the intervals.
        n_random: how many sets of as many other tokens the words are compared with.
        seed: of these draws.

    Returns:
        Dataset over (name, layer): ``auc`` and ``auc_interval`` (bound) by ``contrast``, NaN where
        the activations hold nobody to compare with; ``words``; ``other_words``, the mean share in
        the span of as many random other tokens, and ``other_words_interval``. In ``attrs``:
        ``random_words``, the expected share of a random direction, k / d_model, and
        ``random_words_high``, the upper bound of its share at this confidence.

    Raises:
        AxisError: another site, layer, position or width; or refusal tokens that are none.
        StudyError: means instead of single prompts, prompts that the directions were estimated on,
            or a direction's own categories have no harmful prompt.
    """
    sets = [directions] if isinstance(directions, Directions) else list(directions)
    vectors = _by_name_and_layer(sets)
    _check(model, sets, activations)
    harmful = np.array([label == "harmful" for label in activations.labels])
    categories = np.array(activations.categories)
    stands_for = own_categories(vectors, set(categories[harmful]), own)
    positive = {name: harmful & np.isin(categories, stands_for[name]) for name in vectors}
    basis = _basis(unembedding_rows(model, refusal_tokens))
    others = _other_bases(model, refusal_tokens, n_random, seed)
    layers = sorted({layer for each in vectors.values() for layer in each})
    cells = {
        (row, layers.index(layer)): (name, direction)
        for row, name in enumerate(vectors)
        for layer, direction in vectors[name].items()
    }
    shape, tail = (len(vectors), len(layers)), (1 - confidence) / 2
    area, ends = np.full((*shape, len(CONTRASTS), 3), np.nan), np.full((*shape, 4), np.nan)
    for cell, (name, direction) in cells.items():
        unit = direction.unit().vector.double().cpu()
        shares = torch.einsum("sdk,d->sk", others, unit).square().sum(1).numpy()
        spread = np.quantile(shares, [tail, 1 - tail])
        ends[cell] = [float((basis.T @ unit).square().sum()), shares.mean(), *spread]
        acts = activations.at(direction.layers[0], direction.positions[0]).double().cpu()
        projections = (acts @ unit).numpy()
        for column, negative in enumerate(_negatives(positive[name], harmful, activations.labels)):
            area[(*cell, column)] = _area(projections, positive[name], negative, confidence)
    rank, width = basis.shape[1], model.d_model
    auc = {"units": "1", "long_name": "area under the ROC curve"}
    share = {"units": "share of the squared length"}
    axes = ("name", "layer")
    variables: dict[str, Any] = {
        "auc": ((*axes, "contrast"), area[..., 0], auc),
        "auc_interval": ((*axes, "contrast", "bound"), area[..., 1:], auc),
        "words": (axes, ends[..., 0], share | {"long_name": "in the span of the refusal tokens"}),
        "other_words": (axes, ends[..., 1], share | {"long_name": "of as many other tokens"}),
        "other_words_interval": ((*axes, "bound"), ends[..., 2:], share),
        "n_own": ("name", [int(own_rows.sum()) for own_rows in positive.values()]),
    }
    return xr.Dataset(
        variables,
        coords={
            "name": list(vectors),
            "layer": layers,
            "contrast": list(CONTRASTS),
            "bound": ["low", "high"],
            "categories": ("name", [", ".join(stands_for[name]) for name in vectors]),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "site": activations.site,
            "n": activations.n_prompts,
            "confidence": confidence,
            "interval": "Newcombe's for areas; other tokens' own spread",
            "seed": seed,
            "refusal_tokens": list(refusal_tokens),
            "refusal_token_texts": [token_text(model, token) for token in refusal_tokens],
            "random_words": rank / width,
            "random_words_high": _random_high(rank, width, 1 - tail),
            "provenance": {**model.provenance, "prompts": activations.provenance.get("prompts")},
        },
    )


def _by_name_and_layer(sets: Sequence[Directions]) -> dict[str, dict[int, Directions]]:
    """Single vectors by name and layer."""
    vectors: dict[str, dict[int, Directions]] = {}
    for each in sets:
        if len(each.positions) != 1:
            raise AxisError(
                f"expected one position of each direction, found {each!r}. Choose with "
                ".at(position=…)."
            )
        # Rounding noise shows only beside the other vectors of its set.
        noise = each.degenerate[..., 0]
        for row, name in enumerate(each.names):
            if name in vectors:
                raise AxisError(f"two directions are named {name!r}. Give each a name of its own.")
            vectors[name] = {
                layer: each.at(name=name, layer=layer)
                for column, layer in enumerate(each.layers)
                if not noise[row, column]
            }
    if not any(vectors.values()):
        raise AxisError("no directions, or all of them are zero or not finite.")
    return vectors


def _check(model: HookedModel, sets: Sequence[Directions], activations: Activations) -> None:
    """Refuses activations that do not go with the directions."""
    if not activations.per_prompt:
        raise StudyError("detection needs single prompts: collect with per_prompt=True.")
    for each in sets:
        widths = each.d_model, activations.values.shape[-1], model.d_model
        if each.site != activations.site or len({*widths}) > 1:
            raise AxisError(
                f"directions of width {widths[0]} at {each.site} do not go with activations of "
                f"width {widths[1]} at {activations.site} and {model.name} (d_model {widths[2]})."
            )
        check_unseen(each, activations)


def _negatives(
    positive: Bool[np.ndarray, " row"], harmful: Bool[np.ndarray, " row"], labels: Sequence[str]
) -> list[Bool[np.ndarray, " row"]]:
    """The prompts of each contrast, in the order of `CONTRASTS`."""
    harmless = np.array([label == "harmless" for label in labels])
    return [~positive, harmful & ~positive, harmless & ~positive]


def _area(
    projections: Float[np.ndarray, " row"],
    positive: Bool[np.ndarray, " row"],
    negative: Bool[np.ndarray, " row"],
    confidence: float,
) -> tuple[float, float, float]:
    """Chance that a positive value exceeds a negative one, ties counting half; its interval."""
    n, m = int(positive.sum()), int(negative.sum())
    if not m:
        return np.nan, np.nan, np.nan
    ranks = rankdata(np.concatenate([projections[positive], projections[negative]]))[:n]
    area = float((ranks.sum() - n * (n + 1) / 2) / (n * m))
    return area, *auc_interval(area, n, m, confidence)


def _basis(rows: Float[Tensor, "token d_model"]) -> Float[Tensor, "d_model rank"]:
    """An orthonormal basis of the span of the rows."""
    _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
    return directions[sizes > 1e-6 * sizes.max()].T


def _other_bases(
    model: HookedModel, token_ids: Sequence[int], n: int, seed: int
) -> Float[Tensor, "draw d_model token"]:
    """Bases of the spans of as many random other tokens."""
    rng = np.random.default_rng(seed)
    d_vocab = model.bridge.W_U.shape[1]
    candidates = np.setdiff1d(np.arange(d_vocab), np.asarray(token_ids))
    k = len(token_ids)
    drawn = np.stack([rng.choice(candidates, size=k, replace=False) for _ in range(n)])
    rows = unembedding_rows(model, drawn.ravel().tolist()).view(n, k, -1)
    return torch.linalg.qr(rows.transpose(1, 2)).Q


def _random_high(rank: int, width: int, level: float) -> float:
    """Upper quantile of a random direction's share in a subspace: it is Beta distributed."""
    return float(beta.ppf(level, rank / 2, (width - rank) / 2)) if rank < width else 1.0
