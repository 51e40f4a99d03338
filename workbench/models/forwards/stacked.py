"""Several variants of a batch in one forward, each in rows of its own.

Rows of a batch do not see each other, so a batch may be read as many times over as fits, and what
a variant changes acts on its own copy. A small batch costs as much to start as a large one.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from workbench.models.forwards.packed import Edits
from workbench.models.hooked import HookedModel
from workbench.models.network import Hook
from workbench.models.tokens import Tokens


def stack_size(model: HookedModel, batch: Tokens) -> int:
    """How many copies of a batch go through the model at once.

    One, while functions of `HookedModel.hooks` are active that may count on the batch's own rows.
    """
    return 1 if model.n_raw_hooks else max(1, model.batch_tokens // batch.ids.numel())


@contextlib.contextmanager
def stacked(model: HookedModel, batch: Tokens, variants: Sequence[Edits]) -> Iterator[Tokens]:
    """Lets each variant act on its own copy of a batch, and gives the copies.

    Args:
        model: the model.
        batch: one batch.
        variants: what each changes, given the batch as if it were alone.

    Yields:
        The copies, one after the other, to be read inside the block.
    """
    n = len(variants)
    ends = batch.changed_ends(lambda own: own.repeat(n))
    copies = replace(batch, ids=batch.ids.repeat(n, 1), mask=batch.mask.repeat(n, 1), **ends)
    places: dict[tuple, list[tuple[int, Hook]]] = {}
    for index, edits in enumerate(variants):
        for site, layer, function in edits:
            places.setdefault((site, layer), []).append((index, function))
    hooks = [(*place, _each(model, batch, own)) for place, own in places.items()]
    with model.hooks(hooks, know_variants=True):
        yield copies


def _each(model: HookedModel, batch: Tokens, own: Sequence[tuple[int, Hook]]) -> Hook:
    """One function for all variants that change a place."""

    def hook(x: Tensor) -> Tensor:
        copies = list(x.split(len(batch)))
        # A function that asks which token is which is told of the rows that it is given.
        with model.reading(batch):
            for index, function in own:
                changed = function(copies[index])
                copies[index] = copies[index] if changed is None else changed
        return torch.cat(copies)

    return hook
