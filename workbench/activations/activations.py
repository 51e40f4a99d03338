"""Activations: read them from a model at chosen layers and positions, per prompt or as means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.artifact import load_artifact, save_artifact
from workbench.errors import ArtifactError, AxisError, StudyError
from workbench.intake.limits import allowing
from workbench.intake.parsing import parsing
from workbench.intake.records import as_record
from workbench.labels import span
from workbench.positions import T_INST, Position
from workbench.statistics.resampling import Resampled, Resampler
from workbench.tabled import Tabled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Activations(Tabled):
    """Activations of one site over (row, layer, position).

    Streamed, a row is the mean over one harm category, in float64, and memory does not grow with
    the number of prompts. Per prompt, a row is one prompt, in float32.

    Attributes:
        values: the rows; the last axis is d_model wide, or n_heads · d_head at site ``z``.
        counts: prompts behind each row.
        categories: the category of each row.
        labels: the label of each row.
        ids: prompt ids when rows are prompts, else empty.
        layers: 0-based.
        positions: negative, from the end of the rendered prompt, or ``"t_inst"``, the last token of
            each prompt's instruction.
        site: where the values were read.
        provenance: model, prompts and settings.
        texts: what the prompts say when rows are prompts and it is known, else empty.
        resampled: means of `groups` on resampled prompts, or None.
        prompt_keys: `PromptSet.keys` of the prompts behind the values, a row's own where rows are
            prompts; empty where the texts are not known.
    """

    values: Float[Tensor, "row layer position d_site"]
    counts: tuple[int, ...]
    categories: tuple[str, ...]
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    layers: tuple[int, ...]
    positions: tuple[Position, ...]
    site: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    resampled: Resampled | None = None
    prompt_keys: tuple[str, ...] = ()

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each row of the values: label, category, prompts, and ids and texts."""
        import pandas as pd

        columns = {"label": self.labels, "category": self.categories, "n_prompts": self.counts}
        told = {name: own for name, own in (("id", self.ids), ("text", self.texts)) if own}
        return pd.DataFrame({**told, **columns})

    def __repr__(self) -> str:
        rows = f"{self.n_prompts} prompts" + ("" if self.per_prompt else ", streamed")
        return (
            f"Activations({rows}; site {self.site}; layers {span(self.layers)}; positions "
            f"{span(self.positions)})"
        )

    @property
    def per_prompt(self) -> bool:
        """Whether a row is a prompt."""
        return bool(self.ids)

    @property
    def n_prompts(self) -> int:
        """How many prompts these activations were read on."""
        return sum(self.counts)

    @property
    def groups(self) -> dict[tuple[str, str], int]:
        """Prompts of each label and category, in the order of the resampled means' rows."""
        counts: dict[tuple[str, str], int] = {}
        for pair, count in zip(self._pairs, self.counts, strict=True):
            counts[pair] = counts.get(pair, 0) + count
        return dict(sorted(counts.items()))

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.labels, self.categories, strict=True))

    def mean(self, category: str | None = None) -> Float[Tensor, "layer position d_site"]:
        """Mean over prompts in float64; every prompt has the same weight.

        Raises:
            AxisError: no prompt has that category.
        """
        if category is None:
            rows = list(range(len(self.counts)))
        else:
            rows = [row for row, own in enumerate(self.categories) if own == category]
        if not rows:
            known = ", ".join(sorted(set(self.categories)))
            raise AxisError(f"no category {category!r} in these activations: {known}.")
        weights = torch.tensor([self.counts[row] for row in rows], dtype=torch.float64)
        values = self.values[rows].double()
        return torch.einsum("r,rlpd->lpd", weights / weights.sum(), values)

    def at(self, layer: int, position: Position) -> Float[Tensor, "row d_site"]:
        """All rows at one layer and position.

        Raises:
            AxisError: that layer or position was not collected.
        """
        if layer not in self.layers or position not in self.positions:
            raise AxisError(
                f"layer {layer}, position {position} was not collected: layers "
                f"{list(self.layers)}, positions {list(self.positions)} (site {self.site})."
            )
        return self.values[:, self.layers.index(layer), self.positions.index(position)]

    def rows(self, rows: Sequence[int]) -> "Activations":
        """Some of the rows, in the order given; resampled means do not come along."""

        def kept(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[row] for row in rows) if values else ()

        axes = ["counts", "categories", "labels", "ids", "texts"]
        if self.per_prompt:  # behind means there may be any of them
            axes.append("prompt_keys")
        return replace(
            self,
            values=self.values[list(rows)],
            **{axis: kept(getattr(self, axis)) for axis in axes},
            resampled=None,
        )

    def with_resamples(self, n_resamples: int = 200, seed: int = 0) -> "Activations":
        """The same activations with resampled means, as collecting with ``n_resamples`` gives them.

        Raises:
            StudyError: the activations are means; collect them with ``per_prompt=True``, or with
                ``n_resamples``.
        """
        if not self.per_prompt:
            raise StudyError(
                "means cannot be resampled: collect with per_prompt=True, or with n_resamples."
            )
        groups = list(self.groups)
        row_of = [groups.index(pair) for pair in self._pairs]
        keys, shape = self.texts or self.ids, self.values.shape[1:]
        resampler = Resampler(keys, row_of, self.labels, shape, n_resamples, seed)
        resampler.add(range(len(self.ids)), self.values)
        return replace(self, resampled=resampler.finish())

    def save(self, path: str | Path) -> Path:
        """Writes the activations as one artifact."""
        manifest = {
            "counts": list(self.counts),
            "categories": list(self.categories),
            "labels": list(self.labels),
            "ids": list(self.ids),
            "texts": list(self.texts),
            "prompt_keys": list(self.prompt_keys),
            "layers": list(self.layers),
            "positions": list(self.positions),
            "site": self.site,
            "provenance": dict(self.provenance),
        }
        tensors = {"values": self.values.cpu().numpy()}
        if self.resampled is not None:
            tensors |= self.resampled.tensors()
            manifest["resampling_seed"] = self.resampled.seed
        return save_artifact(path, kind="activations", tensors=tensors, manifest=manifest)

    @classmethod
    def load(cls, path: str | Path, max_bytes: int | None = None) -> "Activations":
        """Reads what `save` wrote.

        Args:
            path: the file.
            max_bytes: of the file; 8 GiB by default.

        Raises:
            ArtifactError: the file is absent, broken, foreign, too large or of another kind.
        """
        with allowing(max_bytes=max_bytes):
            artifact = load_artifact(path, kind="activations")
        with parsing(path, "complete activations", verb="does not hold"):
            stored = as_record(json.dumps(artifact.manifest), path, _Stored)
            values = torch.from_numpy(np.array(artifact.tensors["values"]))
            _check_stored(path, stored, values)
            return cls(
                values=values,
                **{axis: getattr(stored, axis) for axis in _AXES},
                site=stored.site,
                provenance=stored.provenance,
                texts=stored.texts,
                resampled=Resampled.from_tensors(artifact.tensors, artifact.manifest),
                prompt_keys=stored.prompt_keys,
            )


