"""Means on resampled prompts, accumulated beside the means themselves.

A replicate is one pass of a Poisson bootstrap: every prompt gets a Poisson(1) weight, and stands in
one of two random halves. What was measured on one half owes nothing to the noise of the other, so
products across halves are free of the noise that products within one sample carry. A second family
permutes the categories among the prompts of one label: what the means would be if categories were
interchangeable.

Weight and half of a prompt come from the seed and its text. They depend neither on batches nor on
the other prompts; a text that occurs twice, in one set or in two, never stands in both halves.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workbench.errors import ArtifactError, StudyError

PREFIX = "resampled."
"""Of the names of its arrays in an artifact."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """Means, or differences of means, on resampled prompts.

    They take ``3 · replicates`` times the memory of the means in float32. Where that is more than
    the prompts themselves take, read fewer layers and positions.

    Attributes:
        halves: in every replicate the weighted mean over either half; NaN where a half is empty.
        weights: total weight of the prompts behind each of them.
        permuted: means with the categories permuted, without weights; None where there is nothing
            to permute.
        seed: of weights, halves and permutations.
    """

    halves: Float[Tensor, "replicate half row layer position d_site"]
    weights: Float[Tensor, "replicate half row"]
    permuted: Float[Tensor, "replicate row layer position d_site"] | None
    seed: int

    @property
    def n_resamples(self) -> int:
        """Number of replicates."""
        return self.halves.shape[0]

    def select(
        self, rows: Sequence[int], layers: Sequence[int], positions: Sequence[int]
    ) -> "Resampled":
        """Some rows, layers and positions, by index."""

        def chosen(values: Tensor, *axes: tuple[int, Sequence[int]]) -> Tensor:
            for dim, index in axes:
                values = values.index_select(dim, torch.tensor(index, device=values.device))
            return values

        return replace(
            self,
            halves=chosen(self.halves, (2, rows), (3, layers), (4, positions)),
            weights=chosen(self.weights, (2, rows)),
            permuted=None
            if self.permuted is None
            else chosen(self.permuted, (1, rows), (2, layers), (3, positions)),
        )

    def merged(self, groups: Sequence[Sequence[int]], counts: Sequence[int]) -> "Resampled":
        """One row per group of rows, in which every prompt has the same weight as before.

        Args:
            groups: rows that become one.
            counts: prompts behind each present row.
        """
        halves, weights, permuted = [], [], []
        for group in map(list, groups):
            weight = self.weights[:, :, group]
            total = weight.sum(2)
            sums = torch.einsum("rhg,rhglpd->rhlpd", weight, self.halves[:, :, group].nan_to_num())
            halves.append(sums / total[..., None, None, None])
            weights.append(total)
            if self.permuted is not None:
                share = torch.tensor([float(counts[row]) for row in group])
                share = share / share.sum()
                permuted.append(torch.einsum("g,rglpd->rlpd", share, self.permuted[:, group]))
        return replace(
            self,
            halves=torch.stack(halves, 2),
            weights=torch.stack(weights, 2),
            permuted=torch.stack(permuted, 1) if permuted else None,
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays for an artifact."""
        arrays = {"halves": self.halves, "weights": self.weights, "permuted": self.permuted}
        return {
            f"{PREFIX}{name}": array.detach().float().cpu().numpy()
            for name, array in arrays.items()
            if array is not None
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, np.ndarray], manifest: Mapping[str, Any]
    ) -> "Resampled | None":
        """What `tensors` gave, or None if an artifact holds no resampled means.

        Raises:
            ArtifactError: it holds only a part of them.
        """
        found = {
            name.removeprefix(PREFIX): torch.from_numpy(array.copy())
            for name, array in tensors.items()
            if name.startswith(PREFIX)
        }
        if not found:
            return None
        try:
            halves, weights = found["halves"], found["weights"]
            permuted, seed = found.get("permuted"), manifest["resampling_seed"]
        except KeyError as error:
            raise ArtifactError(f"resampled means without their {error}.") from error
        shape = tuple(halves.shape)
        if len(shape) != 6 or tuple(weights.shape) != shape[:3] or not isinstance(seed, int):
            raise ArtifactError(
                f"resampled means of shape {shape} do not go with weights of shape "
                f"{tuple(weights.shape)} and the seed {seed!r:.80}."
            )
        if permuted is not None and tuple(permuted.shape) != (shape[0], *shape[2:]):
            raise ArtifactError(
                f"resampled means of shape {shape} do not go with permuted ones of shape "
                f"{tuple(permuted.shape)}."
            )
        return cls(halves, weights, permuted, seed)


