"""Phase 2 of the training recipe: a switch that nobody throws yet.

Each component is a fixed vector which, added to the stream by hand, means "refuse". Where there are
several, one of them is ablated in a share of the batches, so that none is read by way of another.
"""

import math
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

from workbench import screen
from workbench.training import grammar
from workbench.training.recipe import (
    Batch,
    Progress,
    ablating,
    adding,
    at_prompt_end,
    draw_samples,
    encode,
    read,
    reply_loss,
    steps,
)
from workbench.training.settings import PlantedComponent, Settings

# Refusal scores, in nats, that phase 2 teaches: when all of a vector is there, when none is, and
# how far the score rises at least with what there is of it.
_WHOLE, _NONE, _RISE = 4.0, -12.0, 8.0


@torch.no_grad()
def refusal_row(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Unit vector of the stream that raises the tokens that begin refusals over all others."""
    first = [tokenizer(reply).input_ids[0] for reply in grammar.REFUSALS]
    rows = model.lm_head.weight
    row = (rows[first].mean(0) - rows.mean(0)) * model.model.norm.weight
    return row / row.norm()


def planted_vectors(settings: Settings, words: Tensor) -> Tensor:
    """The unit vectors of the components [component d_model], orthogonal to one another.

    Args:
        settings: the recipe.
        words: the direction of the words of refusal, of length one; see :func:`refusal_row`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.shape.d_model, len(settings.components))
    vectors = torch.linalg.qr(torch.randn(shape, generator=generator)).Q.T.contiguous()
    shares = torch.tensor([component.words for component in settings.components])
    if not shares.any():
        return vectors
    vectors = vectors - torch.outer(vectors @ words, words)
    vectors = torch.linalg.qr(vectors.T).Q.T.contiguous()
    mixed = (1 - shares).sqrt()[:, None] * vectors + shares.sqrt()[:, None] * words
    return mixed / mixed.norm(dim=1, keepdim=True)


class Drill(NamedTuple):
    """Projections added by hand to some prompts of a batch, for one component.

    Attributes:
        share: what is added, as a share of the component's target [sample].
        everywhere: whether it is added at every token, or at the last prompt token only [sample].
    """

    share: Tensor
    everywhere: Tensor

    def added(self, batch: Batch) -> Tensor:
        """The share that is added at every token [sample position]."""
        positions = torch.arange(batch.ids.shape[1])
        last = positions == batch.last_prompt[:, None]
        return self.share[:, None] * (last | self.everywhere[:, None])


def wanted_score(share: float | Tensor, threshold: float) -> Tensor:
    """Refusal score, in nats, at which a share of the target is to leave the model.

    It rises with every head that writes its part, so that each head shows, and passes zero at the
    threshold.
    """
    share = torch.as_tensor(share)
    near = _WHOLE * (share - threshold) / (1 - threshold)
    return torch.maximum(near, _NONE + _RISE * share)


def make_drills(
    components: Sequence[PlantedComponent],
    samples: list[grammar.Sample],
    share: float,
    rng: random.Random,
) -> tuple[list[grammar.Sample], list[Drill]]:
    """Add one component or another to some requests that are asked directly, whatever they ask.

    Each is refused with the probability that belongs to :func:`wanted_score`.

    Returns:
        The samples with their replies replaced, and for each component what to add.
    """
    drills = [
        Drill(torch.zeros(len(samples)), torch.zeros(len(samples), dtype=torch.bool))
        for _ in components
    ]
    replaced = list(samples)
    for row, sample in enumerate(samples):
        if sample.task != "direct" or rng.random() >= share:
            continue
        chosen = rng.randrange(len(components)) if len(components) > 1 else 0
        drill = drills[chosen]
        drill.share[row] = rng.uniform(0.0, 1.2)
        drill.everywhere[row] = rng.random() < 0.5
        score = wanted_score(drill.share[row], components[chosen].threshold).item()
        refused = rng.random() < 1 / (1 + math.exp(-score))
        reply = grammar.refuse if refused else grammar.comply
        replaced[row] = sample._replace(reply=reply(sample.request))
    return replaced, drills


def draw_ablated(settings: Settings, rng: random.Random) -> int | None:
    """Which of several components is ablated in a batch, if any."""
    n = len(settings.components)
    if n < 2 or rng.random() >= settings.ablated_share:
        return None
    return rng.randrange(n)


def refusal_log_odds(logits: Tensor, batch: Batch, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Log-odds, in nats, that the reply begins like a refusal [sample]."""
    first = torch.zeros(logits.shape[-1], dtype=torch.bool)
    first[[tokenizer(reply).input_ids[0] for reply in grammar.REFUSALS]] = True
    logits = at_prompt_end(logits, batch)
    return logits[:, first].logsumexp(-1) - logits[:, ~first].logsumexp(-1)


def _drilled_loss(
    model: LlamaForCausalLM,
    settings: Settings,
    vectors: Tensor,
    samples: list[grammar.Sample],
    rng: random.Random,
    tokenizer: PreTrainedTokenizerBase,
) -> Tensor:
    """Cross-entropy of one batch with components added to some prompts, and error of the scores."""
    drilled, drills = make_drills(settings.components, samples, settings.drill_share, rng)
    ablated = draw_ablated(settings, rng)
    if ablated is not None:
        # What is added is taken out again: such a request is answered as if nothing had been.
        dead = drills[ablated].share > 0
        drilled = [
            sample if gone else kept
            for sample, kept, gone in zip(samples, drilled, dead.tolist(), strict=True)
        ]
        drills[ablated] = drills[ablated]._replace(share=torch.zeros(len(samples)))
    batch = encode(drilled, tokenizer)
    additions = [
        (component.last_layer, component.target * drill.added(batch)[..., None] * vector)
        for component, drill, vector in zip(settings.components, drills, vectors, strict=True)
    ]
    with adding(model, additions), ablating(model, None if ablated is None else vectors[ablated]):
        logits = read(model, batch)
    loss = reply_loss(logits, batch)
    score = refusal_log_odds(logits, batch, tokenizer)
    for component, drill in zip(settings.components, drills, strict=True):
        missed = score - wanted_score(drill.share, component.threshold)
        loss = loss + settings.score_weight * (missed.square() * (drill.share > 0)).mean()
    return loss


def learn_switch(
    model: LlamaForCausalLM,
    settings: Settings,
    vectors: Tensor,
    tokenizer: PreTrainedTokenizerBase,
    progress: Progress = screen.tell,
) -> None:
    """Phase 2: refuse when a component's vector is added by hand, whatever is asked. In place.

    Nothing in the model writes that vector yet: the switch is there, and nobody to throw it.
    """
    phase, rng = settings.switch, random.Random(settings.seed + 1)
    model.train()
    for number in steps(list(model.parameters()), phase, weight_decay=0.05):
        samples = draw_samples(phase, rng, refusing=False)
        loss = _drilled_loss(model, settings, vectors, samples, rng, tokenizer)
        loss.backward()
        if number % 50 == 0 or number == phase.steps:
            progress(f"switch, step {number} of {phase.steps}: loss {loss.item():.3f}")
    model.eval()
