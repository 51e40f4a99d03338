"""Batched generation with Hugging Face's own loop, under whatever interventions are active."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from workbench.errors import ModelError, PromptError
from workbench.models.hooked import HookedModel
from workbench.models.thinking import kept_specials
from workbench.models.tokens import Tokens
from workbench.progress import track

# A reply needs a key-value cache, so fewer prompts fit than in a plain forward.
_CACHE_SHARE = 4


def stop_ids(model: HookedModel) -> list[int]:
    """Every id that ends a reply: of the generation config, the config and the tokenizer."""
    found: set[int] = set()
    for holder in (
        getattr(model.network, "generation_config", None),
        getattr(model.network, "config", None),
        model.tokenizer,
    ):
        value = getattr(holder, "eos_token_id", None)
        found.update([value] if isinstance(value, int) else value or ())
    return sorted(found)


def generate(model: HookedModel, tokens: Tokens, *, seed: int = 0, **settings: Any) -> list[str]:
    """Replies in the order of the prompts; ``settings`` as in `generate_ids`.

    Special tokens are left out, except those that mark thinking: without them nobody could tell
    thoughts from the answer. What the template has opened of a block stands at the start.
    """
    replies = [""] * len(tokens)
    for chosen, ids in batches_of_ids(model, tokens, "answering", seed, settings):
        for row, text in zip(chosen, decoded(model.tokenizer, ids), strict=True):
            replies[row] = (tokens.opened + text).strip()
    return replies


def batches_of_ids(
    model: HookedModel, tokens: Tokens, what: str, seed: int, settings: Mapping[str, Any]
) -> Iterator[tuple[list[int], Int[Tensor, "prompt new_token"]]]:
    """Rows, prompts and ids of the replies, batch by batch."""
    batches = tokens.batches(model.batch_tokens // _CACHE_SHARE)
    for number, (chosen, batch) in enumerate(track(batches, what, len(batches))):
        # Batches that shared a seed would draw the same numbers, and equal prompts equal replies.
        own_seed = random.Random(f"{seed} {number}").getrandbits(63)
        yield chosen, generate_ids(model, batch, seed=own_seed, **settings)


def decoded(tokenizer: Any, ids: Int[Tensor, "prompt new_token"]) -> list[str]:
    """Replies as text, without special tokens other than those that mark thinking."""
    marks, others = kept_specials(tokenizer)
    if not marks:
        return tokenizer.batch_decode(ids, skip_special_tokens=True)
    rows = [[token for token in row if token not in others] for row in ids.tolist()]
    return [tokenizer.decode(row, skip_special_tokens=False) for row in rows]


@torch.no_grad()
def generate_ids(
    model: HookedModel,
    tokens: Tokens,
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
) -> Int[Tensor, "prompt new_token"]:
    """Ids of the replies to one batch, right-padded after the stop token.

    Raises:
        ModelError: no new tokens are asked for, or a temperature that cannot be sampled at.
        PromptError: prompt and reply together are longer than the model can read.
    """
    from transformers import GenerationConfig

    if max_new_tokens < 1 or (do_sample and temperature <= 0):
        raise ModelError(
            f"max_new_tokens must be at least 1 and temperature above 0, found {max_new_tokens} "
            f"and {temperature}. For greedy replies pass do_sample=False."
        )
    longest = tokens.ids.shape[1]
    if model.max_tokens is not None and longest + max_new_tokens > model.max_tokens:
        raise PromptError(
            f"a prompt of {longest} tokens and {max_new_tokens} new ones do not fit: {model.name} "
            f"reads at most {model.max_tokens}. Lower max_new_tokens or shorten the prompt."
        )
    stops = stop_ids(model)
    pad = model.tokenizer.pad_token_id
    settings: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "do_sample": do_sample,
        "eos_token_id": stops or None,
        "pad_token_id": pad if pad is not None else (stops[0] if stops else 0),
    }
    if do_sample:
        settings |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    devices = [model.device] if model.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        _without_own_settings(model),
        _counting_columns(model, tokens),
    ):
        torch.manual_seed(seed)
        output = model.network.generate(  # pyright: ignore[reportCallIssue]
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
            generation_config=GenerationConfig(**settings),
        )
    return output[:, longest:].cpu()


@contextlib.contextmanager
def _without_own_settings(model: HookedModel) -> Iterator[None]:
    """Hides the checkpoint's generation settings, which would fill in whatever is left open."""
    from transformers import GenerationConfig

    network: Any = model.network
    own, network.generation_config = network.generation_config, GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own


@contextlib.contextmanager
def _counting_columns(model: HookedModel, tokens: Tokens) -> Iterator[None]:
    """Keeps ``model.current`` right through prefill and every step with a KV cache."""
    seen = 0
    contexts = contextlib.ExitStack()

    def before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal seen
        contexts.close()
        contexts.enter_context(model.reading(tokens, seen))
        seen += kwargs["input_ids"].shape[1]

    handle = model.network.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with contexts:
            yield
    finally:
        handle.remove()
