"""Activations: read them from a model at chosen layers and positions, per prompt or as means."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.arguments import checked
from workbench.artifact import load_artifact, save_artifact
from workbench.errors import ArtifactError, AxisError, ModelError, StudyError
from workbench.intake.limits import allowing
from workbench.intake.parsing import parsing
from workbench.intake.records import as_record
from workbench.labels import span
from workbench.models.given import given_prompts
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.network import StopForward
from workbench.models.sites import Site
from workbench.models.tokens import Tokens
from workbench.positions import T_INST, InstructionEnd, Position
from workbench.progress import track
from workbench.prompts.promptset import PromptSet, text_key
from workbench.prompts.texts import Texts
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


@checked
def collect_activations(
    model: HookedModel,
    prompts: Prompts,
    *,
    site: Site = "resid_pre",
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] | None = None,
    per_prompt: bool = False,
    system: str | None = None,
    n_resamples: int = 0,
    seed: int = 0,
    t_inst: InstructionEnd | None = None,
) -> Activations:
    """Reads activations at one site.

    The forward stops after the last wanted layer, only the wanted positions are kept, and means
    are accumulated in float64, one per label and category.

    Args:
        model: the model to read.
        prompts: a prompt set, texts, a data frame, a data set, or tokens; see `as_prompts`. Ids and
            categories come along where there are any.
        site: ``resid_pre``, ``attn_out``, ``mlp_out`` or ``z``.
        layers: all of them by default.
        positions: negative numbers, or ``"t_inst"`` for the last token of the instruction, which is
            found in each prompt. By default t_inst and the post-instruction tokens; t_inst by its
            name where the tokenizer joins instructions with the template, else by its number.
        per_prompt: keeps every prompt's activation instead of the means.
        system: a system prompt for all of them.
        n_resamples: replicates of `Resampled` means, accumulated in the same pass; they give
            directions and cosines their reliability, intervals and null. 0 for none.
        seed: of the resampling; sets that are compared need the same one.
        t_inst: which token that is where the tokenizer joins the end of an instruction with the
            template: ``last_token``, the last that holds a character of the instruction (the
            default), or ``last_whole_token``, the last that holds nothing else. What was read,
            and how many tokens are shared, is in ``provenance["t_inst"]``.

    Raises:
        PromptError: every token of an instruction is shared, and whole ones are asked for.
        AxisError: a layer or site that the model does not have; a position before the start of
            some prompt.
        ModelError: an activation is not finite.
        StudyError: a number of replicates, or a seed, that makes no sense.
    """
    prompts = given_prompts(prompts)
    tokens = model.tokens(prompts, system, t_inst=t_inst)
    layers = tuple(range(model.n_layers) if layers is None else layers)
    if positions is None:
        positions = (tokens.t_inst_label, *tokens.post_instruction)
    positions = tuple(positions)
    _check_axes(model, tokens, site, layers, positions)
    ids, labels, categories = _prompt_axes(prompts, len(tokens))
    groups = sorted(set(zip(labels, categories, strict=True)))
    group_of = [groups.index(pair) for pair in zip(labels, categories, strict=True)]
    width = model.n_heads * model.head_width(layers) if site == "z" else model.d_model
    n_rows, dtype = (len(tokens), torch.float32) if per_prompt else (len(groups), torch.float64)
    values = torch.zeros(n_rows, len(layers), len(positions), width, dtype=dtype)
    texts = _texts(prompts)
    resampler = None
    if n_resamples:
        rows = zip(tokens.ids, tokens.mask, strict=True)
        keys = texts or [str(ids[mask].tolist()) for ids, mask in rows]
        shape = values.shape[1:]
        resampler = Resampler(keys, group_of, labels, shape, n_resamples, seed)
    batches = model.batches(tokens)
    for chosen, batch in track(batches, f"collecting {site}", len(batches)):
        read = read_activations(model, batch, site, layers, positions)
        if not read.isfinite().all():
            raise ModelError(
                f"{model.name} gives activations that are not finite at {site}. Check its weights; "
                "on a GPU, try dtype=torch.float32."
            )
        if resampler is not None:
            resampler.add(chosen, read)
        if per_prompt:
            values[chosen] = read.float().cpu()
        else:
            rows = torch.tensor([group_of[row] for row in chosen])
            values.index_add_(0, rows, read.cpu().double())
    counts = tuple(group_of.count(group) for group in range(len(groups)))
    if not per_prompt:
        values /= torch.tensor(counts, dtype=torch.float64)[:, None, None, None]
    fingerprint = prompts.fingerprint if isinstance(prompts, PromptSet) else None
    return Activations(
        values=values,
        counts=(1,) * len(tokens) if per_prompt else counts,
        categories=tuple(categories) if per_prompt else tuple(group[1] for group in groups),
        labels=tuple(labels) if per_prompt else tuple(group[0] for group in groups),
        ids=ids if per_prompt else (),
        layers=layers,
        positions=positions,
        site=site,
        provenance={
            **model.provenance,
            "prompts": fingerprint,
            # Tokens say nothing of the system prompt that they hold.
            **({} if isinstance(prompts, Tokens) else {"system": system}),
            **_where_read(model, tokens, positions),
        },
        texts=texts if per_prompt else (),
        resampled=None if resampler is None else resampler.finish(),
        prompt_keys=tuple(map(text_key, texts)),
    )


@torch.no_grad()
def read_activations(
    model: HookedModel,
    batch: Tokens,
    site: Site,
    layers: Sequence[int],
    positions: Sequence[Position],
) -> Float[Tensor, "prompt layer position d_site"]:
    """Activations of one batch, from one forward that stops once all are read."""
    columns = batch.columns(positions)
    rows = torch.arange(len(batch)).unsqueeze(1)
    found: dict[int, Tensor] = {}

    def reader(layer: int) -> Any:
        def read(activation: Tensor) -> None:
            # Indexing with a tensor copies: a slice would keep the whole activation alive.
            own = columns.to(activation.device)
            wanted = activation[rows.to(activation.device), own]
            found[layer] = wanted.flatten(2).to(model.device)
            if len(found) == len(layers):
                raise StopForward

        return read

    with model.hooks((site, layer, reader(layer)) for layer in layers):
        try:
            model.forward(batch)
        except StopForward:
            pass
    return torch.stack([found[layer] for layer in layers], dim=1)


def _check_axes(
    model: HookedModel,
    tokens: Tokens,
    site: Site,
    layers: tuple[int, ...],
    positions: tuple[Position, ...],
) -> None:
    """Refuses layers and positions that cannot be read."""
    if not layers or not positions:
        raise AxisError("no layers or no positions to read.")
    if site not in get_args(Site):
        raise AxisError(f"no site {site!r}: {', '.join(get_args(Site))}.")
    for axis, labels in (("layer", layers), ("position", positions)):
        if len(set(labels)) != len(labels):
            raise AxisError(f"a {axis} appears twice: {list(labels)}.")
    for layer in layers:
        model.hook_name(site, layer)
    shortest = int(tokens.lengths.min())
    for position in positions:
        if position == T_INST:
            _ = tokens.t_insts  # refuses prompts that have none
        elif not -shortest <= position < 0:
            raise AxisError(
                f"position {position} cannot be read: positions are negative, counted from the "
                f"end, or 't_inst', and the shortest prompt has {shortest} tokens."
            )


def _where_read(
    model: HookedModel, tokens: Tokens, positions: tuple[Position, ...]
) -> dict[str, Any]:
    """What t_inst was in these prompts, or at which number it stands in all of them."""
    if T_INST not in positions:
        end = tokens.t_inst_label
        return {"t_inst_position": end} if isinstance(end, int) else {}
    return {
        "t_inst": {
            "token": tokens.instruction_end,
            "n_shared": int(tokens.shared.sum()),
            "shared_tokens": model.template.shared_tokens(tokens),
        }
    }


def _prompt_axes(
    prompts: PromptSet | Texts | Tokens, n_prompts: int
) -> tuple[tuple[str, ...], Sequence[str], Sequence[str]]:
    """Ids, labels and categories; tokens get their index, and empty labels."""
    if not isinstance(prompts, Tokens):
        return tuple(prompts.ids), prompts.labels, prompts.categories
    return tuple(str(row) for row in range(n_prompts)), [""] * n_prompts, [""] * n_prompts


def _texts(prompts: PromptSet | Texts | Tokens) -> tuple[str, ...]:
    """What the prompts say; nothing for tokens, which do not know it."""
    return () if isinstance(prompts, Tokens) else tuple(prompts.texts)
