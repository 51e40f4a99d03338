"""What candidate directions do to one batch, by the cheapest forwards that are exact."""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.interventions import Ablate, Add, intervene
from workbench.models.forwards.packed import Read
from workbench.models.forwards.resume import residual_before, resumed
from workbench.models.forwards.shortcuts import chosen_method, may_resume, run_variants
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens, TokenSubset
from workbench.progress import track

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
    they share. Otherwise each gets a forward of its own, which for an addition starts at its layer.

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
    for edit in edits:
        with intervene(model, edit):
            pass  # refuses what does not fit
    n_last = {"last": 1, "post_instruction": batch.n_post}.get(subset, 0)
    if n_last and chosen_method(model, batch, n_last) == "packed":
        variants = [edit.hooks(model) for edit in edits]
        return run_variants(model, batch, variants, n_last, read)
    results: dict[int, Tensor] = {}
    order = range(len(edits))
    if mode == "add":
        order = sorted(order, key=lambda index: candidates[index].layers[0])
    starts = _starts(model, batch, [candidates[index].layers[0] for index in order], mode)
    for index, start in zip(track(order, "trying candidates", len(edits)), starts, strict=True):
        with intervene(model, edits[index]):
            if start is None:
                logits = model.forward(batch)
            else:
                with resumed(model, *start):
                    logits = model.forward(batch)
        results[index] = read(logits)
    return torch.stack([results[index] for index in range(len(edits))])


def _starts(
    model: HookedModel, batch: Tokens, layers: Sequence[int], mode: Mode
) -> Iterator[tuple[int, Tensor] | None]:
    """Where each forward starts, and with which residual stream; None for the first layer."""
    if mode == "ablate" or not any(layers) or not may_resume(model, batch):
        yield from [None] * len(layers)
        return
    # Each layer's stream is computed from the one before, so only one is kept.
    known, residual = 0, None
    for layer in layers:
        if layer > known:
            residual = residual_before(model, batch, layer, known, residual)
            known = layer
        yield (layer, residual) if residual is not None else None
