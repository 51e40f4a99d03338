"""What a model thinks of a study's prompts, where its answers are scored after its thinking."""

from collections.abc import Mapping

from workbench.errors import StudyError
from workbench.models.hooked import HookedModel
from workbench.models.own_thinking import own_blocks, with_blocks
from workbench.models.tokens import Tokens
from workbench.prompts.promptset import PromptSet
from workbench.study.settings import Study

Thoughts = dict[str, list[int]]
"""Token ids of the block that the model closes, by prompt id; prompts that it does not are absent.

They are kept with the run: another batch or card may round differently, and think otherwise.
"""


def think(model: HookedModel, study: Study, prompts: PromptSet) -> Thoughts:
    """The model's own thinking about each prompt."""
    tokens = model.tokens(prompts, study.system)
    blocks = own_blocks(model, tokens, study.max_thinking_tokens)
    return {own: block for own, block in zip(prompts.ids, blocks, strict=True) if block is not None}


def tokens_after(
    model: HookedModel, study: Study, prompts: PromptSet, thoughts: Mapping[str, list[int]]
) -> Tokens:
    """Prompts that go on with what the model thought of them."""
    tokens = model.tokens(prompts, study.system)
    blocks = [thoughts[own] for own in prompts.ids]
    return with_blocks(tokens, blocks, model.tokenizer.pad_token_id).to(model.device)


def check_scored_after_prompt(study: Study, what: str) -> None:
    """Refuses what reads first tokens right after the prompt, where this study does not.

    Raises:
        StudyError: the study scores after the model's thinking.
    """
    if study.score_after != "prompt":
        raise StudyError(
            f"{what} scores first tokens right after the prompt, where this model only begins to "
            "think. It needs score_after=prompt, such as with thinking=False."
        )
