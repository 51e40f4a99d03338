"""What one patch at a time does: source activations, and the loop over patches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.analysis.heads.metric import Metric, Positions
from workbench.models.forwards.capture import capture
from workbench.models.forwards.packed import Edits, Method
from workbench.models.forwards.shortcuts import chosen_method, run_variants
from workbench.models.hooked import HookedModel
from workbench.models.network import Hook
from workbench.models.sites import Place, Site
from workbench.models.tokens import Tokens
from workbench.progress import track

_JACKKNIFED = 8
"""Targets on which each group of source prompts is left out."""

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
        without: the same mean with one group of the prompts left out, group by group.
    """

    values: dict[Place, Float[Tensor, "row position *width"]]
    positions: Positions
    scores: Float[np.ndarray, " prompt"]
    without: tuple["Source", ...] = ()

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
    places: Sequence[Place],
    positions: Positions,
    metric: Metric,
    pairing: Pairing = "mean",
    group: Int[np.ndarray, " prompt"] | None = None,
) -> Source:
    """Activations at some places of the source prompts, and the metric there.

    Args:
        model: the model.
        rows: the source prompts.
        places: sites and layers that are read.
        positions: that are read.
        metric: what is read.
        pairing: ``mean`` keeps the mean alone.
        group: of each prompt, from 0 on; the mean is kept also without each of them. Drawn at
            random: prompts that lie in the order of their kinds would make groups differ too much.

    Raises:
        ModelError: the model's logits are not finite.
    """
    scores = np.zeros(len(rows))
    groups = np.zeros(len(rows), dtype=np.int64) if group is None else group
    n_groups = int(groups.max()) + 1
    kept: dict[Place, Tensor] = {}
    batches = model.batches(rows)
    for chosen, batch in track(batches, "reading the source", len(batches)):
        found, logits = capture(model, batch, places, positions, stop=False)
        assert logits is not None
        model.check_finite(logits)
        for place, values in found.items():
            if pairing == "mean":
                own = torch.tensor(groups[chosen], device=values.device)
                sums = kept.setdefault(
                    place, values.new_zeros(n_groups, *values.shape[1:]).double()
                )
                sums.index_add_(0, own, values.double())
            else:
                shape = (len(rows), *values.shape[1:])
                kept.setdefault(place, values.new_zeros(shape))[chosen] = values
        if metric.place is None:
            own = metric.score(logits)
        else:
            (read,) = run_variants(model, batch, [[]], 1, metric.place, method="plain")
            own = metric.score(read)
        scores[chosen] = own.cpu().numpy()
    if pairing == "paired":
        return Source({place: own.float() for place, own in kept.items()}, positions, scores)
    without = tuple(
        Source(_mean(kept, groups, each), positions, scores[groups != each])
        for each in range(n_groups if n_groups > 1 else 0)
    )
    return Source(_mean(kept, groups, None), positions, scores, without)


def _mean(
    sums: Mapping[Place, Tensor],
    groups: Int[np.ndarray, " prompt"],
    left_out: int | None,
) -> dict[Place, Tensor]:
    """Means over all prompts but one group, from the sum of each group."""
    n = int((groups != left_out).sum())
    kept = [each for each in range(int(groups.max()) + 1) if each != left_out]
    return {place: (each[kept].sum(0, keepdim=True) / n).float() for place, each in sums.items()}


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
        clean: dict[Place, Tensor] = {}
        if along is not None and heads:
            clean, _ = capture(model, batch, [("attn_out", layer) for layer in heads], group)
        variants = [_edits(cell, group, source, chosen, along, clean) for cell in cells]
        if not index:
            variants.insert(0, [])
        own = chosen_method(model, batch, n_last, method)
        read = run_variants(model, batch, variants, n_last, metric.place, own)
        scores = torch.stack([metric.score(each).double() for each in read]).cpu().numpy()
        methods.add(own)
        if not index:
            plain[chosen], scores = scores[0], scores[1:]
        patched[:, index, chosen] = scores
    return Measured(plain, patched, methods)


def source_error(
    model: HookedModel,
    rows: Tokens,
    cells: Sequence[Cell],
    groups: Sequence[Positions],
    source: Source,
    metric: Metric,
    along: Float[Tensor, " d_model"] | None,
    method: Method,
    patched: Float[np.ndarray, "cell group prompt"],
) -> Float[np.ndarray, "cell group"]:
    """Standard error of mean effects that comes from which prompts the source has.

    A jackknife: the targets are patched again with the source's mean without one group of its
    prompts, a few targets for every group. To first order that is what other source prompts do.

    Args:
        model: the model.
        rows: the target prompts.
        cells: what is patched, each on its own.
        groups: positions that are patched together.
        source: what was written, with the means without each of its groups.
        metric: what is read.
        along: see `patched_scores`.
        method: see `run_variants`.
        patched: the metric under the whole source's mean.

    Source: Efron and Tibshirani 1993, chapter 11, with groups for prompts.
    """
    n = len(rows)
    moved = []
    for index, without in enumerate(source.without):
        chosen = sorted({(index * _JACKKNIFED + each) % n for each in range(_JACKKNIFED)})
        own = patched_scores(
            model, rows.rows(chosen), cells, groups, without, metric, along, method
        )
        moved.append((own.patched - patched[..., chosen]).mean(-1))
    n_groups = len(moved)
    return np.sqrt((n_groups - 1) * np.var(moved, axis=0))


def _edits(
    cell: Cell,
    positions: Positions,
    source: Source,
    rows: Sequence[int],
    along: Tensor | None,
    clean: dict[Place, Tensor],
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
