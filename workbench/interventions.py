"""Interventions on the residual stream, and the one context manager that applies them.

An intervention is small frozen data without a model inside. `intervene` turns it into hooks for the
time of a ``with`` block and always takes them out again; no weight is ever changed.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from workbench import screen
from workbench.activations import Activations
from workbench.arguments import check_fields, checked
from workbench.artifact import load_artifact, save_artifact
from workbench.directions.direction import Directions
from workbench.errors import ArtifactError, AxisError, ModelError
from workbench.models.form import same_model
from workbench.models.hooked import HookedModel
from workbench.models.network import ForwardPass, Hook
from workbench.models.sites import Inside, Site
from workbench.models.tokens import Tokens, TokenSubset

_STREAM = ("resid_pre", "attn_out", "mlp_out")
Edit = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Ablate:
    """Removes a direction from everything that is written to the stream.

    ``x ← x - strength · r̂ (r̂·x)`` at the input of the first block and at every ``attn_out`` and
    ``mlp_out``: no block sees the direction, and none can write it. Where a block writes otherwise
    (a state-space mixer, a norm or a scale on the stream itself), also at its output, and at what
    its MLP reads where TransformerLens exposes that; where not, what one part of such a block
    writes is still read by the next, and `verify_model` names those layers.

    Attributes:
        direction: one vector; its length does not matter.
        strength: the share of the component that is removed: 1 all of it, 0 nothing.
        tokens: which tokens; see `TokenSubset`.
        layers: only these blocks' inputs and outputs; all by default.

    Raises:
        AxisError: no layers, or one twice, which would be ablated twice.
        StudyError: a strength below 0 or above 1.

    Source: Arditi et al. 2024, section 2.4.
    """

    direction: Directions
    strength: float = 1.0
    _: KW_ONLY
    tokens: TokenSubset = "all"
    layers: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.layers is not None and (not self.layers or len({*self.layers}) < len(self.layers)):
            raise AxisError(
                "layers must hold at least one layer, and each once, found "
                f"{list(self.layers)}. Leave layers out for all of them."
            )

    def hooks(self, model: HookedModel) -> list[tuple[Inside, int, Hook]]:
        """Where and how to write, on this model."""
        unit = self.direction.unit().vector

        def edit(x: Tensor) -> Tensor:
            return -self.strength * _along(x, unit)

        layers = tuple(range(model.n_layers)) if self.layers is None else self.layers
        hook = _hook(model, edit, self.tokens)
        return [(site, layer, hook) for site, layer in model.sites.ablation_places(layers)]


@dataclass(frozen=True, eq=False)
class Add:
    """Adds a direction to the stream at one layer: ``x ← x + coefficient · r``.

    Attributes:
        direction: one raw vector.
        layer: where; the direction's own layer by default.
        coefficient: in units of the vector's length; 1 moves a harmless prompt by the mean
            difference.
        tokens: which tokens; ``"all"`` includes those of the reply.
        site: ``resid_pre``, ``attn_out`` or ``mlp_out``; the direction's own by default.

    Source: Arditi et al. 2024, section 2.4; Turner et al. 2023.
    """

    direction: Directions
    _: KW_ONLY  # Add(r, 2) would not say whether twice or at layer 2
    layer: int | None = None
    coefficient: float = 1.0
    tokens: TokenSubset = "all"
    site: Site | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def hooks(self, model: HookedModel) -> list[tuple[Inside, int, Hook]]:
        """Where and how to write, on this model."""
        vector = self.direction.vector

        def edit(x: Tensor) -> Tensor:
            return (self.coefficient * vector.to(x)).expand_as(x)

        return [_at(self, _hook(model, edit, self.tokens))]


@dataclass(frozen=True, eq=False)
class SetProjection:
    """Sets the projection on a direction: ``x ← x - r̂(r̂·x) + value · r̂``.

    Attributes:
        direction: one vector; its length does not matter.
        value: in units of the activations; usually `mean_projection` over harmful prompts.
        layer: where; the direction's own layer by default.
        tokens: which tokens; ``"all"`` includes those of the reply.
        site: ``resid_pre``, ``attn_out`` or ``mlp_out``; the direction's own by default.
    """

    direction: Directions
    value: float
    _: KW_ONLY
    layer: int | None = None
    tokens: TokenSubset = "all"
    site: Site | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def hooks(self, model: HookedModel) -> list[tuple[Inside, int, Hook]]:
        """Where and how to write, on this model."""
        unit = self.direction.unit().vector

        def edit(x: Tensor) -> Tensor:
            return self.value * unit.to(x) - _along(x, unit)

        return [_at(self, _hook(model, edit, self.tokens))]


@dataclass(frozen=True, eq=False)
class PatchHeads:
    """Replaces what some heads put out at some positions of the prompt: ``z ← values``.

    All of them at once, in every prompt alike; the reply is left alone.

    Attributes:
        heads: (layer, head) pairs.
        values: what ``z`` becomes, usually its mean over other prompts.
        positions: negative, from the end of the rendered prompt.
        provenance: where the values come from.

    Raises:
        AxisError: labels and values disagree, a value is not finite, a label appears twice, or a
            position is not negative.
    """

    heads: tuple[tuple[int, int], ...]
    values: Float[Tensor, "head position d_head"]
    positions: tuple[int, ...] = (-1,)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        expected = (len(self.heads), len(self.positions))
        if tuple(self.values.shape[:2]) != expected or self.values.ndim != 3 or not all(expected):
            raise AxisError(
                f"values of shape {tuple(self.values.shape)} do not fit {expected[0]} heads and "
                f"{expected[1]} positions: expected {expected} and d_head."
            )
        if not bool(self.values.isfinite().all()):
            raise AxisError("values are not all finite: a patch of NaN writes NaN everywhere.")
        for axis, labels in (("head", self.heads), ("position", self.positions)):
            if len(set(labels)) != len(labels):
                raise AxisError(f"a {axis} appears twice: {list(labels)}.")
        if any(position >= 0 for position in self.positions):
            raise AxisError(f"positions count from the end and are negative: {self.positions}.")

    def hooks(self, model: HookedModel) -> list[tuple[Inside, int, Hook]]:
        """Where and how to write, on this model."""
        rows: dict[int, list[int]] = {}
        for row, (layer, _) in enumerate(self.heads):
            rows.setdefault(layer, []).append(row)
        return [("z", layer, self._hook(model, own)) for layer, own in rows.items()]

    def _hook(self, model: HookedModel, rows: list[int]) -> Hook:
        heads = [self.heads[row][1] for row in rows]

        def hook(z: Tensor) -> Tensor | None:
            running = _running(model, "a patch at chosen positions")
            end = running.tokens.ids.shape[1]
            if running.start == 0:
                self._check_inside(running.tokens)
            columns = running.columns(z.shape[1]).tolist()
            places = [
                (column, self.positions.index(own - end))
                for column, own in enumerate(columns)
                if own - end in self.positions
            ]
            if not places:
                return None  # all of this forward belongs to the reply, or stands before
            z, values = z.clone(), self.values[rows].to(z)
            for column, index in places:
                z[:, column, heads] = values[:, index]
            return z

        return hook

    def _check_inside(self, tokens: Tokens) -> None:
        """Refuses a position before the first token of a prompt: padding would be patched there."""
        shortest, first = int(tokens.mask.sum(1).min()), min(self.positions)
        if -first > shortest:
            raise AxisError(
                f"a patch at position {first} of a prompt of {shortest} tokens stands before it. "
                f"Use positions from {-shortest} on, or longer prompts."
            )

    def save(self, path: str | Path) -> Path:
        """Writes the patch as one artifact, values in float32."""
        manifest = {
            "heads": [list(head) for head in self.heads],
            "positions": list(self.positions),
            "provenance": dict(self.provenance),
        }
        tensors = {"values": self.values.detach().float().cpu().numpy()}
        return save_artifact(path, kind="patch_heads", tensors=tensors, manifest=manifest)

    @classmethod
    def load(cls, path: str | Path) -> "PatchHeads":
        """Reads what `save` wrote.

        Raises:
            ArtifactError: the file is absent, broken, foreign or of another kind.
        """
        artifact = load_artifact(path, kind="patch_heads")
        manifest = artifact.manifest
        try:
            return cls(
                tuple((layer, head) for layer, head in manifest["heads"]),
                torch.from_numpy(artifact.tensors["values"].copy()),
                tuple(manifest["positions"]),
                manifest["provenance"],
            )
        except (KeyError, TypeError, ValueError, AxisError) as error:
            raise ArtifactError(f"{path} does not hold a complete patch: {error}.") from error


Intervention = Ablate | Add | SetProjection | PatchHeads


@checked
@contextlib.contextmanager
def intervene(model: HookedModel, *interventions: Intervention) -> Iterator[HookedModel]:
    """Applies interventions while the block runs; afterwards the model is bit for bit as before.

    Interventions act in the order given, and blocks can be nested.

    Raises:
        AxisError: a direction of another width, of a place that the model does not have, or that
            points nowhere; a layer or head that the model does not have; or a direction that was
            read where nothing is written to the stream.

    >>> import workbench as wb                                            # doctest: +SKIP
    >>> with wb.intervene(model, wb.Ablate(refusal)):                     # doctest: +SKIP
    ...     replies = model.generate(prompts)
    """
    hooks, before = hooks_of(model, *interventions), model.edits
    model.edits = (*before, *map(_described, interventions))
    try:
        with model.hooks(hooks, know_variants=True):
            yield model
    finally:
        model.edits = before


def hooks_of(model: HookedModel, *interventions: Intervention) -> list[tuple[Inside, int, Hook]]:
    """Where and how interventions write on this model, in their order.

    Raises:
        AxisError: as `intervene`.
    """
    hooks: list[tuple[Inside, int, Hook]] = []
    for intervention in interventions:
        if not isinstance(intervention, Intervention):
            raise AxisError(
                "expected Ablate, Add, SetProjection or PatchHeads, found "
                f"{type(intervention).__name__}."
            )
        _check(model, intervention)
        hooks += intervention.hooks(model)
    return hooks


def _described(intervention: Intervention) -> dict[str, Any]:
    """An intervention as plain numbers and words, vectors by their fingerprint."""
    found: dict[str, Any] = {"kind": type(intervention).__name__}
    for each in fields(intervention):
        value = getattr(intervention, each.name)
        if isinstance(value, Directions):
            found |= {
                "direction": value.names[0],
                "read_at": [value.layers[0], value.positions[0]],
                "vector": _fingerprint(value.vector),
            }
        elif isinstance(value, Tensor):
            found[each.name] = _fingerprint(value)
        elif each.name != "provenance":
            # Tuples as the lists that a file gives back.
            found[each.name] = json.loads(json.dumps(value))
    return found


def _fingerprint(values: Tensor) -> str:
    numbers = values.detach().cpu().double().contiguous().numpy()
    return hashlib.sha256(numbers.tobytes()).hexdigest()[:16]


@checked
def mean_projection(direction: Directions, activations: Activations) -> float:
    """Mean of ``r̂·x`` over prompts, at the direction's own layer and position.

    In units of the activations; the usual value of `SetProjection`.

    Raises:
        AxisError: that layer or position was not collected, or at another site.
    """
    vector = direction.unit().vector.double()
    if activations.site != direction.site:
        raise AxisError(
            f"the direction was read at {direction.site}, the activations at {activations.site}."
        )
    layer, position = direction.layers[0], direction.positions[0]
    activations.at(layer, position)  # says what was collected if this was not
    row = activations.layers.index(layer), activations.positions.index(position)
    return float(activations.mean()[row] @ vector.cpu())


def _along(x: Tensor, unit: Float[Tensor, " d_model"]) -> Tensor:
    """The component of every token along a unit vector."""
    unit = unit.to(x)
    return (x @ unit).unsqueeze(-1) * unit


def _hook(model: HookedModel, edit: Edit, tokens: TokenSubset) -> Hook:
    """A hook that adds ``edit(x)`` to the chosen tokens, computed in float32 or wider."""

    def hook(x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        change = edit(wide)
        if tokens != "all":
            change = change * _chosen(model, tokens, x.shape[1]).to(x.device).unsqueeze(-1)
        return (wide + change).to(x.dtype)

    return hook


def _chosen(model: HookedModel, tokens: TokenSubset, width: int) -> Tensor:
    """True at the columns of this forward that belong to the subset, [prompt token]."""
    running = _running(model, f"tokens={tokens!r}", ", or use tokens='all'")
    prompt = running.tokens.subset(tokens)
    columns = running.columns(width).to(prompt.device)
    # Columns after the prompt belong to the reply.
    reply = columns >= prompt.shape[1]
    chosen = prompt[:, columns.clamp(max=prompt.shape[1] - 1)]
    return torch.where(reply, tokens == "generated", chosen)


def _running(model: HookedModel, what: str, otherwise: str = "") -> ForwardPass:
    """The forward that is running."""
    if model.current is None:
        raise ModelError(
            f"{what} needs to know which token is which. Run the model through "
            f"model.logits, model.generate or collect_activations{otherwise}."
        )
    return model.current


def _at(intervention: Add | SetProjection, hook: Hook) -> tuple[Inside, int, Hook]:
    """The one place where an addition writes."""
    layer = intervention.layer
    if layer is None:
        layer = intervention.direction.layers[0]
    site = intervention.site or intervention.direction.site
    return site, layer, hook  # pyright: ignore[reportReturnType]


def _check(model: HookedModel, intervention: Intervention) -> None:
    """Refuses what would write nonsense."""
    if isinstance(intervention, PatchHeads):
        _check_heads(model, intervention)
        return
    direction = intervention.direction
    if direction.site not in _STREAM:
        raise AxisError(
            f"a direction read at {direction.site} does not live in the residual stream. "
            f"Read it at {', '.join(_STREAM)}."
        )
    if direction.d_model != model.d_model:
        raise AxisError(
            f"a direction of width {direction.d_model} does not fit {model.name}: d_model is "
            f"{model.d_model}."
        )
    _warn_of_others(model, direction)
    direction.vector  # noqa: B018  (says how to choose if there are several)
    direction.check_points_somewhere()
    layers: Sequence[int] = ()
    if isinstance(intervention, Ablate):
        layers = intervention.layers or ()
        _check_strength(model, intervention)
    else:
        layers = () if intervention.layer is None else (intervention.layer,)
        if intervention.site == "z":
            raise AxisError(
                f"z is not where the stream is written. Choose site= among {', '.join(_STREAM)}."
            )
    for layer in layers:
        model.hook_name("resid_pre", layer)
    _check_place(model, intervention)
    if not isinstance(intervention, Ablate):
        site, layer, _ = _at(intervention, lambda x: None)
        model.hook_name(site, layer)  # says which layers have the site if this one has not
    if intervention.tokens not in get_args(TokenSubset):
        raise AxisError(
            f"no token subset {intervention.tokens!r}: {', '.join(get_args(TokenSubset))}."
        )


def _warn_of_others(model: HookedModel, direction: Directions) -> None:
    """Says that a direction was read on other weights than those it is to edit."""
    known = direction.provenance
    if known.get("weights") in (None, model.weights_fingerprint):
        return
    own = model.provenance
    if same_model(known, own):
        return  # one adapter on one base, merged here and left on there
    if (known.get("model"), known.get("revision")) == (own["model"], own["revision"]):
        if known.get("dtype") != own["dtype"] and known.get("adapter") == own.get("adapter"):
            return  # the same checkpoint, rounded otherwise
    screen.warn(
        f"a direction that was read on {_with_adapter(known)} edits {_with_adapter(own)}, "
        "which has other weights. Where that is not meant, read it on this model.",
        stacklevel=6,
    )


def _with_adapter(provenance: Mapping[str, Any]) -> str:
    """A model's name, with that of the adapter that was put on it."""
    name, adapter = provenance.get("model", "another model"), provenance.get("adapter")
    if not adapter or adapter["name"] == name:
        return str(name)
    return f"{name} with adapter {adapter['name']} ({adapter['weights']})"


