"""Batched generation with Hugging Face's own loop, under whatever interventions are active."""

import contextlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.artifact import versions
from workbench.errors import ModelError, PromptError
from workbench.models.network import Network
from workbench.models.thinking import kept_specials
from workbench.models.tokens import Tokens
from workbench.progress import track

# A reply needs a key-value cache, so fewer prompts fit than in a plain forward.
_CACHE_SHARE = 4


def stop_ids(model: Network) -> list[int]:
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


def generate(model: Network, tokens: Tokens, *, seed: int = 0, **settings: Any) -> list[str]:
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
    model: Network, tokens: Tokens, what: str, seed: int, settings: Mapping[str, Any]
) -> Iterator[tuple[list[int], Int[Tensor, "prompt new_token"]]]:
    """Rows, prompts and ids of the replies, batch by batch."""
    check_cache(model)
    batches = model.batches(tokens, _CACHE_SHARE, mixed=model.generation_pads)
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
    model: Network,
    tokens: Tokens,
    *,
    max_new_tokens: int,
    do_sample: bool = False,
    temperature: float = 1.0,
    seed: int = 0,
    called: str = "max_new_tokens",
) -> Int[Tensor, "prompt new_token"]:
    """Ids of the replies to one batch, right-padded after the stop token.

    The number of new tokens is ``called`` as the caller's own setting in errors.

    Raises:
        ModelError: no new tokens are asked for, a temperature that cannot be sampled at, or logits
            that are not finite.
        PromptError: prompt and reply together are longer than the model can read.
    """
    if max_new_tokens < 1 or (do_sample and temperature <= 0):
        raise ModelError(
            f"max_new_tokens must be at least 1 and temperature above 0, found {max_new_tokens} "
            f"and {temperature}. For greedy replies pass do_sample=False."
        )
    model.check_padding(tokens, generating=True)
    longest = tokens.ids.shape[1]
    check_fits(model, longest, max_new_tokens, called)
    settings: dict[str, Any] = {"do_sample": do_sample, "eos_token_id": stop_ids(model) or None}
    if do_sample:
        settings |= {"temperature": temperature, "top_k": 0, "top_p": 1.0}
    output = _run(model, tokens, seed, max_new_tokens=max_new_tokens, **settings)
    return output[:, longest:].cpu()


def check_fits(model: Network, longest: int, n_new: int, setting: str = "max_new_tokens") -> None:
    """Refuses more new tokens than the model can read behind a prompt.

    Args:
        model: the model.
        longest: tokens of the longest prompt.
        n_new: tokens that it may write.
        setting: that says how many.

    Raises:
        PromptError: they do not fit.
    """
    if model.max_tokens is not None and longest + n_new > model.max_tokens:
        raise PromptError(
            f"a prompt of {longest} tokens and {n_new} new ones do not fit: {model.name} reads at "
            f"most {model.max_tokens}. Lower {setting} or shorten the prompt."
        )


@torch.no_grad()
def generated(
    model: Network, tokens: Tokens, n_new: int
) -> tuple[Int[Tensor, "prompt token"], Float[Tensor, "new_token prompt d_vocab"]]:
    """Prompts with exactly ``n_new`` greedy tokens after them, and the logits of each of those."""
    output = _run(
        model,
        tokens,
        seed=0,
        max_new_tokens=n_new,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return output.sequences, torch.stack(output.logits)


def _run(model: Network, tokens: Tokens, seed: int, **settings: Any) -> Any:
    """Hugging Face's own loop, with its settings and nobody else's."""
    from transformers import GenerationConfig

    stops = stop_ids(model)
    pad = model.tokenizer.pad_token_id
    settings["pad_token_id"] = pad if pad is not None else (stops[0] if stops else 0)
    devices = [model.device] if model.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=devices),
        _without_own_settings(model),
        _checking_logits(model),
        _counting_columns(model, tokens),
    ):
        torch.manual_seed(seed)
        return model.network.generate(  # pyright: ignore[reportCallIssue]
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
            generation_config=GenerationConfig(**settings),
        )


def check_cache(model: Network) -> None:
    """Refuses replies where the first tokens of one were not those of plain forwards.

    Raises:
        ModelError: they differ by more than rounding, as they do where the wrapper drops the cache.
    """
    if fault := model.checked.get("generation"):
        raise ModelError(
            f"replies of {model.name} cannot be trusted: the logits of its second and third token "
            f"{fault}, so its key-value cache is lost or wrong. That is no fault of the prompts. "
            f"{versions()} Install versions within the bounds of this package."
        )


@contextlib.contextmanager
def _checking_logits(model: Network) -> Iterator[None]:
    """Refuses replies of a network whose logits are not finite: they would be empty, or noise."""
    finite: list[Tensor] = []

    def after(module: torch.nn.Module, args: Any, output: Any) -> None:
        # Collected on the device: asking at every step would wait for it at every step.
        finite.append(output.logits[:, -1].isfinite().all())

    handle = model.network.register_forward_hook(after)
    try:
        yield
    # Sampling from what is no distribution fails somewhere inside of torch.
    except RuntimeError:
        if not all(map(bool, finite)):
            model.refuse_not_finite()
        raise
    finally:
        handle.remove()
    if not all(map(bool, finite)):
        model.refuse_not_finite()


@contextlib.contextmanager
def _without_own_settings(model: Network) -> Iterator[None]:
    """Hides the checkpoint's generation settings, which would fill in whatever is left open."""
    from transformers import GenerationConfig

    network: Any = model.network
    own, network.generation_config = network.generation_config, GenerationConfig()
    try:
        yield
    finally:
        network.generation_config = own


@contextlib.contextmanager
def _counting_columns(model: Network, tokens: Tokens) -> Iterator[None]:
    """Keeps ``model.current`` right through prefill and every step with a KV cache."""
    seen = 0
    contexts = contextlib.ExitStack()

    def before(module: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        nonlocal seen
        contexts.close()
        contexts.enter_context(model.reading(tokens, seen))
        width = kwargs["input_ids"].shape[1]
        seen += width
        if kwargs.pop("logits_to_keep", None) is not None:
            kwargs |= model.last_only(width)
        return args, kwargs

    handle = model.network.register_forward_pre_hook(before, with_kwargs=True)
    try:
        with contexts:
            yield
    finally:
        handle.remove()