class Resampler:
    """Accumulates `Resampled` means while activations come in, batch by batch.

    Args:
        keys: what tells prompts apart, usually their texts.
        row_of: row of each prompt.
        labels: label of each prompt; categories are permuted among prompts of one label.
        shape: layers, positions and width of an activation.
        n_resamples: number of replicates.
        seed: of weights, halves and permutations.
    """

    def __init__(
        self,
        keys: Sequence[str],
        row_of: Sequence[int],
        labels: Sequence[str],
        shape: Sequence[int],
        n_resamples: int,
        seed: int,
    ):
        if n_resamples < 2 or seed < 0:
            raise StudyError(
                f"cannot resample with n_resamples={n_resamples}, seed={seed}: expected at least "
                "2 replicates (200 or more for intervals) and a seed from 0 on."
            )
        self.seed = seed
        self.row_of = torch.tensor(row_of)
        weights, first = _draws(keys, n_resamples, seed)
        self.weights = torch.stack([weights * first, weights * ~first], 1)
        self.permuted_rows = _permutations(row_of, labels, n_resamples, seed)
        n_rows = max(row_of) + 1
        self.halves = torch.zeros(n_resamples, 2, n_rows, *shape)
        self.permuted = torch.zeros(n_resamples, n_rows, *shape)
        self._finished: Resampled | None = None

    def add(
        self, chosen: Sequence[int], values: Float[Tensor, "prompt layer position d_site"]
    ) -> None:
        """Adds the activations of the prompts with these indices.

        Raises:
            StudyError: the means are already taken.
        """
        if self._finished is not None:
            raise StudyError("the means are taken: activations of other prompts need a Resampler.")
        values = values.detach().float().cpu()
        index = torch.tensor(chosen)
        own = self.row_of[index]
        for row in own.unique().tolist():
            here = own == row
            weights = self.weights[:, :, index[here]]
            self.halves[:, :, row] += torch.einsum("rhp,plxd->rhlxd", weights, values[here])
        dealt = self.permuted_rows[:, index]
        # A product for each row is many times faster than index_add_ for each replicate.
        for row in dealt.unique().tolist():
            member = (dealt == row).float()
            self.permuted[:, row] += torch.einsum("rp,plxd->rlxd", member, values)

    def finish(self) -> Resampled:
        """The means of everything that was added; a second call gives the same."""
        if self._finished is not None:
            return self._finished
        member = torch.nn.functional.one_hot(self.row_of).float()
        totals = torch.einsum("rhp,pg->rhg", self.weights, member)
        counts = member.sum(0)
        # In place: the sums are the largest thing in memory.
        self._finished = Resampled(
            halves=self.halves.div_(totals[..., None, None, None]),
            weights=totals,
            permuted=self.permuted.div_(counts[:, None, None, None]),
            seed=self.seed,
        )
        return self._finished


def _draws(
    keys: Sequence[str], n_resamples: int, seed: int
) -> tuple[Float[Tensor, "replicate prompt"], Bool[Tensor, "replicate prompt"]]:
    """Bootstrap weights, and which prompts stand in the first half."""
    weights = np.zeros((n_resamples, len(keys)), dtype=np.float32)
    first = np.zeros((n_resamples, len(keys)), dtype=bool)
    for column, key in enumerate(keys):
        digest = hashlib.sha256(key.encode()).digest()
        rng = np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype="<u4").tolist()])
        weights[:, column] = rng.poisson(1.0, n_resamples)
        first[:, column] = rng.random(n_resamples) < 0.5
    return torch.from_numpy(weights), torch.from_numpy(first)


def _permutations(
    row_of: Sequence[int], labels: Sequence[str], n_resamples: int, seed: int
) -> Int[Tensor, "replicate prompt"]:
    """The row of each prompt when the prompts of each label are dealt anew."""
    rng = np.random.default_rng([seed, 1])
    rows = np.tile(np.asarray(row_of), (n_resamples, 1))
    for label in sorted(set(labels)):
        own = np.flatnonzero(np.asarray(labels) == label)
        rows[:, own] = rng.permuted(rows[:, own], axis=1)
    return torch.from_numpy(rows)
