"""One batch read under many interventions, each in a forward that begins where it does."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interventions import Ablate, Add, Intervention, SetProjection, intervene
from workbench.models.forwards.packed import Read
from workbench.models.forwards.resume import residual_before, resumed
from workbench.models.forwards.shortcuts import may_resume
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.scores.refusal import refusal_score


def first_layer(edit: Intervention | None) -> int:
    """The first block that an intervention acts in: those before it pass on what they do anyway."""
    match edit:
        case Add() | SetProjection():
            return edit.direction.layers[0] if edit.layer is None else edit.layer
        case Ablate(layers=tuple(layers)) if layers:
            return min(layers)
    return 0


@torch.no_grad()
def read_edits(
    model: HookedModel, batch: Tokens, edits: Sequence[Intervention | None], read: Read, told: str
) -> Float[Tensor, "edit prompt *read"]:
    """Reads a batch under each edit; None is no edit.

    Args:
        model: the model.
        batch: one batch.
        edits: interventions, one a forward.
        read: from logits at the last position to one result per row.
        told: what is done, for the progress bar.
    """
    starts = [first_layer(edit) for edit in edits]
    resumes = any(starts) and may_resume(model, batch)
    found: dict[int, Tensor] = {}
    # Each layer's stream is computed from the one before, so only one is kept.
    known, residual = 0, None
    for index in track(sorted(range(len(edits)), key=starts.__getitem__), told, len(edits)):
        edit, start = edits[index], starts[index]
        if resumes and start > known:
            residual = residual_before(model, batch, start, known, residual)
            known = start
        with intervene(model, *([] if edit is None else [edit])):
            if residual is None:
                logits = model.forward(batch)
            else:
                with resumed(model, known, residual):
                    logits = model.forward(batch)
        found[index] = read(logits)
    return torch.stack([found[index] for index in range(len(edits))])


def score_edits(
    model: HookedModel,
    rows: Tokens,
    edits: Sequence[Intervention | None],
    refusal_tokens: Sequence[int],
    told: str,
) -> Float[np.ndarray, "edit prompt"]:
    """Refusal scores of any number of prompts under each edit, in nats; None is no edit.

    Args:
        model: the model.
        rows: the prompts.
        edits: interventions, one a forward.
        refusal_tokens: ids of the first tokens of refusals.
        told: what is done, for the progress bar.
    """
    scores = np.zeros((len(edits), len(rows)))

    def score(logits: Tensor) -> Tensor:
        return refusal_score(logits, refusal_tokens)

    for chosen, batch in model.batches(rows):
        scores[:, chosen] = read_edits(model, batch, edits, score, told).cpu().numpy()
    return scores
