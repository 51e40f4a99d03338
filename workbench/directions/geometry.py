"""Geometry of directions: taking one out of another."""

from dataclasses import replace

import torch

from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError


@checked
def orthogonalize(directions: Directions, against: Directions, strength: float = 1.0) -> Directions:
    """Takes the component along another direction out: ``w' = w - strength · r̂ r̂ᵀ w``.

    The result keeps whatever length is left; `Directions.unit` is a separate step. Resampled
    vectors do not come along: they would say nothing about the noise of ``against``.

    Args:
        directions: any number of vectors w.
        against: one vector for all of them, or one for each (layer, position) of theirs.
        strength: 1 removes the whole component, 0 nothing.

    Raises:
        AxisError: widths, sites, layers or positions do not match, or ``against`` is zero.

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
    unit = against.unit().values.to(directions.values)
    along = torch.einsum("nlpd,nlpd->nlp", directions.values, unit.expand_as(directions.values))
    values = directions.values - strength * along.unsqueeze(-1) * unit
    return replace(directions, values=values, resampled=None)
