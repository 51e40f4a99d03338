"""How many prompts a model has to treat as their label says, and what to do where it does not."""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from workbench.errors import StudyError
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens
from workbench.scores.refusal import shown
from workbench.study.settings import Study

FEWEST = 8
"""With fewer prompts than this left after filtering, an estimate is not worth the name."""
_SHOWN, _LENGTH = 3, 24
"""Replies that are shown where too few prompts are left, and tokens of each."""


def too_few(
    model: HookedModel,
    study: Study,
    label: str,
    part: str,
    told: str,
    tokens: Sequence[int],
    first: Tensor,
    prompts: Prompts,
    dropped: Sequence[int],
) -> StudyError:
    """Why prompts of a label do not suffice, and what would help.

    Args:
        model: the model.
        study: the settings.
        label: of the prompts.
        part: of the study that they are for.
        told: how many were treated as their label says.
        tokens: ids that count as the beginning of a refusal.
        first: the likeliest first token of each prompt's reply.
        prompts: that were asked.
        dropped: rows of those that were not treated so; some are answered, to be looked at.
    """
    verb = "refuses" if label == "harmful" else "answers"
    size = "n_train" if part == "train" else "n_validation"
    common = Counter(first.tolist()).most_common(3)
    begun = ", ".join(f"{model.tokenizer.decode([own])!r} ({n})" for own, n in common)
    counted = ", ".join(repr(model.tokenizer.decode([own])) for own in tokens)
    words = (
        f"or leave out refusal_words={study.refusal_words!r}, so that they are found in replies"
        if study.refusal_words
        else "or say with refusal_words= what its refusals begin with"
    )
    asked = model.tokens(prompts, None if isinstance(prompts, Tokens) else study.system)
    said = shown(model.generate(asked.rows(list(dropped[:_SHOWN])), max_new_tokens=_LENGTH))
    return StudyError(
        f"{model.name} {verb} only {told}; at least {FEWEST} are needed, or all where fewer are "
        f"given. Replies begin with {begun}, and {counted} count as refusals. {said} Raise {size}, "
        f"see that all prompts are {label}, give others or a system prompt (system=), use a model "
        f"that {verb} them, {words}."
    )
