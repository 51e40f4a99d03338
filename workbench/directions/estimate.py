"""Estimators of directions: difference of means, first principal component, linear probe.

All return raw vectors that point from negative to positive. The difference of means has its natural
length; the other two know only a line, so their vectors are given the length of the gap between
the two sets' mean projections on it. Coefficients therefore mean the same for all three.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from workbench.activations import Activations
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.statistics.resampling import Resampled


@checked
def mean_difference(
    positive: Activations, negative: Activations, *, by: Literal["category"] | None = None
) -> Directions:
    """Mean over positive minus mean over negative prompts, in float64, at every layer and position.

    Where both sets were collected with ``n_resamples``, so are the directions: resampled vectors go
    with them.

    Args:
        positive: usually activations on harmful prompts.
        negative: usually activations on harmless prompts.
        by: ``"category"`` gives one direction per category of the positive prompts, each against
            all negative ones; None gives one, named ``"refusal"``.

    Raises:
        AxisError: the two were not read at the same site, layers and positions of one model, under
            the same system prompt and interventions; or their labels are swapped.
        StudyError: they were resampled differently, or a category has too few prompts to split.

    Source: Arditi et al. 2024, section 2.3; Marks and Tegmark 2023.
    """
    _check_pair(positive, negative)
    rows = {"refusal": list(range(len(positive.groups)))}
    if by == "category":
        rows = {
            name: [row for row, (_, own) in enumerate(positive.groups) if own == name]
            for name in sorted(set(positive.categories))
        }
    background = negative.mean()
    values = torch.stack(
        [positive.mean(name if by == "category" else None) - background for name in rows]
    )
    found = _directions(values.float(), tuple(rows), positive, negative, "mean_difference")
    if by == "category":
        counts = list(positive.groups.values())
        by_name = {name: sum(counts[row] for row in own) for name, own in rows.items()}
        found = replace(found, provenance={**found.provenance, "n_by_name": by_name})
    if positive.resampled is None or negative.resampled is None:
        return found
    return replace(found, resampled=_resampled(positive, negative, rows))


def _resampled(
    positive: Activations, negative: Activations, rows: Mapping[str, Sequence[int]]
) -> Resampled:
    """Differences of resampled means; only categories have anything to permute."""
    mine, other = positive.resampled, negative.resampled
    assert mine is not None and other is not None
    if (mine.n_resamples, mine.seed) != (other.n_resamples, other.seed):
        raise StudyError(
            f"resampled differently: positive {mine.n_resamples} times with seed {mine.seed}, "
            f"negative {other.n_resamples} times with seed {other.seed}. Collect both alike."
        )
    counts = list(positive.groups.values())
    sizes = {f"category {name!r}": sum(counts[row] for row in own) for name, own in rows.items()}
    for name, size in {**sizes, "negative set": negative.n_prompts}.items():
        if size < 2:
            raise StudyError(
                f"the {name} has {size} prompt, which cannot be split into halves. Give it more "
                "prompts, leave it out with prompts.where(…), or collect without n_resamples."
            )
    found = mine.merged(list(rows.values()), counts)
    everything = [list(range(len(negative.groups)))]
    background = other.merged(everything, list(negative.groups.values()))
    permuted = None
    if found.permuted is not None and len(rows) > 1:
        permuted = found.permuted - negative.mean().float()
    return Resampled(found.halves - background.halves, found.weights, permuted, mine.seed)


@checked
def pca_direction(positive: Activations, negative: Activations) -> Directions:
    """First principal component of both sets together, pointing to the positive one.

    Scaled to the gap between the sets' mean projections on it (see the module's docstring).

    Raises:
        AxisError: the two were not read at the same site, layers and positions of one model.
        StudyError: the activations are means; collect them with ``per_prompt=True``.

    It is the largest variation of the pooled prompts, whatever that is: where they vary more in
    topic than in harm it does not separate the two sets, and its vector is short.

    Source: the pooled variant of Zou et al. 2023, "Representation Engineering".
    """
    from sklearn.decomposition import PCA

    def fit(rows: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
        return np.asarray(PCA(n_components=1, random_state=0).fit(rows).components_)[0]

    return _fitted(positive, negative, fit, "pca_direction")


@checked
def probe_direction(
    positive: Activations, negative: Activations, *, regularization: float = 1.0
) -> Directions:
    """Weights of a logistic regression that tells positive from negative, in raw coordinates.

    Fitted on standardised activations and mapped back; scaled to the gap between the sets' mean
    projections (see the module's docstring).

    Args:
        positive: activations per prompt, usually on harmful prompts.
        negative: activations per prompt, usually on harmless prompts.
        regularization: inverse strength of the L2 penalty, scikit-learn's ``C``.

    Raises:
        AxisError: the two were not read at the same site, layers and positions of one model.
        StudyError: the activations are means; collect them with ``per_prompt=True``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def fit(rows: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
        scaler = StandardScaler().fit(rows)
        probe = LogisticRegression(C=regularization, max_iter=2000, random_state=0)
        probe.fit(scaler.transform(rows), is_positive)
        return probe.coef_[0] / scaler.scale_

    return _fitted(positive, negative, fit, "probe_direction")


def _fitted(
    positive: Activations,
    negative: Activations,
    fit: Callable[[np.ndarray, np.ndarray], np.ndarray],
    method: str,
) -> Directions:
    """Runs a fit at every layer and position and scales its line to the gap of the means."""
    _check_pair(positive, negative)
    for acts in (positive, negative):
        if not acts.per_prompt:
            raise StudyError(f"{method} needs single prompts: collect with per_prompt=True.")
    is_positive = np.repeat([True, False], [positive.n_prompts, negative.n_prompts])
    values = np.zeros((1, *positive.values.shape[1:]))
    for i, layer in enumerate(positive.layers):
        for j, position in enumerate(positive.positions):
            rows = torch.cat([positive.at(layer, position), negative.at(layer, position)])
            rows = rows.double().numpy()
            gap = rows[is_positive].mean(0) - rows[~is_positive].mean(0)
            # A token that is the same in every prompt has no variance to fit.
            if np.ptp(rows, axis=0).max() > 1e-9 * max(1.0, np.abs(rows).max()):
                line = fit(rows, is_positive)
                unit = line / np.linalg.norm(line)
                values[0, i, j] = unit * (unit @ gap)
    found = torch.from_numpy(values).float()
    return _directions(found, ("refusal",), positive, negative, method)


def _directions(
    values: Float[torch.Tensor, "name layer position d_model"],
    names: tuple[str, ...],
    positive: Activations,
    negative: Activations,
    method: str,
) -> Directions:
    """Labels the estimate and records what it was made from."""
    provenance: dict[str, Any] = {
        **positive.provenance,
        "method": method,
        "prompts": {
            "positive": positive.provenance.get("prompts"),
            "negative": negative.provenance.get("prompts"),
        },
        "n": {"positive": positive.n_prompts, "negative": negative.n_prompts},
    }
    return Directions(
        values,
        names,
        positive.layers,
        positive.positions,
        positive.site,
        provenance,
        prompt_keys=tuple(sorted({*positive.prompt_keys, *negative.prompt_keys})),
    )


_UNKNOWN = object()


def _said(system: object) -> str:
    return "none" if system is None else f"{system!r:.60}"


def _edits(edits: Sequence[Mapping[str, Any]] | None) -> str:
    return ", ".join(str(edit["kind"]) for edit in edits) if edits else "none"


def _check_pair(positive: Activations, negative: Activations) -> None:
    """Refuses to subtract what was not read in the same place."""
    for axis in ("site", "layers", "positions"):
        mine, other = getattr(positive, axis), getattr(negative, axis)
        if mine != other:
            raise AxisError(
                f"{axis} differ: positive {mine}, negative {other}. Collect both alike."
            )
    if positive.values.shape[-1] != negative.values.shape[-1]:
        raise AxisError(
            f"widths differ: {positive.values.shape[-1]} and {negative.values.shape[-1]}; these "
            "activations come from different models."
        )
    weights = positive.provenance.get("weights"), negative.provenance.get("weights")
    if None not in weights and weights[0] != weights[1]:
        raise AxisError("these activations come from different weights. Collect both on one model.")
    prompted = [each.provenance.get("template") for each in (positive, negative)]
    if None not in prompted and prompted[0] != prompted[1]:
        raise AxisError(
            "these activations were read under different chat templates, settings of thinking or "
            "days that the template writes. Collect both alike; load_model takes thinking= and "
            "date=."
        )
    asked = [each.provenance.get("system", _UNKNOWN) for each in (positive, negative)]
    if _UNKNOWN not in asked and asked[0] != asked[1]:
        raise AxisError(
            f"system prompts differ: positive {_said(asked[0])}, negative {_said(asked[1])}. "
            "Collect both with the same system=."
        )
    edits = [each.provenance.get("edits") for each in (positive, negative)]
    if edits[0] != edits[1]:
        raise AxisError(
            f"interventions were active while one set was read: positive {_edits(edits[0])}, "
            f"negative {_edits(edits[1])}. Collect both alike."
        )
    sides = [set(each.labels) for each in (positive, negative)]
    if sides == [{"harmless"}, {"harmful"}]:
        raise AxisError(
            "the positive prompts are all labelled harmless and the negative ones harmful, so the "
            "difference would point away from refusal. Swap them; to go the other way, add it with "
            "a negative coefficient."
        )
    if positive.prompt_keys and set(positive.prompt_keys) == set(negative.prompt_keys):
        raise AxisError(
            f"positive and negative are the same {len(set(positive.prompt_keys))} prompts, between "
            "which there is no difference. Pass activations on two sets of prompts."
        )
    ends = [dict(each.provenance.get("t_inst") or {}).get("token") for each in (positive, negative)]
    if None not in ends and ends[0] != ends[1]:
        raise AxisError(
            f"t_inst is the {ends[0]} of the positive prompts and the {ends[1]} of the negative "
            "ones. Collect both with the same t_inst=."
        )
