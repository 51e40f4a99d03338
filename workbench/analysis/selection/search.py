"""Best-first search: the direction that the exhaustive sweep would select, from fewer forwards."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from workbench.analysis.inputs import check_places
from workbench.analysis.selection.forwards import candidate_logits
from workbench.analysis.selection.selection import Choice, select_direction
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.layers import first_skipped_layer
from workbench.models.given import check_sides
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens, TokenSubset
from workbench.positions import position_axis, position_order
from workbench.progress import track
from workbench.scores.refusal import kl_divergence, refusal_score, scored_tokens


@checked
def search_direction(
    model: HookedModel,
    directions: Directions,
    *,
    harmful: Prompts,
    harmless: Prompts,
    tokens: TokenSubset = "all",
    refusal_tokens: Sequence[int] | None = None,
    refusal_tokens_from: tuple[Prompts, Prompts] | None = None,
    kl_cap: float = 0.1,
    induce_floor: float = 0.0,
    skip_last: float = 0.2,
    system: str | None = None,
) -> Choice:
    """The candidate that `select_direction` would choose from the whole sweep.

    Bypass is scored for every candidate outside the last layers. Then, from the smallest bypass on,
    induce and KL are scored one candidate at a time until one passes: no candidate after it could
    be chosen. With ``tokens`` confined to the last tokens, bypass of all takes one packed forward.
    Use `sweep_directions` where the whole map, or its intervals, are wanted.

    Args:
        model: the model.
        directions: one name, any layers and positions.
        harmful: validation prompts that the model refuses.
        harmless: validation prompts that it answers.
        tokens: which tokens the interventions touch.
        refusal_tokens: ids.
        refusal_tokens_from: prompts on which they are looked for; see `sweep_directions`.
        kl_cap: see `select_direction`.
        induce_floor: see `select_direction`.
        skip_last: see `select_direction`.
        system: a system prompt for all of them.

    Returns:
        The choice; candidates that were never tested say so in ``dropped``, and ``settings`` holds
        ``n_tested``, how many were tested to the end.

    Raises:
        AxisError: more than one name, or a direction that does not fit the model.
        StudyError: nothing passes; the message names the nearest misses.

    Source: Arditi et al. 2024, appendix C, for the rule.
    """
    if len(directions.names) != 1:
        raise AxisError(
            f"a search takes one direction, found {', '.join(directions.names)}. "
            "Choose with .at(name=…)."
        )
    check_places(model, directions, edited=True)
    check_sides(harmful, harmless)
    refusal, _ = scored_tokens(
        model, refusal_tokens, harmful, harmless, system, refusal_tokens_from
    )
    first_skipped = first_skipped_layer(model.n_layers, skip_last)
    degenerate = directions.degenerate[0]
    grid = tuple(degenerate.shape)
    cells = [
        cell
        for cell in np.ndindex(*grid)
        if not degenerate[cell] and directions.layers[cell[0]] < first_skipped
    ]
    candidates = {
        (row, column): directions.at(
            layer=directions.layers[row], position=directions.positions[column]
        )
        for row, column in cells
    }
    found = {name: np.full(grid, np.nan) for name in ("bypass", "induce", "kl")}
    rows, answered = model.tokens(harmful, system), model.tokens(harmless, system)

    def score(logits: Tensor) -> Tensor:
        return refusal_score(logits, refusal)

    if cells:
        bypass = _means(model, rows, list(candidates.values()), "ablate", tokens, score)
        for cell, value in zip(cells, bypass, strict=True):
            found["bypass"][cell] = value
    plain = model.logits(answered)
    # In the order in which the selection ranks them, ties included.
    order = sorted(
        cells,
        key=lambda cell: (
            found["bypass"][cell],
            directions.layers[cell[0]],
            position_order(directions.positions[cell[1]]),
        ),
    )
    n_tested = 0
    for cell in track(order, "testing candidates, best first", len(order)):
        one = [candidates[cell]]
        found["induce"][cell] = _means(model, answered, one, "add", tokens, score)[0]
        found["kl"][cell] = _kl(model, answered, one, tokens, plain)
        n_tested += 1
        if found["kl"][cell] <= kl_cap and found["induce"][cell] >= induce_floor:
            break
    cell_dims = ("layer", "position")
    scores = xr.Dataset(
        {
            **{name: (cell_dims, values) for name, values in found.items()},
            "norm": (cell_dims, directions.norms[0].double().cpu().numpy()),
        },
        coords={"layer": list(directions.layers), "position": position_axis(directions.positions)},
        attrs={"n_layers": model.n_layers},
    )
    choice = select_direction(
        scores, kl_cap=kl_cap, induce_floor=induce_floor, skip_last=skip_last, top_k=1
    )
    return replace(
        choice,
        table=_with_reasons(choice.table, first_skipped),
        settings={**choice.settings, "n_tested": n_tested},
    )


def _means(
    model: HookedModel,
    rows: Tokens,
    candidates: Sequence[Directions],
    mode: Any,
    subset: TokenSubset,
    score: Callable[[Tensor], Tensor],
) -> np.ndarray:
    """Mean score over prompts under each candidate."""
    total = np.zeros(len(candidates))
    for _, batch in model.batches(rows):
        for index, logits in candidate_logits(model, batch, candidates, mode, subset):
            total[index] += float(score(logits).double().sum())
    return total / len(rows)


def _kl(
    model: HookedModel,
    rows: Tokens,
    candidate: Sequence[Directions],
    subset: TokenSubset,
    plain: Tensor,
) -> float:
    """Mean KL of harmless next tokens, plain against ablated."""
    total = 0.0
    for chosen, batch in model.batches(rows):
        before = plain[torch.tensor(chosen)]
        for _, logits in candidate_logits(model, batch, candidate, "ablate", subset):
            total += float(kl_divergence(before.to(logits.device), logits).sum())
    return total / len(rows)


def _with_reasons(table: Any, first_skipped: int) -> Any:
    """Says which candidates were left out on purpose, instead of that they have no score."""
    table = table.copy()
    late = table["layer"] >= first_skipped
    untested = table["bypass"].notna() & table["induce"].isna()
    table.loc[late, "dropped"] = f"layer ≥ {first_skipped}: too near the output"
    table.loc[untested, "dropped"] = "not tested: one with a smaller bypass passes"
    return table
