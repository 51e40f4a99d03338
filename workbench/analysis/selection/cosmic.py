"""COSMIC: candidates scored by what they do to activations, without a word of the output."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from workbench.analysis.inputs import check_places
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.interventions import Ablate, Add, intervene
from workbench.models.forwards.capture import capture
from workbench.models.given import check_sides
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens
from workbench.positions import position_axis
from workbench.progress import track
from workbench.scores.refusal import kl_divergence
from workbench.statistics.intervals import MIN_PROMPTS

_RESAMPLES = 1000
_MEANINGS = {
    "refuse": "cosine of harmless activations, direction added, with harmful ones",
    "comply": "cosine of harmful activations, direction ablated, with harmless ones",
    "score": "sum of the two cosines",
}


@checked
def sweep_cosmic(
    model: HookedModel,
    directions: Directions,
    *,
    harmful: Prompts,
    harmless: Prompts,
    layers: Sequence[int] | None = None,
    share: float = 0.1,
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Scores every (layer, position) of one direction by how far it turns activations into others.

    A good direction makes harmless prompts look harmful when it is added (``refuse``) and harmful
    ones harmless when it is ablated (``comply``), in the few layers where the two look least alike.
    No refusal tokens and no replies are needed, so it also serves where the first token of a reply
    says nothing. Activations are the residual stream at the last token of the prompt; as in the
    authors' code they are averaged over prompts and layers before the cosine is taken, so that long
    activations of late layers weigh more. An addition counts from the layer after its own on.

    Args:
        model: the model.
        directions: one name, any layers and positions.
        harmful: validation prompts.
        harmless: validation prompts.
        layers: where activations are compared; by default the ``share`` of layers with the smallest
            cosine between mean harmful and mean harmless activations, on these prompts.
        share: of the layers, at least one.
        confidence: of the bootstrap intervals over prompts.
        seed: of the bootstrap.
        system: a system prompt for all of them.

    Returns:
        Dataset over (layer, position): ``refuse``, ``comply`` and their sum ``score``, each with
        ``…_interval`` (bound), and ``kl`` in nats, how far ablating moves harmless next tokens;
        ``similarity`` (read_layer), the cosine between mean harmful and harmless activations. In
        ``attrs``, ``read_layers``, where activations were compared, and ``plain``, the cosine
        there without an intervention, which is what a candidate that does nothing has twice.

    Raises:
        AxisError: more than one name, a direction that does not fit the model, or layers or a share
            that are none.

    Source: Siu et al. 2025, "COSMIC: Generalized Refusal Direction Identification in LLM
    Activations", section 3, and github.com/wang-research-lab/COSMIC, which reads the outputs of
    blocks: that of block l is read here as the input of block l + 1, and the last is left out.
    """
    if len(directions.names) != 1:
        raise AxisError(
            f"COSMIC takes one direction, found {', '.join(directions.names)}. "
            "Choose with .at(name=…)."
        )
    check_places(model, directions, edited=True)
    check_sides(harmful, harmless)
    rows = {"harmful": model.tokens(harmful, system), "harmless": model.tokens(harmless, system)}
    every = tuple(range(1, model.n_layers))
    plain = {name: _plain(model, own, every) for name, own in rows.items()}
    similarity = np.array(
        [_cosine(*(own[:, index].mean(0) for own in plain.values())) for index in range(len(every))]
    )
    read = _chosen_layers(every, similarity, layers, share)
    at = [every.index(layer) for layer in read]
    base = {name: own[:, at] for name, own in plain.items()}
    weights = {
        name: _weights(len(own), seed + index) for index, (name, own) in enumerate(rows.items())
    }
    measured = _measure(model, directions, rows, base, weights, read)
    enough = min(map(len, rows.values())) >= MIN_PROMPTS
    variables = _with_intervals(measured, confidence if enough else None)
    cell = ("layer", "position")
    variables["kl"] = (cell, measured["kl"][..., 0], {"units": "nats"})
    norms = directions.norms[0].double().cpu().numpy()
    variables["norm"] = (cell, norms, {"units": "activation", "long_name": "length of the vector"})
    variables["similarity"] = ("read_layer", similarity, {"units": "1"})
    means = [own.mean((0, 1)) for own in base.values()]
    return xr.Dataset(
        variables,
        coords={
            "layer": list(directions.layers),
            "position": ("position", position_axis(directions.positions)),
            "read_layer": list(every),
            "bound": ["low", "high"],
            "position_label": (
                "position",
                rows["harmful"].position_labels(directions.positions),
            ),
        },
        attrs={
            "model": model.name,
            "site": directions.site,
            "name": directions.names[0],
            "n_layers": model.n_layers,
            "read_layers": list(read),
            "plain": _cosine(*means),
            "n_harmful": len(rows["harmful"]),
            "n_harmless": len(rows["harmless"]),
            "confidence": confidence,
            "interval": f"basic bootstrap over prompts, from {MIN_PROMPTS} on",
            "seed": seed,
            "provenance": {**model.provenance, "directions": dict(directions.provenance)},
        },
    )


def _plain(
    model: HookedModel, rows: Tokens, layers: Sequence[int]
) -> Float[np.ndarray, "prompt layer d_model"]:
    """The residual stream at the last token, without an intervention."""
    found = np.zeros((len(rows), len(layers), model.d_model))
    for chosen, batch in model.batches(rows):
        found[chosen] = _last(model, batch, layers).double().cpu().numpy()
    return found


