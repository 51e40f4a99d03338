"""What a direction says in tokens, read through the model's own final norm and unembedding."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from workbench.analysis.components import check_places, single_vectors
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, ModelError
from workbench.models.hooked import HookedModel
from workbench.positions import position_axis

SIGNS = ("promoted", "suppressed")


@checked
def read_vocabulary(
    model: HookedModel, directions: Directions | Sequence[Directions], top_k: int = 20
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

    Returns:
        Dataset over (name, sign, rank), the strongest first: ``token_id``, ``token``, ``logit``,
        and ``z``, the logit in standard deviations over the vocabulary. Random directions have a
        strongest token too: its z is about ``chance_z`` in ``attrs``, the expected maximum of as
        many normal numbers.

    Raises:
        AxisError: the directions do not fit the model, or ``top_k`` its vocabulary.
        ModelError: TransformerLens cannot read this architecture.

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
        },
        coords={
            "name": list(vectors),
            "sign": list(SIGNS),
            "rank": range(1, top_k + 1),
            "layer": ("name", [each.layers[0] for each in vectors.values()]),
            "position": ("name", position_axis([each.positions[0] for each in vectors.values()])),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "d_vocab": d_vocab,
            "chance_z": _expected_maximum(d_vocab),
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


def _expected_maximum(n: int) -> float:
    """About the expected largest of n standard normal numbers (Blom 1958)."""
    from scipy.stats import norm

    return float(norm.ppf((n - 0.375) / (n + 0.25)))
