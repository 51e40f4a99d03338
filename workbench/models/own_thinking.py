"""Prompts that go on with the model's own thinking, up to where its answer begins."""

from collections.abc import Sequence

import torch

from workbench.errors import ModelError, PromptError
from workbench.models.generate import batches_of_ids, decoded, stop_ids
from workbench.models.network import Network
from workbench.models.thinking import closes_block, may_open_answer, opens_answer
from workbench.models.tokens import Tokens, padded


def after_thinking(model: Network, tokens: Tokens, max_thinking_tokens: int) -> Tokens:
    """The prompts with the model's own greedy thinking, so that its answer begins at their end.

    White space that the model writes between its closing tag and the answer belongs to the prompt
    too: it says nothing of the answer. Interventions that are active apply to the thinking.

    Args:
        model: the model.
        tokens: prompts, as they are rendered.
        max_thinking_tokens: longest block, closing tag and the answer's first token included.

    Returns:
        Tokens whose last one stands before the answer. The template's tokens after the user's words
        are not at their end, so names of those positions are refused.

    Raises:
        PromptError: the model does not close a block in time, or writes none; prompt and thinking
            are longer than the model can read.
        ModelError: these prompts go on with thinking already.
    """
    blocks = own_blocks(model, tokens, max_thinking_tokens)
    if open_ones := [row for row, block in enumerate(blocks) if block is None]:
        shown = ", ".join(map(str, open_ones[:10])) + (", …" if len(open_ones) > 10 else "")
        raise PromptError(
            f"{model.name} does not close a thinking block and go on within {max_thinking_tokens} "
            f"tokens for {len(open_ones)} of {len(tokens)} prompts (rows {shown}). Raise "
            "max_thinking_tokens, leave these prompts out, or score after the prompt where the "
            "model does not think."
        )
    pad = model.tokenizer.pad_token_id
    return with_blocks(tokens, [block or [] for block in blocks], pad)


def own_blocks(model: Network, tokens: Tokens, max_thinking_tokens: int) -> list[list[int] | None]:
    """Ids of the model's own greedy thinking about each prompt; None where it does not end."""
    if not tokens.n_post:
        raise ModelError("these prompts go on with the model's own thinking already.")
    blocks: list[list[int] | None] = [None] * len(tokens)
    settings = {"max_new_tokens": max_thinking_tokens, "called": "max_thinking_tokens"}
    for chosen, ids in batches_of_ids(model, tokens, "thinking", 0, settings):
        for row, own in zip(chosen, ids.tolist(), strict=True):
            blocks[row] = _block(model, tokens.opened, own)
    return blocks


def with_blocks(tokens: Tokens, blocks: Sequence[Sequence[int]], pad: int | None) -> Tokens:
    """Prompts that go on with blocks of ids, one each."""
    default = torch.full((len(tokens),), -tokens.n_post - 1)
    ends, wholes = (default if own is None else own.cpu() for own in (tokens.ends, tokens.wholes))
    added = torch.tensor([len(block) for block in blocks])
    rows = [
        [*tokens.ids[row, tokens.mask[row]].tolist(), *block] for row, block in enumerate(blocks)
    ]
    ids, mask = padded(rows, pad)
    made = Tokens(
        ids,
        mask,
        tokens.n_pre,
        n_post=0,
        post_tokens=(),
        ends=ends - added,
        wholes=torch.where(wholes == 0, 0, wholes - added),
        instruction_end=tokens.instruction_end,
        typed_specials=tokens.typed_specials,
    )
    return made.to(tokens.ids.device)


def _block(model: Network, opened: str, ids: Sequence[int]) -> list[int] | None:
    """The reply's tokens up to its answer; None where no answer is reached."""

    def closed(n: int) -> bool:
        return closes_block(opened + decoded(model.tokenizer, torch.tensor([ids[:n]]))[0])

    if not closed(len(ids)):
        return None
    low, high = 0, len(ids)  # the first number of tokens that closes it, by halves
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if closed(middle) else (middle, high)
    stops = set(stop_ids(model))
    first: int | None = None
    for n in range(high, len(ids)):
        said = model.tokenizer.decode(ids[high : n + 1])
        if first is None and (ids[n] in stops or said.strip()):
            first = n
        if first is not None and (ids[n] in stops or not may_open_answer(said)):
            # What only looked like the tag of an answer is the answer.
            return list(ids[: n if opens_answer(model.tokenizer.decode(ids[high:n])) else first])
    return None