def _check_place(model: HookedModel, intervention: Ablate | Add | SetProjection) -> None:
    """Refuses a direction of a place that the model does not have, or that is not edited."""
    direction, layer = intervention.direction, intervention.direction.layers[0]
    if direction.site != "resid_pre" or layer != model.n_layers:
        model.hook_name(direction.site, layer)  # pyright: ignore[reportArgumentType]
        return
    if isinstance(intervention, Ablate) or intervention.layer is None:
        last = layer - 1
        adds = isinstance(intervention, Add) and model.sites.adds_up(last)
        remedy = (
            f"To add it there, pass layer={last} and site='mlp_out', which is written to the "
            "output of the last block"
            if adds
            else "It serves for cosines"
        )
        raise AxisError(
            f"a direction at layer {layer} of {model.name} is the output of the last block (layers "
            f"0..{last} are inputs of blocks), where nothing is edited; in most models "
            f"hidden_states hold it after the final norm. {remedy}; to edit elsewhere, choose a "
            "direction that was read there."
        )


def _check_strength(model: HookedModel, ablation: Ablate) -> None:
    """Refuses to ablate a part where what is written cannot be told from what was there."""
    layers = range(model.n_layers) if ablation.layers is None else ablation.layers
    mixed = sorted(model.sites.mixed & set(layers))
    if mixed and ablation.strength not in (0, 1):
        raise ModelError(
            f"layers {mixed} of {model.name} write to the stream by other ways than attn_out and "
            f"mlp_out, so there strength must be 0 or 1, found {ablation.strength}: a share of "
            "the stream would be taken out once more in every layer. Pass strength=1, or layers= "
            "without those."
        )


def _check_heads(model: HookedModel, patch: PatchHeads) -> None:
    """Refuses heads that the model does not have."""
    for layer, head in patch.heads:
        model.hook_name("z", layer)
        if not 0 <= head < model.n_heads:
            raise AxisError(f"no head {head} in {model.name}: heads 0..{model.n_heads - 1}.")
    d_head = model.head_width(sorted({layer for layer, _ in patch.heads}))
    if patch.values.shape[-1] != d_head:
        raise AxisError(
            f"values of width {patch.values.shape[-1]} do not fit {model.name}: d_head is {d_head}."
        )
