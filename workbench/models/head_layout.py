"""How the output of attention splits into heads, whatever shape a hook is handed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from workbench.errors import ModelError


def projected_width(attention: Any) -> int | None:
    """How many numbers the output projection reads; None where there is none to be asked.

    That, split evenly, is what the heads put out, even where values are of another width than
    queries and keys, as in multi-head latent attention.
    """
    projection: Any = getattr(getattr(attention, "o", None), "original_component", None)
    width = getattr(projection, "in_features", None)
    if width is None and type(projection).__name__ == "Conv1D":
        width = projection.weight.shape[0]
    return None if width is None else int(width)


def by_head(
    function: Callable[[Tensor], Tensor | None], n_heads: int, width: int | None, name: str
) -> Callable[[Tensor], Tensor | None]:
    """The function, given ``z`` as [prompt token head d_head] and answering in the shape it came.

    Args:
        function: reads or replaces ``z``.
        n_heads: query heads of the layer.
        width: of all heads together, as `projected_width` finds it; None where it is not known.
        name: of the place, for messages.
    """

    def call(z: Tensor) -> Tensor | None:
        total = z.shape[2:].numel()
        if z.ndim == 4 and z.shape[2] == n_heads and width in (None, total):
            return function(z)
        if width is None or total != width or width % n_heads:
            raise ModelError(
                f"{name} is of shape {list(z.shape)}, which does not split into {n_heads} heads: "
                f"the output projection reads {width or 'an unknown number of'} numbers. Work on "
                "attn_out instead, which has no heads."
            )
        changed = function(z.reshape(*z.shape[:2], n_heads, -1))
        return None if changed is None else changed.reshape(z.shape)

    return call
