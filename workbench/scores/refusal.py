"""Refusal score, the tokens it is made of, and the divergence that guards it."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.arguments import checked
from workbench.errors import AxisError, StudyError
from workbench.models.given import check_sides, given_prompts
from workbench.models.hooked import HookedModel, Prompts, ScoreAfter
from workbench.models.thinking import answer_after_thinking
from workbench.models.tokens import Tokens
from workbench.scores.first_tokens import first_tokens
from workbench.scores.judges import judge

_SHARE = 0.05
"""A first token that starts fewer of the refusals than this is left out."""
_PURITY = 0.9
"""Of a refusal token's weight, at least this share must lie on replies that refuse."""


@checked
def refusal_score(
    logits: Float[Tensor, "prompt d_vocab"], refusal_tokens: Sequence[int], *, eps: float = 1e-8
) -> Float[Tensor, " prompt"]:
    """Log-odds, in nats, that the first response token is a refusal token.

    ``log(p + eps) - log(1 - p + eps)`` in float64, p the summed probability of the tokens.

    Raises:
        AxisError: no tokens, one twice, or a token id outside the vocabulary.

    Source: Arditi et al. 2024, section 2.3.

    >>> refusal_score(torch.zeros(2, 4), [0]).tolist()   # p = 1/4
    [-1.098..., -1.098...]
    """
    ids = list(refusal_tokens)
    d_vocab = logits.shape[-1]
    if not ids or len(set(ids)) != len(ids) or not all(0 <= token < d_vocab for token in ids):
        raise AxisError(
            f"refusal tokens must be distinct ids in 0..{d_vocab - 1}, found {ids[:10]}."
        )
    logits = logits.double()
    p = torch.softmax(logits, dim=-1)[:, ids].sum(-1)
    return torch.log(p + eps) - torch.log(1 - p + eps)


def kl_divergence(
    plain: Float[Tensor, "prompt d_vocab"],
    changed: Float[Tensor, "prompt d_vocab"],
    eps: float = 1e-6,
) -> Float[Tensor, " prompt"]:
    """KL(plain ‖ changed) of next-token distributions, in nats, in float64.

    Source: Arditi et al. 2024, appendix C.1.

    >>> kl_divergence(torch.zeros(1, 3), torch.zeros(1, 3)).tolist()
    [0.0]
    """
    p = torch.softmax(plain.double(), dim=-1)
    q = torch.softmax(changed.double(), dim=-1)
    return (p * (torch.log(p + eps) - torch.log(q + eps))).sum(-1)