def _chosen_layers(
    every: Sequence[int], similarity: np.ndarray, layers: Sequence[int] | None, share: float
) -> tuple[int, ...]:
    """The layers where activations are compared.

    Raises:
        AxisError: layers that cannot be read, or a share that is none.
    """
    if layers is not None:
        if not layers or not {*layers} <= {*every} or len({*layers}) < len(layers):
            raise AxisError(
                f"layers must be distinct and in {every[0]}..{every[-1]}, found {list(layers)}: "
                "in layer 0 the last token is the same in every prompt."
            )
        return tuple(sorted(layers))
    if not 0 < share <= 1:
        raise AxisError(f"share must be above 0 and at most 1, found {share}.")
    n = max(1, math.ceil(share * (len(every) + 1) - 1e-9))
    order = np.argsort(similarity, kind="stable")[: min(n, len(every))]
    return tuple(sorted(every[index] for index in order.tolist()))


def _measure(
    model: HookedModel,
    directions: Directions,
    rows: dict[str, Tokens],
    base: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    read: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Both cosines of every candidate in every resample, and KL in the sample alone.

    ``refuse`` and ``comply``, [layer position resample], ``kl``, [layer position 1].
    """
    grid = tuple(directions.values.shape[1:3])
    found = {name: np.full((*grid, _RESAMPLES + 1), np.nan) for name in ("refuse", "comply")}
    found["kl"] = np.full((*grid, 1), np.nan)
    degenerate = directions.degenerate[0]
    cells = [cell for cell in np.ndindex(*grid) if not degenerate[cell]]
    batches = {name: model.batches(own) for name, own in rows.items()}
    plain = [model.forward(batch) for _, batch in batches["harmless"]]
    targets = {name: weights[name] @ own.mean(1) for name, own in base.items()}
    for cell in track(cells, "turning activations", len(cells)):
        layer = directions.layers[cell[0]]
        one = directions.at(layer=layer, position=directions.positions[cell[1]])
        with intervene(model, Ablate(one)):
            ablated = _summed(model, batches["harmful"], len(rows["harmful"]), read)
            moved = [
                kl_divergence(before, model.forward(batch))
                for before, (_, batch) in zip(plain, batches["harmless"], strict=True)
            ]
        # Up to its own layer an addition has changed nothing that is read.
        n_before = sum(own <= layer for own in read)
        added = base["harmless"][:, :n_before].sum(1)
        if after := read[n_before:]:
            with intervene(model, Add(one)):
                added = added + _summed(model, batches["harmless"], len(added), after)
        found["kl"][cell] = float(torch.cat(moved).mean())
        found["comply"][cell] = _cosines(weights["harmful"] @ ablated, targets["harmless"])
        found["refuse"][cell] = _cosines(weights["harmless"] @ added, targets["harmful"])
    return found


def _summed(
    model: HookedModel, batches: Any, n_prompts: int, layers: Sequence[int]
) -> Float[np.ndarray, "prompt d_model"]:
    """The residual stream at the last token, summed over layers."""
    found = np.zeros((n_prompts, model.d_model))
    for chosen, batch in batches:
        found[chosen] = _last(model, batch, layers).double().sum(1).cpu().numpy()
    return found


def _last(
    model: HookedModel, batch: Tokens, layers: Sequence[int]
) -> Float[Tensor, "prompt layer d_model"]:
    """The residual stream of one batch at the last token, at some layers."""
    found, _ = capture(model, batch, [("resid_pre", layer) for layer in layers], (-1,))
    return torch.stack([found["resid_pre", layer][:, 0] for layer in layers], 1)


def _weights(n: int, seed: int) -> Float[np.ndarray, "resample prompt"]:
    """How often each prompt counts: first in the sample itself, then in every resample of it."""
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=_RESAMPLES)
    return np.concatenate([np.ones((1, n)), draws]) / n


def _with_intervals(measured: dict[str, np.ndarray], confidence: float | None) -> dict[str, Any]:
    """Both cosines and their sum, with intervals; one resample is the same in all of them.

    A cosine between means is the smaller the noisier they are, and resampled means are noisier
    once more: percentiles of resamples lie too low. Their distances from the sample's own cosine,
    taken to its other side (the basic bootstrap), do not. None for too few prompts, of which there
    is no interval: NaN.
    """
    found = {name: measured[name] for name in ("refuse", "comply")}
    found["score"] = found["refuse"] + found["comply"]
    variables: dict[str, Any] = {}
    for name, values in found.items():
        attrs = {"units": "1", "long_name": _MEANINGS[name]}
        ends = np.full((2, *values.shape[:-1]), np.nan)
        if confidence is not None:
            tail = (1 - confidence) / 2
            own = values[..., 0]
            low, high = 2 * own - np.quantile(values[..., 1:], [1 - tail, tail], axis=-1)
            most = 2.0 if name == "score" else 1.0
            ends = np.clip([np.minimum(low, own), np.maximum(high, own)], -most, most)
        cell = ("layer", "position")
        variables[name] = (cell, values[..., 0], attrs)
        variables[f"{name}_interval"] = ((*cell, "bound"), np.moveaxis(ends, 0, -1), attrs)
    return variables


def _cosines(
    first: Float[np.ndarray, "resample d_model"], second: Float[np.ndarray, "resample d_model"]
) -> Float[np.ndarray, " resample"]:
    """Row by row."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / np.where(lengths > 0, lengths, np.nan)


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    """Between two vectors."""
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
