"""Geometry of directions: taking one out of another."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from workbench import screen
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError

_NAMED = 3
"""So many places are named in a warning."""
_ROUNDING = 1e-5
"""What is left of a vector is rounding below this share of its length."""


@checked
def orthogonalize(
    directions: Directions, against: Directions, *, strength: float = 1.0
) -> Directions:
    """Takes the component along another direction out: ``w' = w - strength · r̂ r̂ᵀ w``.

    The result keeps whatever length is left; `Directions.unit` is a separate step. A vector that
    points along the other one, so that no more than rounding is left of it, is zero afterwards.
    Resampled vectors do not come along: they would say nothing about the noise of ``against``.

    Where ``against`` is zero but for rounding it points nowhere, so nothing is taken out: the
    vectors there stay as they are, and ``provenance["orthogonalized"]["degenerate"]`` names those
    (layer, position). A mean difference at layer 0 is so, and a warning says it where a vector that
    is not zero itself stays whole.

    Args:
        directions: any number of vectors w.
        against: one vector for all of them, or one for each (layer, position) of theirs.
        strength: 1 removes the whole component, 0 nothing.

    Raises:
        AxisError: widths, sites, layers or positions do not match, or ``against`` is zero
            everywhere, or not finite somewhere.

    Source: Wang et al. 2025, section 3.2.
    """
    if directions.d_model != against.d_model or directions.site != against.site:
        raise AxisError(
            f"directions of width {directions.d_model} at {directions.site} cannot be "
            f"orthogonalized against width {against.d_model} at {against.site}."
        )
    if len(against) != 1:
        if len(against.names) != 1:
            raise AxisError(f"expected one name to orthogonalize against, found {against.names}.")
        against = against.at(layer=directions.layers, position=directions.positions)
    empty = _points_nowhere(against)
    lengths = torch.where(empty, 1.0, against.norms).unsqueeze(-1)
    before = directions.values.double()
    unit = torch.where(empty.unsqueeze(-1), 0.0, against.values.double() / lengths).to(before)
    along = torch.einsum("nlpd,nlpd->nlp", before, unit.expand_as(before))
    values = before - strength * along.unsqueeze(-1) * unit
    # The rounding of float32 points along what was taken out, and a sweep would find that again.
    gone = values.norm(dim=-1) <= _ROUNDING * before.norm(dim=-1)
    values = torch.where(gone.unsqueeze(-1), 0.0, values).to(directions.values)
    cells = [
        [against.layers[row], against.positions[column]]
        for row, column in empty[0].nonzero().tolist()
    ]
    whole = (empty.to(directions.values.device) & ~directions.degenerate).any(0)
    if whole.any():
        named = ", ".join(
            f"layer {directions.layers[row]}, position {directions.positions[column]}"
            for row, column in whole.nonzero().tolist()[:_NAMED]
        )
        screen.warn(
            f"nothing was taken out at {int(whole.sum())} places ({named}"
            f"{', …' if whole.sum() > _NAMED else ''}): what to orthogonalize against is zero "
            "there but for rounding. Vectors there are as they were.",
            stacklevel=3,
        )
    made = {
        "against": dict(against.provenance),
        "name": against.names[0],
        "strength": strength,
        "degenerate": cells,
    }
    provenance = {**directions.provenance, "orthogonalized": made}
    return replace(directions, values=values, resampled=None, provenance=provenance)


def _points_nowhere(against: Directions) -> Bool[Tensor, "1 layer position"]:
    """Where a direction is zero but for rounding.

    Raises:
        AxisError: it is so everywhere, or not finite somewhere.
    """
    empty, known = against.degenerate, against.norms.isfinite()
    if empty.all():
        against.check_points_somewhere(otherwise=" Nothing can be orthogonalized against it.")
    if not known.all():
        name, layer, position = (~known).nonzero()[0].tolist()
        bad = against.at(against.names[name], against.layers[layer], against.positions[position])
        bad.check_points_somewhere(otherwise=" Nothing can be orthogonalized against it.")
    return empty
