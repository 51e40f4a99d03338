"""Which shortcuts a model may take: each is compared with the plain forward before it is used.

Packing and resuming drive the model's own forward in ways that its authors did not plan for. What
was never tried may differ without any error, so the first use on a loaded model compares results,
with noise written at every kind of site, and remembers what it found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import screen
from workbench.errors import AxisError, ModelError
from workbench.models.forwards.packed import (
    Edits,
    Method,
    ReadAt,
    check_last,
    packed_variants,
    plain_variants,
    text_config,
)
from workbench.models.forwards.resume import residual_before, resumed
from workbench.models.hooked import HookedModel
from workbench.models.network import Hook
from workbench.models.sites import Site
from workbench.models.tokens import Tokens

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_COARSE = 0.05
"""Largest difference, as a share of what the noise does, for these and for 16-bit types."""
_NOISE = 0.3


def run_variants(
    model: HookedModel,
    tokens: Tokens,
    variants: Sequence[Edits],
    n_last: int,
    place: ReadAt | None = None,
    method: Method = "auto",
) -> Iterator[Float[Tensor, "prompt d_out"]]:
    """Logits of every variant of a batch, packed or plainly; arguments as of `packed_variants`.

    Raises:
        AxisError: no such method, or a prompt that is shorter than ``n_last`` tokens.
        ModelError: ``method="packed"`` on a model on which it is not exact.
    """
    check_last(tokens, n_last)
    if chosen_method(model, tokens, n_last, method) == "plain":
        return plain_variants(model, tokens, variants, place)
    return packed_variants(model, tokens, variants, n_last, place)


def chosen_method(
    model: HookedModel, tokens: Tokens, n_last: int, method: Method = "auto"
) -> Literal["packed", "plain"]:
    """``plain`` where it was asked for, or where packing is not exact on this model.

    Warns in the second case. Also ``plain`` while functions of `HookedModel.hooks` are active that
    may take positions for what they are not in a packed forward.

    Raises:
        AxisError: no such method.
        ModelError: ``method="packed"`` on a model on which it is not exact, or while such functions
            are active.
    """
    if method not in get_args(Method):
        raise AxisError(f"no method {method!r}: {', '.join(get_args(Method))}.")
    if method == "plain":
        return "plain"
    if model.n_raw_hooks:
        if method == "packed":
            raise ModelError(
                "functions of model.hooks are active, and a packed forward shows them all variants "
                "in one row. Pass method='plain', or know_variants=True to model.hooks if they "
                "find their tokens by model.current."
            )
        return "plain"
    reason = packed_fault(model, tokens, n_last)
    if not reason:
        return "packed"
    if method == "packed":
        raise ModelError(f"packed forwards of {model.name} {reason}. Pass method='plain'.")
    screen.warn(
        f"packed forwards of {model.name} {reason}; each variant gets a full forward instead.",
        stacklevel=2,
    )
    return "plain"


def may_resume(model: HookedModel, tokens: Tokens) -> bool:
    """Whether forwards of this model can start at a later layer; warns where they cannot."""
    reason = resumed_fault(model, tokens)
    if reason:
        screen.warn(
            f"forwards of {model.name} that start at a later layer {reason}; they start at the "
            "first layer instead.",
            stacklevel=2,
        )
    return not reason


def packed_fault(model: HookedModel, tokens: Tokens, n_last: int) -> str:
    """Why packed forwards of such prompts are not exact; nothing where they are."""
    # A window, a second token in a block and padding each bring parts of the masks into play.
    beyond = tokens.ids.shape[1] > _window(model)
    key = f"packed, {'several tokens' if n_last > 1 else 'one token'}, beyond window: {beyond}"
    return _found(f"{key}, {_padding(tokens)}", _packed_gap, model, tokens, n_last)


def resumed_fault(model: HookedModel, tokens: Tokens) -> str:
    """Why forwards of such prompts cannot start at a later layer; nothing where they can."""
    return _found(f"resumed, {_padding(tokens)}", _resumed_gap, model, tokens, 1)


def _padding(tokens: Tokens) -> str:
    """Whether any prompt is padded: where none is, nothing is learnt about padding."""
    return f"padding: {not bool(tokens.mask.all())}"


def _found(key: str, gap: Any, model: HookedModel, tokens: Tokens, n_last: int) -> str:
    """What `_compared` says, now or when it was asked for the first time."""
    if key in model.checked:
        return model.checked[key]
    try:
        reason = _compared(gap, model, tokens, n_last)
    except Exception as error:
        # Not remembered: with fewer tokens at once, or on an emptier device, it may well fit.
        if not _out_of_memory(error):
            raise
        return "run out of memory; lower model.batch_tokens to try again"
    model.checked[key] = reason
    return reason


def _out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on a device or, where torch has no type for it, on the CPU."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _compared(gap: Any, model: HookedModel, tokens: Tokens, n_last: int) -> str:
    """Why a shortcut cannot be taken; nothing where it can."""
    lengths = tokens.lengths
    chosen = sorted({int(lengths.argmax()), int(lengths.argmin())})
    # With the columns as they are: Tokens.rows would cut off padding that both have.
    ends = tokens.changed_ends(lambda own: own[chosen])
    rows = replace(tokens, ids=tokens.ids[chosen], mask=tokens.mask[chosen], **ends)
    try:
        worst = gap(model, rows, n_last)
    except Exception as error:  # an architecture may object in any way it likes
        if _out_of_memory(error):
            raise
        first = next(iter(str(error).splitlines()), "no message")
        return f"fail ({type(error).__name__}: {first[:200]})"
    if worst <= _TOLERANCE.get(model.dtype, _COARSE):
        return ""
    return f"differ from plain ones by {worst:.2g} of the effect of noise"


def _packed_gap(model: HookedModel, tokens: Tokens, n_last: int) -> float:
    """Largest difference of logits, packed against plain, as a share of what the edits do."""
    variants = [[], *(_noise(model, seed, n_last) for seed in range(2))]
    plain = torch.cat(list(plain_variants(model, tokens, variants)))
    packed = torch.cat(list(packed_variants(model, tokens, variants, n_last)))
    return _share(packed, plain, len(tokens))


def _resumed_gap(model: HookedModel, tokens: Tokens, n_last: int) -> float:
    """The same for forwards that start in the middle and at the last layer."""
    gaps = []
    residual, before = None, 0
    for layer in sorted({model.n_layers // 2, model.n_layers - 1}):
        residual = residual_before(model, tokens, layer, before, residual)
        before = layer
        edits = _noise(model, 0, n_last, first=layer)
        plain, found = [], []
        for variant in ([], edits):
            with model.hooks(variant):
                plain.append(model.forward(tokens))
                with resumed(model, layer, residual):
                    found.append(model.forward(tokens))
        gaps.append(_share(torch.cat(found), torch.cat(plain), len(tokens)))
    return max(gaps)


def _share(found: Tensor, plain: Tensor, n_prompts: int) -> float:
    """Largest difference as a share of the largest change from the first variant."""
    effect = (plain - plain[:n_prompts].repeat(len(plain) // n_prompts, 1)).abs().max()
    worst = float((found - plain).abs().max() / effect)
    return worst if worst == worst else float("inf")


def _noise(model: HookedModel, seed: int, n_last: int, first: int = 0) -> Edits:
    """Noise at every kind of site, in the first, a middle and the last layer."""
    draw = torch.Generator().manual_seed(seed)

    def hook_of() -> Hook:
        own = int(torch.randint(2**31, (), generator=draw))

        def hook(x: Tensor) -> Tensor:
            last = x[:, -n_last:]
            noise = torch.randn(last.shape, generator=torch.Generator().manual_seed(own))
            size = _NOISE * last.float().square().mean().sqrt()
            changed = last + (size * noise.to(x.device)).to(x.dtype)
            return torch.cat([x[:, :-n_last], changed], dim=1)

        return hook

    layers = sorted({first, (first + model.n_layers) // 2, model.n_layers - 1})
    sites: tuple[Site, ...] = ("resid_pre", "z", "attn_out", "mlp_out")
    return [
        (site, layer, hook_of())
        for layer in layers
        for site in sites
        if model.sites.has(site, layer)
    ]


def _window(model: HookedModel) -> float:
    """Tokens that the narrowest layers look back."""
    return float(getattr(text_config(model), "sliding_window", None) or "inf")
