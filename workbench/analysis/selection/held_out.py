"""The chosen candidate and its runners-up measured again, on prompts that chose none of them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
import xarray as xr

from workbench.analysis.selection.selection import Choice
from workbench.analysis.selection.sweep import sweep_directions
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import TokenSubset
from workbench.positions import position_axis, position_order

_SCORES = ("bypass", "induce", "kl")


@checked
def measure_held_out(
    model: HookedModel,
    directions: Directions,
    choice: Choice,
    *,
    harmful: Prompts,
    harmless: Prompts,
    refusal_tokens: Sequence[int],
    tokens: TokenSubset = "all",
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Scores of the chosen candidate and of its runners-up that the selection could not use.

    The best of many noisy scores is better than it deserves to be: what a candidate scored on the
    prompts that it was chosen by flatters it, the more the more candidates were near. Report these
    scores of it, and name the others as what chose. There are no random directions among them.

    Args:
        model: the model.
        directions: those that were swept.
        choice: from `select_direction` on the sweep; ``choice.top`` is measured.
        harmful: prompts that the model refuses, none of those that were swept.
        harmless: prompts that it answers, likewise.
        refusal_tokens: ids, those of the sweep.
        tokens: which tokens the interventions touch, as in the sweep.
        confidence: of the bootstrap intervals over prompts.
        seed: of the bootstrap.
        system: a system prompt for all of them.

    Returns:
        Dataset over ``candidate``, 0 for the chosen one, with coordinates ``layer``, ``position``:
        ``bypass``, ``induce`` and ``kl`` in nats, with ``…_interval`` (bound) and ``…_by_prompt``,
        as `sweep_directions` gives them; ``chosen_by_bypass`` and so on, what the selection saw,
        with ``…_interval`` where it had one. Scores without an intervention are in ``attrs``.

    Raises:
        AxisError: a candidate that is not among the directions, or that is zero.

    Source: the effect is known as the winner's curse; Arditi et al. 2024, appendix C, report the
    scores that chose.
    """
    top = choice.top
    places = [*zip(top["layer"].tolist(), top["position"].tolist(), strict=True)]
    layers = sorted({layer for layer, _ in places})
    positions = sorted({position for _, position in places}, key=position_order)
    grid = directions.at(layer=layers, position=positions)
    # A sweep skips what is zero, so candidates that nobody asks for cost nothing.
    wanted = torch.zeros_like(grid.values[..., :1], dtype=torch.bool)
    for layer, position in places:
        wanted[:, grid.layers.index(layer), grid.positions.index(position)] = True
    grid = replace(grid, values=torch.where(wanted, grid.values, torch.zeros_like(grid.values)))
    swept = sweep_directions(
        model,
        grid,
        harmful=harmful,
        harmless=harmless,
        tokens=tokens,
        refusal_tokens=refusal_tokens,
        confidence=confidence,
        seed=seed,
        system=system,
    )
    at = {
        axis: xr.DataArray(position_axis([place[index] for place in places]), dims="candidate")
        for index, axis in enumerate(("layer", "position"))
    }
    found = swept.sel(at).assign_coords(candidate=range(len(places)))
    if bool(found["bypass"].isnull().any()):
        raise AxisError("a candidate of this choice is zero in these directions. Pass those swept.")
    for name in _SCORES:
        found[f"chosen_by_{name}"] = ("candidate", top[name].to_numpy(), found[name].attrs)
        if f"{name}_low" in top:
            ends = top[[f"{name}_low", f"{name}_high"]].to_numpy()
            found[f"chosen_by_{name}_interval"] = (("candidate", "bound"), ends, found[name].attrs)
    dims = ("candidate", "bound", "harmful_prompt", "harmless_prompt")
    return found.transpose(*dims, missing_dims="ignore")
