"""What one patch at a time does: source activations, and the loop over patches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.analysis.patch_metric import Metric, Positions
from workbench.models.hooked import Hook, HookedModel, Site
from workbench.models.packed import Edits, Method
from workbench.models.shortcuts import chosen_method, run_variants
from workbench.models.tokens import Tokens
from workbench.progress import track

Pairing = Literal["mean", "paired"]
"""``mean``: every target prompt gets the source's mean. ``paired``: the i-th target the i-th
source."""


@dataclass(frozen=True)
class Cell:
    """One patch: a site of a layer, at ``z`` one head of it."""

    site: Site
    layer: int
    head: int | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """What a patch writes: activations of the source, and the metric there.

    Attributes:
        values: by site and layer; one row per prompt, or a single one that is their mean.
        positions: of the second axis of the values.
        scores: the metric on every source prompt.
    """

    values: dict[tuple[Site, int], Float[Tensor, "row position *width"]]
    positions: Positions
    scores: Float[np.ndarray, " prompt"]

    def at(
        self, cell: Cell, positions: Positions, rows: Sequence[int]
    ) -> Float[Tensor, "row position width"]:
        """What one patch writes at some of the positions, to some target prompts.

        A copy of no more than that: one is held for every cell at once.
        """
        values = self.values[cell.site, cell.layer]
        if cell.head is not None:
            values = values[:, :, cell.head]
        if len(values) > 1:
            values = values[list(rows)]
        return values[:, [self.positions.index(position) for position in positions]]


@dataclass(frozen=True, eq=False)
class Measured:
    """The metric on every target prompt, without a patch and with each.

    Attributes:
        plain: without.
        patched: with.
        methods: ``packed``, ``plain`` or both: how it was measured.
    """

    plain: Float[np.ndarray, " prompt"]
    patched: Float[np.ndarray, "cell group prompt"]
    methods: set[str] = field(default_factory=set)


@torch.no_grad()
def read_source(
    model: HookedModel,
    rows: Tokens,
    places: Sequence[tuple[Site, int]],
    positions: Positions,
    metric: Metric,
    pairing: Pairing = "mean",
) -> Source:
    """Activations at some places of the source prompts, and the metric there.

    Raises:
        ModelError: the model's logits are not finite.
    """
    scores = np.zeros(len(rows))
    kept: dict[tuple[Site, int], Tensor] = {}
    batches = model.batches(rows)
    for chosen, batch in track(batches, "reading the source", len(batches)):
        found, logits = _read(model, batch, places, positions)
        model.check_finite(logits)
        for place, values in found.items():
            if pairing == "mean":
                total = values.double().sum(0, keepdim=True) / len(rows)
                kept[place] = kept[place] + total if place in kept else total
            else:
                shape = (len(rows), *values.shape[1:])
                kept.setdefault(place, values.new_zeros(shape))[chosen] = values
        if metric.place is None:
            own = metric.read(logits)
        else:
            own = run_variants(
                model, batch, [[]], 1, metric.read, metric.place, method="plain"
            ).flatten()
        scores[chosen] = own.cpu().numpy()
    values = {place: own.float() for place, own in kept.items()}
    return Source(values, positions, scores)


def patched_scores(
    model: HookedModel,
    rows: Tokens,
    cells: Sequence[Cell],
    groups: Sequence[Positions],
    source: Source,
    metric: Metric,
    along: Float[Tensor, " d_model"] | None = None,
    method: Method = "auto",
) -> Measured:
    """The metric under every cell's patch, at each group of positions.

    Args:
        model: the model.
        rows: the target prompts.
        cells: what is patched, each on its own.
        groups: positions that are patched together; each group on its own.
        source: what is written.
        metric: what is read.
        along: only the component along this unit vector is written to the stream.
        method: see `run_variants`.
    """
    plain = np.zeros(len(rows))
    patched = np.zeros((len(cells), len(groups), len(rows)))
    methods: set[str] = set()
    work = [
        (chosen, batch, index)
        for chosen, batch in model.batches(rows)
        for index in range(len(groups))
    ]
    heads = sorted({cell.layer for cell in cells if cell.head is not None})
    for chosen, batch, index in track(work, "patching", len(work)):
        group = groups[index]
        n_last = -min(group)
        clean: dict[tuple[Site, int], Tensor] = {}
        if along is not None and heads:
            clean, _ = _read(model, batch, [("attn_out", layer) for layer in heads], group)
        variants = [_edits(cell, group, source, chosen, along, clean) for cell in cells]
        if not index:
            variants.insert(0, [])
        own = chosen_method(model, batch, n_last, method)
        scores = run_variants(model, batch, variants, n_last, metric.read, metric.place, own)
        methods.add(own)
        scores = scores.double().cpu().numpy()
        if not index:
            plain[chosen], scores = scores[0], scores[1:]
        patched[:, index, chosen] = scores
    return Measured(plain, patched, methods)


def _read(
    model: HookedModel,
    batch: Tokens,
    places: Sequence[tuple[Site, int]],
    positions: Positions,
) -> tuple[dict[tuple[Site, int], Tensor], Tensor]:
    """Activations of one batch at some places and positions, and its logits."""
    found: dict[tuple[Site, int], Tensor] = {}

    def reader(place: tuple[Site, int]) -> Hook:
        def read(x: Tensor) -> None:
            # Indexing with a list copies: a slice would keep the whole activation alive.
            found[place] = x[:, list(positions)].to(model.device)

        return read

    with model.hooks((*place, reader(place)) for place in places):
        logits = model.forward(batch)
    return found, logits


def _edits(
    cell: Cell,
    positions: Positions,
    source: Source,
    rows: Sequence[int],
    along: Tensor | None,
    clean: dict[tuple[Site, int], Tensor],
) -> Edits:
    """What one patch changes."""
    values = source.at(cell, positions, rows)
    where = list(positions)

    def replace(x: Tensor) -> Tensor:
        x = x.clone()
        if cell.head is None:
            x[:, where] = values.to(x)
        else:
            x[:, where, cell.head] = values.to(x)
        return x

    if along is None:
        return [(cell.site, cell.layer, replace)]
    if cell.head is None:
        return [(cell.site, cell.layer, _toward(values, where, along))]
    # What the head changes in attn_out, through a post-norm too, is known only after W_O; so it is
    # patched whole, and all but one component of its effect is taken back.
    back = _only_along(clean["attn_out", cell.layer], where, along)
    return [("z", cell.layer, replace), ("attn_out", cell.layer, back)]


def _toward(values: Tensor, where: list[int], unit: Tensor) -> Hook:
    """Takes over one component of the values and leaves the rest."""

    def hook(x: Tensor) -> Tensor:
        x, own = x.clone(), x[:, where].float()
        gap = (values.to(own) - own) @ unit.to(own)
        x[:, where] = (own + gap.unsqueeze(-1) * unit.to(own)).to(x.dtype)
        return x

    return hook


def _only_along(clean: Tensor, where: list[int], unit: Tensor) -> Hook:
    """Keeps one component of what differs from the clean values."""

    def hook(x: Tensor) -> Tensor:
        x, before = x.clone(), clean.float().to(x.device)
        gap = (x[:, where].float() - before) @ unit.to(before)
        x[:, where] = (before + gap.unsqueeze(-1) * unit.to(before)).to(x.dtype)
        return x

    return hook
