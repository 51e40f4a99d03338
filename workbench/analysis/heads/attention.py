"""Where heads look: attention from one position over the tokens of the prompt."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from workbench.analysis.heads.attribution import check_position
from workbench.analysis.inputs import prompt_axes
from workbench.arguments import checked
from workbench.errors import AxisError, ModelError
from workbench.labels import head_label
from workbench.models.forwards.capture import capturing
from workbench.models.given import given_prompts
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.sites import Place
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.prompts.promptset import PromptSet
from workbench.statistics.intervals import MEAN_INTERVAL
from workbench.statistics.label_means import with_label_means

PARTS = ("pre_instruction", "instruction", "post_instruction")
"""The template's tokens before the user's words, those words, and the template's after them."""


@checked
def collect_attention(
    model: HookedModel,
    heads: Sequence[tuple[int, int]],
    prompts: Prompts,
    *,
    position: int = -1,
    system: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Attention of some heads from one position, over the user's words and the template.

    The model's own patterns after the softmax. Attention says where a head reads, not what it
    takes from there: much of it often rests on the first token, whose value does little, so its
    share is told apart.

    Args:
        model: the model.
        heads: (layer, head) pairs, in the order in which they are shown; usually the top ones of
            `patch_heads` or `direct_attribution`.
        prompts: best harmful and harmless ones in one set.
        position: of the query, from the end of the rendered prompt.
        system: a system prompt for all of them; it counts as template.
        confidence: of the intervals.
        seed: of their bootstrap.

    Returns:
        Dataset whose ``head`` is ``"layer.head"``. ``mass`` (group, head, part), the share of
        attention on each part of the prompt; ``first_token`` (group, head), that on the very first
        token, whatever part it belongs to; each with ``…_interval`` (bound) and ``…_by_prompt``.
        ``attention`` (prompt, head, token), token by token, and ``token_text`` and ``token_part``
        (prompt, token); tokens count from the end, and there is NaN, and no text, before a prompt
        begins. Groups are labels and ``difference``, harmful minus harmless.

    Raises:
        AxisError: a head or position that there is not, or a head that appears twice.
        ModelError: an architecture without attention patterns.
    """
    pairs = [(int(layer), int(head)) for layer, head in heads]
    prompts = given_prompts(prompts)
    tokens = model.tokens(prompts, system)
    _check(model, tokens, pairs, position)
    n_prompts, width = tokens.ids.shape
    attention = np.full((n_prompts, len(pairs), width), np.nan)
    batches = model.batches(tokens)
    for chosen, batch in track(batches, "reading attention", len(batches)):
        # Batches are cut to their longest prompt: their columns are the last ones.
        attention[chosen, :, width - batch.ids.shape[1] :] = _patterns(
            model, batch, pairs, position
        )
    real = tokens.mask.cpu().numpy()
    attention[~np.broadcast_to(real[:, None], attention.shape)] = np.nan
    parts = _parts(tokens)
    known = np.nan_to_num(attention)
    mass = np.stack([(known * (parts == part)[:, None]).sum(-1) for part in PARTS], -1)
    first = np.take_along_axis(known, real.argmax(1)[:, None, None], axis=2)[..., 0]
    share = {"units": "share of attention"}
    by_prompt = xr.Dataset(
        {
            "mass_by_prompt": (("prompt", "head", "part"), mass, share),
            "first_token_by_prompt": (("prompt", "head"), first, share),
            "attention": (("prompt", "head", "token"), attention.astype(np.float32), share),
            "token_text": (("prompt", "token"), _texts(model, tokens)),
            "token_part": (("prompt", "token"), parts),
        },
        coords={
            **prompt_axes(prompts, n_prompts),
            "head": [head_label(layer, head) for layer, head in pairs],
            "head_layer": ("head", [layer for layer, _ in pairs]),
            "head_index": ("head", [head for _, head in pairs]),
            "part": list(PARTS),
            "token": list(range(-width, 0)),
        },
        attrs={
            "model": model.name,
            "position": position,
            "n_post": tokens.n_post,
            "confidence": confidence,
            "interval": MEAN_INTERVAL,
            "seed": seed,
            "provenance": {
                **model.provenance,
                "prompts": prompts.fingerprint if isinstance(prompts, PromptSet) else None,
                "system": system,
            },
        },
    )
    return with_label_means(by_prompt, confidence, seed)


def _check(
    model: HookedModel, tokens: Tokens, pairs: Sequence[tuple[int, int]], position: int
) -> None:
    """Refuses heads and positions that cannot be read."""
    if not pairs or len({*pairs}) < len(pairs):
        raise AxisError(f"expected at least one (layer, head), each once, found {list(pairs)}.")
    for layer, head in pairs:
        model.hook_name("z", layer)
        if not 0 <= head < model.n_heads:
            raise AxisError(f"no head {head} in {model.name}: heads 0..{model.n_heads - 1}.")
        if not model.sites.has("pattern", layer):
            raise ModelError(f"layer {layer} of {model.name} has no attention pattern to read.")
    check_position(tokens, position)


@torch.no_grad()
def _patterns(
    model: HookedModel, batch: Tokens, pairs: Sequence[tuple[int, int]], position: int
) -> Float[np.ndarray, "prompt head token"]:
    """One row of each head's pattern, from one forward that stops once all are read."""
    places: list[Place] = [("pattern", layer) for layer in sorted({layer for layer, _ in pairs})]
    with capturing(model, places, lambda own: own[:, :, [position]].float().cpu()) as rows:
        model.forward(batch)
    if missing := [layer for site, layer in places if (site, layer) not in rows]:
        raise ModelError(
            f"{model.name} computed no attention pattern in layer {missing[0]}; load it with eager "
            "attention."
        )
    return torch.stack([rows["pattern", layer][:, head, 0] for layer, head in pairs], 1).numpy()


def _parts(tokens: Tokens) -> np.ndarray:
    """Which part of its prompt each token belongs to; "" at padding."""
    parts = np.where(tokens.mask.cpu().numpy(), PARTS[0], "").astype(object)
    for part in ("instruction", "post_instruction"):
        parts[tokens.subset(part).cpu().numpy()] = part
    return parts


def _texts(model: HookedModel, tokens: Tokens) -> np.ndarray:
    """Every token as text; "" at padding."""
    real = tokens.mask.cpu().numpy()
    ids = tokens.ids.cpu().numpy()
    known = {int(token): model.tokenizer.decode([int(token)]) for token in np.unique(ids[real])}
    texts = np.full(ids.shape, "", dtype=object)
    texts[real] = [known[int(token)] for token in ids[real]]
    return texts
