"""What candidate directions do to one batch, by the cheapest forwards that are exact."""

from collections.abc import Iterator, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from workbench.analysis.selection.edits import edited_logits
from workbench.directions.direction import Directions
from workbench.interventions import Ablate, Add, hooks_of
from workbench.models.forwards.shortcuts import chosen_method, run_variants
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens, TokenSubset

Mode = Literal["ablate", "add"]


def candidate_logits(
    model: HookedModel,
    batch: Tokens,
    candidates: Sequence[Directions],
    mode: Mode,
    subset: TokenSubset = "all",
) -> Iterator[tuple[int, Float[Tensor, "prompt d_vocab"]]]:
    """Logits of a batch with each candidate ablated, or with its raw vector added at its layer.

    Candidates that touch only the last tokens go through the model together, after the prefix that
    they share. Otherwise each gets rows of its own, and an addition begins at its layer.

    Args:
        model: the model.
        batch: one batch.
        candidates: single vectors.
        mode: what is done with them.
        subset: on which tokens.

    Yields:
        The number of a candidate and the logits at the last position under it, in any order.
    """
    edits = [
        Ablate(each, tokens=subset) if mode == "ablate" else Add(each, tokens=subset)
        for each in candidates
    ]
    n_last = {"last": 1, "post_instruction": batch.n_post}.get(subset, 0)
    if n_last and chosen_method(model, batch, n_last) == "packed":
        variants = [hooks_of(model, edit) for edit in edits]
        yield from enumerate(run_variants(model, batch, variants, n_last))
    else:
        yield from edited_logits(model, batch, edits, "trying candidates")
