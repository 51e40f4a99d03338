"""What a direction says in tokens, read through the model's own final norm and unembedding."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from workbench.activations import Activations
from workbench.analysis.inputs import check_places, single_vectors
from workbench.analysis.selection.controls import KINDS, Kind, control_directions, control_kinds
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, ModelError, StudyError
from workbench.models.form import check_matrix
from workbench.models.hooked import HookedModel
from workbench.positions import Position, position_axis

SIGNS = ("promoted", "suppressed")
_FEWEST = 20
"""Draws of which one in twenty can be told from the others."""
_AT_ONCE = 16
"""Random directions that are read together: a vocabulary can be large."""


@checked
def logit_lens(
    model: HookedModel,
    directions: Directions | Sequence[Directions],
    *,
    top_k: int = 20,
    activations: Activations | Sequence[Activations] | None = None,
    n_random: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """The tokens that each direction promotes and suppresses most.

    The stream is read as if it held nothing but the direction. The final norm gives every vector
    the length that the unembedding expects, so the length of this one does not matter: logits say
    which tokens it favours over which, not how far a given coefficient moves them. Biases of the
    norm and the unembedding are no part of a direction and cancel: taken is half the difference of
    the readouts of the vector and of its negative, minus its mean over the vocabulary, which
    changes no probability.

    Args:
        model: the model.
        directions: one vector per name, all at one layer and position; or several such sets.
        top_k: how many tokens of either sign.
        activations: per prompt, harmful and harmless, where the directions were read: then also
            directions are drawn that point as activations vary, and means of shuffled labels.
        n_random: random directions of each kind.
        confidence: how many of them stay below ``chance_z``.
        seed: of the draws.

    Returns:
        Dataset over (name, sign, rank), the strongest first: ``token_id``, ``token``, ``logit``,
        and ``z``, the logit in standard deviations over the vocabulary. Directions without meaning
        have a strongest token too: in 95 % of them its z is below ``chance_z`` (name, null), for
        the kinds of `control_directions` that could be drawn where that direction was read.
        Either sign has the same: as often as a vector its negative is drawn.

    Raises:
        AxisError: the directions do not fit the model, or ``top_k`` its vocabulary.
        ModelError: TransformerLens cannot read this architecture.
        StudyError: fewer than 20 random directions, or activations of which none can be drawn.

    Source: nostalgebraist 2020, "interpreting GPT: the logit lens"; TransformerLens'
    ``logit_readout``.
    """
    vectors = single_vectors(directions)
    for each in vectors.values():
        check_places(model, each)
    stacked = torch.stack([each.unit().vector.float().cpu() for each in vectors.values()])
    logits = _readout(model, stacked)
    d_vocab = logits.shape[1]
    if not 1 <= top_k <= d_vocab // 2:
        raise AxisError(f"top_k={top_k} is not within 1..{d_vocab // 2}, half the vocabulary.")
    kinds: list[Kind] = ["isotropic"] if activations is None else [*KINDS]
    chance = _chance(model, vectors, kinds, activations, n_random, confidence, seed)
    z = logits / logits.std(dim=1, keepdim=True).clamp(min=1e-12)
    ids = torch.stack(
        [(sign * logits).topk(top_k, dim=1).indices for sign in (1, -1)], dim=1
    )  # [name, sign, rank]
    axes = ("name", "sign", "rank")

    def chosen(values: Tensor) -> np.ndarray:
        return values.unsqueeze(1).expand(-1, 2, -1).gather(2, ids).numpy()

    texts = [token_text(model, token) for token in ids.flatten().tolist()]
    return xr.Dataset(
        {
            "token_id": (axes, ids.numpy()),
            "token": (axes, np.array(texts, dtype=object).reshape(ids.shape)),
            "logit": (axes, chosen(logits), {"units": "nats", "long_name": "centred logit"}),
            "z": (axes, chosen(z), {"units": "standard deviations over the vocabulary"}),
            "chance_z": (
                ("name", "null"),
                chance,
                {
                    "units": "standard deviations over the vocabulary",
                    "long_name": "reach of the strongest token of directions without meaning",
                },
            ),
        },
        coords={
            "name": list(vectors),
            "sign": list(SIGNS),
            "rank": range(1, top_k + 1),
            "null": kinds,
            "layer": ("name", [each.layers[0] for each in vectors.values()]),
            "position": ("name", position_axis([each.positions[0] for each in vectors.values()])),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "d_vocab": d_vocab,
            "n_random": n_random,
            "confidence": confidence,
            "seed": seed,
            "norm": "each direction alone, at the length that the final norm gives it",
            "provenance": {
                **model.provenance,
                "directions": {name: dict(each.provenance) for name, each in vectors.items()},
            },
        },
    )


def unembedding_rows(
    model: HookedModel, token_ids: Sequence[int]
) -> Float[Tensor, "token d_model"]:
    """For each token the vector that raises its logit over the others', in the stream's own basis.

    The gain of the final norm is folded in, the mean row over the vocabulary is taken out, and
    where the norm removes the mean of the stream so do the rows. Up to the norm's scale, a token's
    logit minus the mean logit is the product of its row with the stream.

    Raises:
        AxisError: a token id lies outside the vocabulary.
    """
    check_matrix(model.bridge.unembed, "the unembedding", model.name)
    unembedding = model.bridge.W_U.detach()
    d_vocab = unembedding.shape[1]
    wrong = [token for token in token_ids if not 0 <= token < d_vocab]
    if wrong or not len(token_ids):
        raise AxisError(f"token ids must lie in 0..{d_vocab - 1}, found {list(token_ids)[:10]}.")
    # The mean in float32: a large vocabulary would not fit twice over in float64.
    mean = unembedding.mean(dim=1, keepdim=True, dtype=torch.float32)
    chosen = unembedding[:, list(token_ids)].double() - mean.double()
    gain, removes_mean = _final_norm(model)
    rows = (chosen * gain.to(chosen).unsqueeze(1)).T.cpu()
    return rows - rows.mean(dim=1, keepdim=True) if removes_mean else rows


def token_text(model: HookedModel, token: int) -> str:
    """A token as text; its entry in the vocabulary where it has none of its own."""
    text = model.tokenizer.decode([token])
    if text and "\N{REPLACEMENT CHARACTER}" not in text:
        return text
    entry = model.tokenizer.convert_ids_to_tokens(token)
    return f"<{token}>" if entry is None else str(entry)


def _readout(
    model: HookedModel, vectors: Float[Tensor, "name d_model"]
) -> Float[Tensor, "name d_vocab"]:
    """Logits of each vector alone, without biases, centred over the vocabulary."""
    from transformer_lens.tools.analysis.logit_lens import logit_readout

    if vectors.shape[1] != model.d_model:
        raise AxisError(
            f"directions of width {vectors.shape[1]} do not fit {model.name}: d_model is "
            f"{model.d_model}."
        )
    check_matrix(model.bridge.unembed, "the unembedding", model.name)
    # At length sqrt(d_model) the epsilon of the norm is nothing beside the vector.
    scaled = vectors * model.d_model**0.5
    try:
        values = logit_readout(model.bridge, torch.cat([scaled, -scaled])).values
    except (ValueError, NotImplementedError) as error:
        raise ModelError(f"the logits of {model.name} cannot be read off: {error}") from error
    plus, minus = values.float().cpu().chunk(2)
    logits = (plus - minus) / 2
    return logits - logits.mean(dim=1, keepdim=True)


@torch.no_grad()
def _final_norm(model: HookedModel) -> tuple[Float[Tensor, " d_model"], bool]:
    """The gain of the final norm, and whether it takes the mean out; found by trying it.

    Architectures store the gain differently (Gemma as gain - 1), so it is measured on a vector of
    ones with alternating signs, which has mean 0 and length 1 per dimension.
    """
    norm = getattr(model.bridge, "ln_final", None)
    probe = torch.ones(model.d_model, dtype=model.dtype, device=model.bridge.W_U.device)
    if norm is None:
        return probe, False
    probe[1::2] = -1

    def normed(vector: Tensor) -> Tensor:
        return norm(vector.view(1, 1, -1)).flatten()

    gain = (normed(probe) - normed(-probe)) / 2 * probe
    return gain, torch.allclose(normed(probe + 1), normed(probe), rtol=1e-2, atol=1e-2)


def _chance(
    model: HookedModel,
    vectors: Mapping[str, Directions],
    kinds: Sequence[Kind],
    activations: Activations | Sequence[Activations] | None,
    n: int,
    confidence: float,
    seed: int,
) -> Float[np.ndarray, "name null"]:
    """How far the strongest token of a control reaches, in all but the strongest few controls."""
    if n < _FEWEST:
        raise StudyError(f"n_random must be at least {_FEWEST}, found {n}: they give a quantile.")
    known: dict[tuple[int, Position], list[float]] = {}
    for each in vectors.values():
        place = each.layers[0], each.positions[0]
        if place not in known:
            controls = control_directions(each, activations, kinds=kinds, n=n, seed=seed)
            reach, of_kind = strongest(model, controls), np.array(control_kinds(controls))
            known[place] = [_quantile(reach[of_kind == kind], confidence) for kind in kinds]
    return np.array([known[each.layers[0], each.positions[0]] for each in vectors.values()])


def strongest(model: HookedModel, directions: Directions) -> Float[np.ndarray, "name sign"]:
    """The z of the token that each direction promotes most, and of that which it suppresses most.

    Raises:
        WorkbenchError: as `logit_lens`.
    """
    vectors = directions.unit().values.flatten(0, 2).float().cpu()
    found = []
    for part in vectors.split(_AT_ONCE):
        logits = _readout(model, part)
        z = logits / logits.std(dim=1, keepdim=True).clamp(min=1e-12)
        found.append(torch.stack([z.amax(1), -z.amin(1)], dim=1))
    return torch.cat(found).double().numpy()


def _quantile(reach: np.ndarray, confidence: float) -> float:
    """What a further draw stays below with this confidence; both signs have the same law."""
    ordered = np.sort(reach, axis=None)
    return float(ordered[min(len(ordered), math.ceil(confidence * (len(ordered) + 1))) - 1])
