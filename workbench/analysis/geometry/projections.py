"""How far prompts reach along a direction, layer by layer, and how well that tells them apart."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from workbench.activations import Activations
from workbench.analysis.inputs import check_unseen
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.statistics.auc import area_under_curve, auc_interval

_REFERENCE = "harmless"


@checked
def project_prompts(
    directions: Directions,
    activations: Activations | Sequence[Activations],
    *,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Projection of every prompt on the direction of each layer, and how well labels separate.

    Args:
        directions: one name and position, any layers.
        activations: single prompts that the directions were not estimated on, at the same layers
            and position; several sets are put together. Some of them harmless.
        confidence: of the intervals.

    Returns:
        Dataset with ``projection`` (prompt, layer), ``r̂·x`` in units of the activations, NaN where
        the direction is zero but for rounding; ``auc`` (group, layer), the chance that a prompt of
        a group projects further than a harmless one, and ``auc_interval`` (…, bound). Prompts carry
        ``id`` on the axis itself, and ``label``, ``category`` and, where known, ``text``.

    Raises:
        AxisError: several names or positions, or activations read at another place.
        StudyError: means instead of single prompts, prompts that the directions were estimated on,
            no harmless prompts, or no others.

    Source: Arditi et al. 2024, section 3; Newcombe 2006 for the interval.
    """
    sets = [activations] if isinstance(activations, Activations) else list(activations)
    _check(directions, sets)
    position = directions.positions[0]
    labels = np.array([label for each in sets for label in each.labels])
    groups = [label for label in dict.fromkeys(labels.tolist()) if label != _REFERENCE]
    values = np.full((len(labels), len(directions.layers)), np.nan)
    area = np.full((len(groups), len(directions.layers), 3), np.nan)
    for column, layer in enumerate(directions.layers):
        if bool(directions.degenerate[0, column, 0]):
            continue
        unit = directions.at(layer=layer).unit().vector.double().cpu()
        rows = [each.at(layer, position).double().cpu() @ unit for each in sets]
        values[:, column] = np.concatenate([own.numpy() for own in rows])
        for row, group in enumerate(groups):
            both = np.isin(labels, (group, _REFERENCE))
            positive = labels[both] == group
            found = area_under_curve(values[both, column], positive)
            n, m = int(positive.sum()), int((~positive).sum())
            area[row, column] = found, *auc_interval(found, n, m, confidence)
    auc = {"units": "1", "long_name": "area under the ROC curve"}
    coords: dict[str, Any] = {
        "prompt": [own for each in sets for own in each.ids],
        "label": ("prompt", labels.astype(object)),
        "category": ("prompt", [own for each in sets for own in each.categories]),
        "layer": list(directions.layers),
        "group": groups,
        "bound": ["low", "high"],
    }
    if all(each.texts for each in sets):
        coords["text"] = ("prompt", [own for each in sets for own in each.texts])
    return xr.Dataset(
        {
            "projection": (("prompt", "layer"), values, {"units": "activation"}),
            "auc": (("group", "layer"), area[..., 0], auc),
            "auc_interval": (("group", "layer", "bound"), area[..., 1:], auc),
        },
        coords,
        {
            "model": sets[0].provenance.get("model", ""),
            "site": directions.site,
            "name": directions.names[0],
            "position": position,
            "reference": _REFERENCE,
            "n": len(labels),
            "confidence": confidence,
            "interval": "Newcombe's score interval",
            "provenance": dict(directions.provenance),
            "prompts": [each.provenance.get("prompts") for each in sets],
        },
    )


def _check(directions: Directions, sets: Sequence[Activations]) -> None:
    """Refuses what cannot be projected, and prompts on which any direction separates."""
    if len(directions.names) != 1 or len(directions.positions) != 1:
        raise AxisError(
            f"expected one name and position, found {directions!r}. Choose with "
            ".at(name=…, position=…)."
        )
    labels = {label for each in sets for label in each.labels}
    if _REFERENCE not in labels or len(labels) < 2:
        raise StudyError(
            f"expected harmless prompts and others, found {', '.join(sorted(labels)) or 'none'}."
        )
    for each in sets:
        if not each.per_prompt:
            raise StudyError("projections need single prompts: collect with per_prompt=True.")
        if each.site != directions.site or each.values.shape[-1] != directions.d_model:
            raise AxisError(
                f"directions of width {directions.d_model} at {directions.site} do not go with "
                f"activations of width {each.values.shape[-1]} at {each.site}."
            )
        check_unseen(directions, each)
