"""Principal components of activations, and how well labels separate along a direction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from workbench.activations import Activations
from workbench.arguments import checked
from workbench.errors import AxisError, StudyError
from workbench.positions import Position, position_axis
from workbench.statistics.auc import auc_interval, split_half_auc

_POSITIVE_FIRST = ("harmful", "borderline", "harmless")
_N_SHUFFLED = 200
"""Times that labels are shuffled, for what a component's cosine is by chance."""
_NOISE = 1e-9
"""Activations that spread less than this share of their size are one point, whatever rounding."""


@checked
def pca_projection(
    activations: Activations | Sequence[Activations],
    *,
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    n_components: int = 2,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Principal components of prompts' activations, fitted at every layer and position by itself.

    The sign of a component means nothing. The first is turned to the positive label, and every
    other one so that prompts stay on the side on which they are one layer before.

    Where two labels are present, the Dataset also says how well they separate: by the AUC of the
    projection on the difference of means, estimated on halves that do not see each other
    (`workbench.statistics.auc.split_half_auc`).

    Args:
        activations: per prompt; several sets are put together.
        layers: all by default.
        positions: all by default.
        n_components: of the projection.
        confidence: of the AUC's interval.
        seed: of the splits into halves and of the shuffled labels.

    Returns:
        Dataset with ``score`` (prompt, layer, position, component) in units of the activations, and
        ``explained_variance`` (layer, position, component), a share. Where two labels are present,
        or harmful and harmless among others: ``cosine_with_mean_difference`` of the first
        component, beside ``cosine_chance``, below which its size stays in 95 % of shuffled labels,
        and ``cosine_p_value``; ``auc``, and ``auc_interval`` with a ``bound`` axis; all (layer,
        position). The component is that in which prompts vary most, and a difference of any two
        halves leans towards it: a large cosine alone says little.
        NaN where all prompts have the same activation. Prompts carry ``id`` on the axis itself, and
        ``label``, ``category`` and, where known, ``text``.

    Raises:
        StudyError: means instead of single prompts, or fewer prompts than components.
        AxisError: sets read in different places, or a layer or position that was not collected.

    Source: scikit-learn's PCA; Arditi et al. 2024 for the first component against the direction.
    """
    sets = [activations] if isinstance(activations, Activations) else list(activations)
    _check(sets)
    layers = sets[0].layers if layers is None else tuple(layers)
    positions = sets[0].positions if positions is None else tuple(positions)
    labels = np.array([label for each in sets for label in each.labels])
    contrast = _contrast(set(labels.tolist()))
    cells = (len(layers), len(positions))
    scores = np.full((len(labels), *cells, n_components), np.nan)
    explained = np.full((*cells, n_components), np.nan)
    separation = np.full((6, *cells), np.nan)
    for cell in np.ndindex(*cells):
        where = layers[cell[0]], positions[cell[1]]
        values = torch.cat([each.at(*where) for each in sets]).double().cpu().numpy()
        if n_components > min(values.shape) or n_components < 1:
            raise StudyError(
                f"no {n_components} components of {values.shape[0]} prompts of width "
                f"{values.shape[1]}: expected 1 to {min(values.shape)}."
            )
        if np.ptp(values, axis=0).max() <= _NOISE * np.abs(values).max():
            continue
        before = scores[:, cell[0] - 1, cell[1]] if cell[0] else None
        found, explained[cell], axis = _components(values, n_components, labels, contrast, before)
        scores[(slice(None), *cell)] = found
        if contrast is not None:
            separation[(slice(None), *cell)] = _separation(
                values, labels, contrast, axis, confidence, seed
            )
    return _labelled(sets, layers, positions, contrast, scores, explained, separation, confidence)


def _check(sets: Sequence[Activations]) -> None:
    """Refuses means, nothing, and sets that were not read in the same place."""
    if not sets:
        raise StudyError("no activations to project.")
    for each in sets:
        if not each.per_prompt:
            raise StudyError("pca_projection needs single prompts: collect with per_prompt=True.")
        for axis in ("site", "layers", "positions"):
            if getattr(each, axis) != getattr(sets[0], axis):
                raise AxisError(
                    f"{axis} differ: {getattr(sets[0], axis)} and {getattr(each, axis)}. Collect "
                    "all sets alike."
                )
        if each.values.shape[-1] != sets[0].values.shape[-1]:
            raise AxisError(
                f"widths differ: {sets[0].values.shape[-1]} and {each.values.shape[-1]}; these "
                "activations come from different models."
            )


def _contrast(labels: set[str]) -> tuple[str, str] | None:
    """The positive and the negative label, if it is clear which are meant."""
    if {"harmful", "harmless"} <= labels:
        return "harmful", "harmless"
    known = [label for label in _POSITIVE_FIRST if label in labels]
    ordered = known + sorted(labels - set(known))
    return (ordered[0], ordered[1]) if len(ordered) == 2 else None


def _components(
    values: Float[np.ndarray, "prompt d_model"],
    n_components: int,
    labels: np.ndarray,
    contrast: tuple[str, str] | None,
    before: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, Float[np.ndarray, " d_model"]]:
    """Scores, shares of variance, and the first component, with signs that stay the same."""
    from sklearn.decomposition import PCA

    # Only what is asked for: decomposing everything takes many times as long.
    solver = "arpack" if n_components < min(values.shape) else "full"
    fitted = PCA(n_components=n_components, svd_solver=solver, random_state=0).fit(values)
    scores = np.asarray(fitted.transform(values))
    signs = np.ones(n_components)
    if before is not None and np.isfinite(before).all():
        signs = np.where((scores * (before - before.mean(0))).sum(0) < 0, -1.0, 1.0)
    if contrast is not None:
        gap = scores[labels == contrast[0], 0].mean() - scores[labels == contrast[1], 0].mean()
        signs[0] = -1.0 if gap < 0 else 1.0
    axis = np.asarray(fitted.components_)[0] * signs[0]
    return scores * signs, np.asarray(fitted.explained_variance_ratio_), axis


def _separation(
    values: Float[np.ndarray, "prompt d_model"],
    labels: np.ndarray,
    contrast: tuple[str, str],
    axis: Float[np.ndarray, " d_model"],
    confidence: float,
    seed: int,
) -> tuple[float, float, float, float, float, float]:
    """Cosine of the component with the mean difference, by chance, its p; AUC with its interval."""
    wanted = np.isin(labels, contrast)
    values, positive = values[wanted], labels[wanted] == contrast[0]
    difference = values[positive].mean(0) - values[~positive].mean(0)
    cosine = float(axis @ difference / np.linalg.norm(difference))
    shuffled = np.abs(_shuffled_cosines(values, positive, axis, seed))
    chance = float(np.quantile(shuffled, 0.95, method="higher"))
    p = float((1 + (shuffled >= abs(cosine)).sum()) / (1 + len(shuffled)))
    sizes = int(positive.sum()), int((~positive).sum())
    if min(sizes) < 2:
        return cosine, np.nan, np.nan, np.nan, np.nan, np.nan
    auc = split_half_auc(values, positive, seed=seed)
    return (cosine, chance, p, auc, *auc_interval(auc, *sizes, confidence))


def _shuffled_cosines(
    values: Float[np.ndarray, "prompt d_model"],
    positive: np.ndarray,
    axis: Float[np.ndarray, " d_model"],
    seed: int,
) -> Float[np.ndarray, " draw"]:
    """Cosines of an axis with the differences of means that shuffled labels give."""
    rng = np.random.default_rng([seed, 2])
    signed = np.where(positive, 1 / positive.sum(), -1 / (~positive).sum())
    weights = np.stack([rng.permutation(signed) for _ in range(_N_SHUFFLED)])
    differences = weights @ values
    lengths = np.linalg.norm(differences, axis=1)
    return (differences @ axis) / np.maximum(lengths, np.finfo(float).tiny)


def _labelled(
    sets: Sequence[Activations],
    layers: Sequence[int],
    positions: Sequence[Position],
    contrast: tuple[str, str] | None,
    scores: np.ndarray,
    explained: np.ndarray,
    separation: np.ndarray,
    confidence: float,
) -> xr.Dataset:
    """The dataset with prompts, units and provenance."""
    where = ("layer", "position")
    variables: dict[str, Any] = {
        "score": (("prompt", *where, "component"), scores, {"units": "activation"}),
        "explained_variance": ((*where, "component"), explained, {"units": "share"}),
    }
    coords: dict[str, Any] = {
        "prompt": [name for each in sets for name in each.ids],
        "label": ("prompt", [label for each in sets for label in each.labels]),
        "category": ("prompt", [category for each in sets for category in each.categories]),
        "layer": list(layers),
        "position": position_axis(positions),
        "component": list(range(1, scores.shape[-1] + 1)),
    }
    if all(each.texts for each in sets):
        coords["text"] = ("prompt", [text for each in sets for text in each.texts])
    attrs: dict[str, Any] = {
        "model": sets[0].provenance.get("model", ""),
        "site": sets[0].site,
        "n": len(scores),
        "provenance": dict(sets[0].provenance),
        "prompts": [each.provenance.get("prompts") for each in sets],
    }
    if contrast is not None:
        variables["cosine_with_mean_difference"] = (where, separation[0], {"units": "cosine"})
        shuffled = {"units": "cosine", "long_name": "95 % of shuffled labels stay below"}
        variables["cosine_chance"] = (where, separation[1], shuffled)
        variables["cosine_p_value"] = (where, separation[2], {"units": "1"})
        variables["auc"] = (where, separation[3], {"units": "share of pairs"})
        bounds = np.moveaxis(separation[4:], 0, -1)
        variables["auc_interval"] = ((*where, "bound"), bounds, {"units": "share of pairs"})
        coords["bound"] = ["low", "high"]
        attrs |= {"positive": contrast[0], "negative": contrast[1], "confidence": confidence}
        attrs["interval"] = "Newcombe's score interval"
        attrs["auc"] = "projection on the difference of means of the other half of the prompts"
    return xr.Dataset(variables, coords, attrs)
