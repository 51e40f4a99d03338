"""Forwards that start at a later layer, from a residual stream that was read before.

Blocks before that layer pass on what they get; the layer itself gets the stored stream. The rest is
the model's own forward, so masks, rotary embeddings and the final norm stay its own.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.models.hooked import HookedModel
from workbench.models.network import StopForward
from workbench.models.tokens import Tokens


@contextlib.contextmanager
def resumed(
    model: HookedModel, layer: int, residual: Float[Tensor, "prompt token d_model"]
) -> Iterator[None]:
    """Every forward inside the block starts at ``layer`` with ``residual`` as its input.

    Hooks on the blocks before do not fire; those of ``resid_pre`` at ``layer`` do.
    """
    blocks = [model.bridge.blocks[index] for index in range(layer + 1)]
    *before, first = blocks

    def swap(module: torch.nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if args:
            return (residual, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": residual}

    handle = first.register_forward_pre_hook(swap, with_kwargs=True)
    try:
        for block in before:
            # Setting the attribute would reach through to the wrapped module.
            block.__dict__["forward"] = _identity
        yield
    finally:
        for block in before:
            block.__dict__.pop("forward", None)
        handle.remove()


@torch.no_grad()
def residual_before(
    model: HookedModel,
    tokens: Tokens,
    layer: int,
    start: int = 0,
    residual: Float[Tensor, "prompt token d_model"] | None = None,
) -> Float[Tensor, "prompt token d_model"]:
    """What enters block ``layer``, read before any hook of that block.

    Args:
        model: the model.
        tokens: one batch.
        layer: which block.
        start: an earlier layer whose residual is known already; 0 for none.
        residual: what enters ``start``.
    """
    found: list[Tensor] = []

    def keep(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        found.append(args[0] if args else kwargs["hidden_states"])
        raise StopForward

    known = contextlib.nullcontext() if residual is None else resumed(model, start, residual)
    with known:
        # Registered after the one that swaps the stored stream in, so it reads what that gave.
        handle = model.bridge.blocks[layer].register_forward_pre_hook(keep, with_kwargs=True)
        try:
            model.forward(tokens)
        except StopForward:
            pass
        finally:
            handle.remove()
    return found[0]


def _identity(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states