_AXES = ("counts", "categories", "labels", "ids", "layers", "positions")


@dataclass(frozen=True)
class _Stored:
    """The manifest of saved activations."""

    counts: tuple[int, ...]
    categories: tuple[str, ...]
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    layers: tuple[int, ...]
    positions: tuple[Position, ...]
    site: str
    provenance: dict[str, Any]
    texts: tuple[str, ...] = ()
    prompt_keys: tuple[str, ...] = ()


def _check_stored(path: str | Path, stored: _Stored, values: Tensor) -> None:
    """Refuses labels that do not go with the values.

    Raises:
        ArtifactError: they do not.
    """
    rows, layers, positions = (
        len(each) for each in (stored.counts, stored.layers, stored.positions)
    )
    by_row = (stored.categories, stored.labels, stored.ids or stored.counts)
    fits = values.ndim == 4 and tuple(values.shape[:3]) == (rows, layers, positions)
    if not fits or not values.is_floating_point() or any(len(each) != rows for each in by_row):
        raise ArtifactError(
            f"{path} does not hold complete activations: values of shape {tuple(values.shape)} "
            f"({values.dtype}) do not go with {rows} rows, {layers} layers and {positions} "
            "positions, each row with its category and label."
        )
    if odd := [own for own in stored.counts if not 0 < own < 2**53]:
        raise ArtifactError(
            f"{path} does not hold activations: {str(odd[0])[:20]} prompts behind a row."
        )
    counted = [own for own in stored.positions if own != T_INST]
    if min(stored.layers, default=0) < 0 or max(counted, default=-1) >= 0:
        raise ArtifactError(
            f"{path} does not hold activations: layers are numbered from 0, positions are "
            f"negative or 't_inst', found {stored.layers} and {stored.positions}."
        )
