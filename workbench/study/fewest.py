"""How many prompts a model has to treat as their label says, and what to do where it does not."""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from workbench.errors import StudyError
from workbench.models.hooked import HookedModel
from workbench.study.settings import Study

FEWEST = 8
"""With fewer prompts than this left after filtering, an estimate is not worth the name."""


def too_few(
    model: HookedModel,
    study: Study,
    label: str,
    part: str,
    told: str,
    tokens: Sequence[int],
    first: Tensor,
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
    return StudyError(
        f"{model.name} {verb} only {told}; at least {FEWEST} are needed, or all where fewer are "
        f"given. Replies begin with {begun}, and {counted} count as refusals. Raise {size}, see "
        f"that all prompts are {label}, give others, use a model that {verb} them, {words}."
    )