@checked
def find_refusal_tokens(
    model: HookedModel,
    harmful: Prompts | None = None,
    harmless: Prompts | None = None,
    *,
    words: Sequence[str] | None = None,
    n_prompts: int = 64,
    max_new_tokens: int = 24,
    system: str | None = None,
    after: ScoreAfter = "prompt",
    max_thinking_tokens: int = 1024,
) -> tuple[int, ...]:
    """Ids of the first tokens that separate this model's refusals from its other replies.

    The model answers harmful and harmless prompts, the replies are judged, and a token is
    kept if it begins at least 5 % of the refusals and at least 90 % of its weight lies on
    refusals. Weights are the model's own first-token probabilities, so wordings that greedy
    decoding hides count too. Most frequent first.

    Args:
        model: the model.
        harmful: prompts that it should refuse; the built-in ones by default.
        harmless: prompts that it should answer; the built-in ones by default.
        words: words that begin refusals, instead of looking for them: the token with which a reply
            begins that begins with each, after this model's own prompt. Where the prompt leaves
            open whether a space comes first, the tokens with and without it.
        n_prompts: how many of either set are answered.
        max_new_tokens: how much of a reply the judge reads.
        system: a system prompt for all of them.
        after: ``"thinking"`` for the first tokens after the model's own closed thinking block; see
            `HookedModel.tokens`.
        max_thinking_tokens: longest block that is waited for.

    Raises:
        StudyError: the model refuses none of the harmful prompts, or nothing separates them.
        PromptError: the model does not close its thinking in time.
    """
    if words is not None:
        asked = model.tokens(["hello"], system, after, max_thinking_tokens)
        ids = asked.ids[0].tolist()
        # What the template wrote need not come back from its tokens letter by letter.
        prompt = (
            model.template.render("hello", system)
            if after == "prompt"
            else model.tokenizer.decode(ids, skip_special_tokens=False)
        )
        return first_tokens(model, words, prompt, ids)
    check_sides(harmful, harmless)
    asked = [
        _sample(harmful, "harmful", n_prompts),
        _sample(harmless, "harmless", n_prompts),
    ]
    first: list[Tensor] = []
    verdicts: list[str] = []
    n_cut = 0
    for prompts in asked:
        tokens = model.tokens(prompts, system, after, max_thinking_tokens)
        first.append(torch.softmax(model.logits(tokens).double(), dim=-1))
        replies = model.generate(tokens, max_new_tokens=max_new_tokens)
        texts = None if isinstance(prompts, Tokens) else list(prompts.texts)
        verdicts += judge(replies, prompts=texts)
        n_cut += sum(answer_after_thinking(reply) is None for reply in replies)
    refused = torch.tensor([verdict == "refused" for verdict in verdicts])
    remedy = "Pass words= (what its refusals begin with), or other prompts."
    if n_cut:
        remedy = (
            f"{n_cut} replies are cut off inside their thinking: load the model with "
            f'thinking=False where its template can, or pass after="thinking". {remedy}'
        )
    if not refused.any() or refused.all():
        n = len(verdicts)
        raise StudyError(
            f"{model.name} refused {int(refused.sum())} of {n} prompts, so nothing separates its "
            f"refusals. {remedy}"
        )
    p = torch.cat(first)
    on_refusals, elsewhere = p[refused].mean(0), p[~refused].mean(0)
    purity = on_refusals / (on_refusals + elsewhere).clamp(min=1e-12)
    kept = ((on_refusals >= _SHARE) & (purity >= _PURITY)).nonzero().flatten()
    if not len(kept):
        raise StudyError(f"no first token separates the refusals of {model.name}. {remedy}")
    order = on_refusals[kept].argsort(descending=True)
    return tuple(kept[order].tolist())


GIVEN = "given"
ON_OTHERS = "found on other prompts than are scored"
ON_SCORED = "found on the prompts that are scored"
"""Where refusal tokens come from, as results say it in ``refusal_tokens_from``."""


def scored_tokens(
    model: HookedModel,
    given: Sequence[int] | None,
    harmful: Prompts,
    harmless: Prompts | None,
    system: str | None,
    others: tuple[Prompts, Prompts] | None = None,
) -> tuple[tuple[int, ...], str]:
    """The refusal tokens that a measurement scores by, and where they come from.

    Tokens that are found on the prompts that they score fit these a little better than others.

    Args:
        model: the model.
        given: ids, if the caller has them.
        harmful: prompts that are scored, on which tokens are looked for if nothing else is said.
        harmless: likewise.
        system: a system prompt for all of them.
        others: harmful and harmless prompts to look on instead.

    Raises:
        StudyError: ids and other prompts are both given, some of the others are scored as well, or
            no token separates the refusals.
    """
    if given is not None:
        if others is not None:
            raise StudyError("pass refusal_tokens= or refusal_tokens_from=, not both.")
        return tuple(given), GIVEN
    if others is None:
        return find_refusal_tokens(model, harmful, harmless, system=system), ON_SCORED
    scored = {*_texts(harmful), *_texts(harmless)}
    if both := [text for own in others for text in _texts(own) if text in scored]:
        raise StudyError(
            f"{len(both)} of the prompts in refusal_tokens_from= are among those that are scored. "
            "Pass others, such as the training part of a split."
        )
    return find_refusal_tokens(model, *others, system=system), ON_OTHERS


def _texts(prompts: Prompts | None) -> Sequence[str]:
    """What prompts say, where that is known."""
    if prompts is None:
        return ()
    given = given_prompts(prompts)
    return () if isinstance(given, Tokens) else given.texts


def _sample(prompts: Prompts | None, builtin: str, n: int) -> Any:
    """At most n prompts; the built-in ones where none were given."""
    from workbench.prompts.promptset import PromptSet
    from workbench.prompts.sources import load_prompts

    found = given_prompts(load_prompts(builtin) if prompts is None else prompts, builtin)
    if len(found) <= n:
        return found
    if isinstance(found, PromptSet):
        return found.sample(n, seed=0)
    return found.rows(list(range(n))) if isinstance(found, Tokens) else found.first(n)
