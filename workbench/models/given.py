"""What a function was given as prompts: a set, texts, or tokens that were made before."""

from typing import Any

from workbench.models.tokens import Tokens
from workbench.prompts.inputs import as_prompts
from workbench.prompts.promptset import PromptSet
from workbench.prompts.texts import Texts


def given_prompts(prompts: Any, name: str = "prompts") -> PromptSet | Texts | Tokens:
    """As `as_prompts`, for functions that also take tokens.

    Raises:
        PromptError: what was given cannot be taken for prompts.
    """
    return prompts if isinstance(prompts, Tokens) else as_prompts(prompts, name)
