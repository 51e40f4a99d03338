"""What a function was given as prompts: a set, texts, or tokens that were made before."""

from typing import Any

from workbench.errors import StudyError
from workbench.models.tokens import Tokens
from workbench.prompts.inputs import as_prompts
from workbench.prompts.prompt import spoken
from workbench.prompts.promptset import PromptSet
from workbench.prompts.texts import Texts

_OPPOSITE = {"harmful": "harmless", "harmless": "harmful"}


def given_prompts(prompts: Any, name: str = "prompts") -> PromptSet | Texts | Tokens:
    """As `as_prompts`, for functions that also take tokens.

    Raises:
        PromptError: what was given cannot be taken for prompts.
    """
    return prompts if isinstance(prompts, Tokens) else as_prompts(prompts, name)


def check_sides(harmful: Any, harmless: Any) -> None:
    """Refuses prompts whose own labels contradict the side on which they were given.

    Of tokens nobody knows what they say, and of texts nobody says which they are.

    Raises:
        PromptError: something that cannot be taken for prompts.
        StudyError: all prompts of a side have the other's label, or some stand on both.
    """
    sides = {
        name: given_prompts(own, name)
        for name, own in (("harmful", harmful), ("harmless", harmless))
        if own is not None
    }
    texts: dict[str, set[str]] = {}
    for name, own in sides.items():
        if isinstance(own, Tokens):
            continue
        if set(own.labels) == {_OPPOSITE[name]}:
            raise StudyError(
                f"the prompts given as {name} are all labelled {_OPPOSITE[name]}. Swap them; where "
                "labels mean nothing, pass the texts alone (prompts.texts)."
            )
        texts[name] = set(map(spoken, own.texts))
    if len(texts) == 2 and (both := texts["harmful"] & texts["harmless"]):
        raise StudyError(
            f"{len(both)} prompts are given both as harmful and as harmless, such as "
            f"{min(both)!r:.60}. Take them out of one of the two."
        )
