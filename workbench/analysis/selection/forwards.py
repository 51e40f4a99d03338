"""What candidate directions do to one batch, by the cheapest forwards that are exact."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from workbench.analysis.selection.edits import read_edits
from workbench.directions.direction import Directions
from workbench.interventions import Ablate, Add, hooks_of
from workbench.models.forwards.packed import Read
from workbench.models.forwards.shortcuts import chosen_method, run_variants
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens, TokenSubset

Mode = Literal["ablate", "add"]


def read_candidates(
    model: HookedModel,
    batch: Tokens,
    candidates: Sequence[Directions],
    mode: Mode,
    subset: TokenSubset,
    read: Read,
) -> Float[Tensor, "candidate prompt *read"]:
    """Reads a batch with each candidate ablated, or with its raw vector added at its layer.

    Candidates that touch only the last tokens go through the model together, after the prefix that
    they share. Otherwise each gets rows of its own, and an addition begins at its layer.

    Args:
        model: the model.
        batch: one batch.
        candidates: single vectors.
        mode: what is done with them.
        subset: on which tokens.
        read: from logits at the last position to one result per row.
    """
    edits = [
        Ablate(each, tokens=subset) if mode == "ablate" else Add(each, tokens=subset)
        for each in candidates
    ]
    n_last = {"last": 1, "post_instruction": batch.n_post}.get(subset, 0)
    if n_last and chosen_method(model, batch, n_last) == "packed":
        variants = [hooks_of(model, edit) for edit in edits]
        return run_variants(model, batch, variants, n_last, read)
    return read_edits(model, batch, edits, read, "trying candidates")
