"""Many variants of the last tokens of a prompt in one forward.

An intervention that touches only the last k tokens of a prompt leaves everything before them as it
is. So the prefix is read once, and every variant of those k tokens becomes a block of k more
queries after it: a block sees the prefix and, causally, itself, and no other block. The model's own
forward does all of it, and whatever hooks a variant has act on its block alone.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.errors import AxisError, ModelError
from workbench.models.forwards.capture import capture, capturing
from workbench.models.hooked import HookedModel
from workbench.models.network import Hook
from workbench.models.sites import Inside, Place, Site
from workbench.models.tokens import Tokens

Edits = Sequence[tuple[Inside, int, Hook]]
"""What one variant changes: functions at (site, layer), as `HookedModel.hooks` takes them."""

Method = Literal["auto", "packed", "plain"]
"""``packed``: all variants at once. ``plain``: one full forward each. ``auto``: packed, where that
gives the same."""

_SCORES_WIDTH = 512
"""A packed forward holds no more attention scores than a full batch of prompts of this length."""
_LOGITS = 2**26
"""Most logits of one packed forward: 256 MiB in float32, and 1 GiB more in float64 while
their softmax is taken."""


@dataclass(frozen=True)
class ReadAt:
    """A site, a layer and a position to read instead of the logits."""

    site: Site
    layer: int
    position: int


@torch.no_grad()
def packed_variants(
    model: HookedModel,
    tokens: Tokens,
    variants: Sequence[Edits],
    n_last: int,
    place: ReadAt | None = None,
) -> Iterator[Float[Tensor, "prompt d_out"]]:
    """Logits of every variant of a batch whose last ``n_last`` tokens are changed, one by one.

    Args:
        model: the model. Interventions that are active already act on every variant, too; a
            function of `HookedModel.hooks` sees all variants in one row, and must know it.
        tokens: one batch.
        variants: what each changes, in the last ``n_last`` tokens only.
        n_last: how many tokens at the end of the prompts the variants may change.
        place: where to read instead of the logits.

    Yields:
        Of each variant, in order, the logits at the last position or what stands at the place, in
        float32.

    Raises:
        AxisError: a prompt is shorter than ``n_last`` tokens.
        ModelError: the model has layers that cannot be packed.
    """
    check_last(tokens, n_last)
    cache = _prefix(model, tokens, n_last)
    size = chunk_size(model, tokens, n_last, logits=place is None)
    for start in range(0, len(variants), size):
        chunk = variants[start : start + size]
        for rows in _packed_forward(model, tokens, chunk, n_last, cache, place).unbind(1):
            yield rows.float()


@torch.no_grad()
def plain_variants(
    model: HookedModel, tokens: Tokens, variants: Sequence[Edits], place: ReadAt | None = None
) -> Iterator[Float[Tensor, "prompt d_out"]]:
    """The same by one full forward per variant."""
    for edits in variants:
        with model.hooks(edits):
            if place is None:
                rows = model.forward(tokens)
            else:
                at = (place.site, place.layer)
                found, _ = capture(model, tokens, [at], [place.position])
                rows = found[at].flatten(1)
        yield rows.float()


def chunk_size(model: HookedModel, tokens: Tokens, n_last: int, logits: bool = True) -> int:
    """How many variants of a batch fit into one packed forward."""
    n_prompts, width = tokens.ids.shape
    # q (prefix + q) attention scores per prompt and head, for q = queries of all its blocks.
    scores = model.batch_tokens * max(width, _SCORES_WIDTH) / n_prompts
    prefix = width - n_last
    queries = min(
        (prefix * prefix + 4 * scores) ** 0.5 / 2 - prefix / 2, model.batch_tokens / n_prompts
    )
    size = int(queries) // n_last
    if logits:
        size = min(size, _LOGITS // (n_prompts * model.bridge.cfg.d_vocab))
    return max(1, size)


def text_config(model: HookedModel) -> Any:
    """The configuration of the language model, where a model reads other things too."""
    config: Any = model.network.config
    return config.get_text_config()


def check_last(tokens: Tokens, n_last: int) -> None:
    """Refuses to look for more tokens at the end than the shortest prompt has."""
    shortest = int(tokens.lengths.min())
    if not 1 <= n_last <= shortest:
        raise AxisError(
            f"the last {n_last} tokens cannot be changed: expected 1..{shortest}, the length of "
            "the shortest prompt."
        )


def _prefix(model: HookedModel, tokens: Tokens, n_last: int) -> Any:
    """Keys and values of everything before the last tokens."""
    width = tokens.ids.shape[1] - n_last
    if not width:
        from transformers import DynamicCache

        return DynamicCache(config=text_config(model))
    with model.reading(tokens):
        output = model.network(
            input_ids=tokens.ids[:, :width],
            attention_mask=tokens.mask[:, :width].long(),
            position_ids=tokens.position_ids[:, :width],
            use_cache=True,
            **model.last_only(width),
        )
    return output.past_key_values


def _packed_forward(
    model: HookedModel,
    tokens: Tokens,
    variants: Sequence[Edits],
    n_last: int,
    cache: Any,
    place: ReadAt | None,
) -> Float[Tensor, "prompt variant d_out"]:
    """What is read at the end of every block of one packed forward."""
    n_variants = len(variants)
    start = tokens.ids.shape[1] - n_last
    kept = {}
    if model.keeps_last:
        ends = torch.arange(1, n_variants + 1, device=model.device) * n_last - 1
        kept = {"logits_to_keep": ends}
    places: list[Place] = [] if place is None else [(place.site, place.layer)]

    position = -1 if place is None else place.position

    def take(x: Tensor) -> Tensor:
        # Indexing with a list copies: a slice would keep the whole activation alive.
        return x.unflatten(1, (n_variants, -1))[:, :, [position]].flatten(2)

    hooks = _block_hooks(model, tokens, variants, start)
    with model.hooks(hooks), model.reading(tokens, start, n_variants):
        with capturing(model, places, take, stop=place is not None) as found:
            output = model.network(
                input_ids=tokens.ids[:, start:].repeat(1, n_variants),
                attention_mask=_masks(model, tokens, n_variants, n_last, cache),
                position_ids=tokens.position_ids[:, start:].repeat(1, n_variants),
                past_key_values=_cloned(cache),
                use_cache=True,
                **kept,
            )
    if place is not None:
        return found[places[0]]
    return output.logits if kept else output.logits[:, n_last - 1 :: n_last]


def _block_hooks(
    model: HookedModel, tokens: Tokens, variants: Sequence[Edits], start: int
) -> Iterator[tuple[Inside, int, Hook]]:
    """One hook per place, which gives every variant's own functions that variant's block."""
    own: dict[Place, list[tuple[int, Hook]]] = {}
    for index, edits in enumerate(variants):
        for site, layer, function in edits:
            own.setdefault((site, layer), []).append((index, function))

    def hook_of(functions: list[tuple[int, Hook]]) -> Hook:
        def hook(x: Tensor) -> Tensor:
            blocks = x.unflatten(1, (len(variants), -1)).clone()
            with model.reading(tokens, start):
                for index, function in functions:
                    changed = function(blocks[:, index])
                    if changed is not None:
                        blocks[:, index] = changed
            return blocks.flatten(1, 2)

        return hook

    return ((*place, hook_of(functions)) for place, functions in own.items())


def _masks(
    model: HookedModel, tokens: Tokens, n_variants: int, n_last: int, cache: Any
) -> Tensor | dict[str, Tensor]:
    """What each query sees, as the model adds it to its attention scores.

    One mask where all layers are alike; else one for each kind of layer, cut to the keys which the
    cache still holds for it.
    """
    config = text_config(model)
    kinds = getattr(config, "layer_types", None) or [""] * len(cache.layers)
    sees, distance = _sight(tokens, n_variants, n_last)
    prefix = tokens.ids.shape[1] - n_last
    masks: dict[str, Tensor] = {}
    for kind, layer in zip(kinds, cache.layers, strict=True):
        if kind not in ("", "full_attention", "sliding_attention"):
            raise ModelError(f"layers of kind {kind!r} cannot be packed.")
        if kind in masks:
            continue
        seen = sees
        if getattr(layer, "is_sliding", False):
            held = layer.keys.shape[-2] if prefix else 0
            seen = (sees & (distance < layer.sliding_window))[..., prefix - held :]
        mask = torch.zeros(seen.shape, dtype=model.dtype, device=seen.device)
        masks[kind] = mask.masked_fill_(~seen, torch.finfo(model.dtype).min)
    return masks if len(masks) > 1 else next(iter(masks.values()))


def _sight(
    tokens: Tokens, n_variants: int, n_last: int
) -> tuple[Bool[Tensor, "prompt 1 query key"], Tensor]:
    """Which keys each query may see at all, and how far back they stand, [query key]."""
    device = tokens.ids.device
    prefix = tokens.ids.shape[1] - n_last
    query = (prefix + torch.arange(n_last, device=device)).repeat(n_variants)
    block = torch.arange(n_variants, device=device).repeat_interleave(n_last)
    key = torch.cat([torch.arange(prefix, device=device), query])
    distance = query[:, None] - key
    within = (block[:, None] == block) & (distance[:, prefix:] >= 0)
    before = tokens.mask[:, None, :prefix].expand(-1, len(query), -1)
    sees = torch.cat([before, within.expand(len(tokens), -1, -1)], dim=-1)
    return sees.unsqueeze(1), distance


def _cloned(cache: Any) -> Any:
    """The same keys and values in a cache of its own: a forward appends to the one it is given."""
    clone = copy.copy(cache)
    clone.layers = [copy.copy(layer) for layer in cache.layers]
    return clone
