"""One batch read under many interventions, by forwards that begin where they do."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interventions import Ablate, Add, Intervention, SetProjection, hooks_of
from workbench.models.forwards.resume import residual_before, resumed
from workbench.models.forwards.shortcuts import may_resume
from workbench.models.forwards.stacked import stack_size, stacked
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
def edited_logits(
    model: HookedModel, batch: Tokens, edits: Sequence[Intervention | None], told: str
) -> Iterator[tuple[int, Float[Tensor, "prompt d_vocab"]]]:
    """Logits of a batch under each edit; None is no edit.

    Args:
        model: the model.
        batch: one batch.
        edits: interventions; those that begin at one layer share forwards.
        told: what is done, for the progress bar.

    Yields:
        The number of an edit and the logits at the last position under it; those come first that
        begin early.
    """
    variants = [[] if edit is None else hooks_of(model, edit) for edit in edits]
    starts = [first_layer(edit) for edit in edits]
    resumes = any(starts) and may_resume(model, batch)
    # Each layer's stream is computed from the one before, so only one is kept.
    known, residual = 0, None
    groups = _groups(starts, stack_size(model, batch))
    for group in track(groups, told, len(groups)):
        start = starts[group[0]]
        if resumes and start > known:
            residual = residual_before(model, batch, start, known, residual)
            known = start
        with contextlib.ExitStack() as stack:
            copies = stack.enter_context(
                stacked(model, batch, [variants[index] for index in group])
            )
            if residual is not None:
                stack.enter_context(resumed(model, known, residual.repeat(len(group), 1, 1)))
            logits = model.forward(copies)
        yield from zip(group, logits.split(len(batch)), strict=True)


def _groups(starts: Sequence[int], size: int) -> list[list[int]]:
    """Which edits share a forward: so many that begin at one layer, early layers first."""
    order = sorted(range(len(starts)), key=starts.__getitem__)
    alike = (list(own) for _, own in itertools.groupby(order, key=starts.__getitem__))
    return [own[at : at + size] for own in alike for at in range(0, len(own), size)]


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
        edits: interventions.
        refusal_tokens: ids of the first tokens of refusals.
        told: what is done, for the progress bar.
    """
    scores = np.zeros((len(edits), len(rows)))
    for chosen, batch in model.batches(rows):
        for index, logits in edited_logits(model, batch, edits, told):
            scores[index, chosen] = refusal_score(logits, refusal_tokens).cpu().numpy()
    return scores
