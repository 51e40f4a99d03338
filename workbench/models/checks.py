"""What is asked of every wrapped model when it is loaded, and before its first reply.

TransformerLens knows the names of thousands of checkpoints, and most were never tried. One short
text shows whether the wrapper computes what the plain network does, which blocks write to the
stream by other ways than attention and MLP, whether an ablated direction really is gone, and
whether padding leaves a prompt alone. `verify_model` asks more, and shows it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.artifact import versions
from workbench.errors import ModelError
from workbench.models.forwards.capture import capturing
from workbench.models.generate import generated
from workbench.models.network import Hook, Network
from workbench.models.reference import Reference, by_site, plain_logits
from workbench.models.sites import Inside, Place, Site
from workbench.models.tokens import Tokens

_WIDE = (torch.float32, torch.float64)
N_STEPS = 2
"""Generated tokens that are compared with plain forwards."""

LOGITS = (1e-3, 0.05)
SUM = (1e-4, 0.02)
SITES = (1e-3, 0.05)
ABLATION = (1e-3, 0.02)
PADDING = (1e-3, 0.1)
CACHE = (1e-2, 0.1)
"""What rounding may do to each, in 32 bits and in fewer; logits in standard deviations."""


def tolerance(model: Network, wide: float, narrow: float) -> float:
    """What rounding may do: one number for 32 bits and more, one for fewer."""
    exact = model.dtype in _WIDE and getattr(model.network, "hf_quantizer", None) is None
    return wide if exact else narrow


def compare_with_plain(model: Network, plain: Reference) -> None:
    """Learns from a freshly wrapped model's plain network what its blocks do.

    Sets ``model.reference``, what ``model.sites`` knows of mixed blocks and of places that cannot
    be written, ``model.keeps_last``, ``model.pads``, ``model.generation_pads``, and in
    ``model.checked`` whether generation is what plain forwards give.

    Raises:
        ModelError: a site of which the wrapper knows and through which nothing passes.
    """
    model.reference = plain if plain.sites else by_site(plain, model.sites)
    model.sites.mixed = frozenset(
        layer for layer, rest in enumerate(unexplained(model)) if not rest <= tolerance(model, *SUM)
    )
    model.sites.unwritable = _unwritable(model)
    model.keeps_last = model.keeps_last and last_only_gap(model) <= tolerance(model, 1e-3, 0.1)
    model.pads = padding_gap(model) <= tolerance(model, *PADDING)
    model.checked["generation"] = cache_fault(model)
    if model.pads and not model.checked["generation"]:
        model.generation_pads = not cache_fault(model, padded=True)


def check_loaded(model: Network) -> None:
    """Refuses a model that is not what its plain network is.

    Raises:
        ModelError: logits are not those of the plain network, with the first site that differs; or
            something of an ablated direction is left.
    """
    check_logits(model)
    check_ablation(model)


def logits_gap(model: Network, found: Tensor, truth: Tensor) -> float:
    """Difference in standard deviations of the true logits.

    The largest one; of weights in 16 bits the root mean square, since rounding in deep networks
    moves single logits of a large vocabulary by as much as a small fault.
    """
    off = (found - truth).abs()
    size = off.max() if tolerance(model, 1.0, 0.0) else off.square().mean().sqrt()
    gap = float(size / truth.std().clamp(min=1e-12))
    return gap if gap == gap else float("inf")


def check_logits(model: Network) -> float:
    """The gap between wrapped and plain logits, in standard deviations.

    Raises:
        ModelError: it is more than rounding; the first site that differs is named.
    """
    gap = logits_gap(model, wrapped_logits(model), model.reference.logits)
    if gap <= tolerance(model, *LOGITS):
        return gap
    gaps = site_gaps(model)
    order = ("resid_pre", "z", "attn_out", "mlp_out", "resid_post")
    first = next(
        (
            (site, layer)
            for layer in range(model.n_layers)
            for site in order
            if not gaps.get((site, layer), 0.0) <= tolerance(model, *SITES)
        ),
        None,
    )
    where = (
        "though every site that can be compared agrees"
        if first is None
        else f"first at {first[0]} of layer {first[1]} ({_kind(model, first[1])})"
    )
    raise ModelError(
        f"TransformerLens does not compute what {model.name} computes: logits are off by {gap:.2g} "
        f"standard deviations from Hugging Face's own, {where}. Nothing read from it would be "
        f"true, so it is refused. {versions()}"
    )


def _kind(model: Network, layer: int) -> str:
    return type(model.bridge.blocks[layer].original_component).__name__


@torch.no_grad()
def wrapped_logits(model: Network) -> Float[Tensor, "token d_vocab"]:
    """The reference's text through the wrapped network."""
    return plain_logits(model.network, model.reference.ids.to(model.device)).float().cpu()


def read_places(
    model: Network,
    places: Iterable[Place],
    edits: Sequence[tuple[Inside, int, Hook]] = (),
) -> dict[Place, Float[Tensor, "_ _"]]:
    """Activations at some places on the reference's text, in float32, with edits before them.

    Places that the forward does not pass through are left out.
    """

    def take(x: Tensor) -> Tensor:
        # Some blocks hand the tokens of a batch on in one row.
        rows = x.detach() if x.ndim == 2 else x.detach()[-1]
        return rows.flatten(1).float().cpu().clone()

    with model.hooks(edits), capturing(model, places, take, stop=False) as found:
        wrapped_logits(model)
    return found


def site_gaps(model: Network) -> dict[Place, float]:
    """How far each site is from the plain network's, as a share of its length.

    Only sites that are the input or the output of one module of the network; not a number where
    the wrapper's hook does not fire.
    """
    truths: dict[Any, Tensor] = dict(model.reference.sites)
    found = read_places(model, truths)
    gaps: dict[Place, float] = {}
    for place, truth in truths.items():
        own = found.get(place)
        if own is None or own.shape[-1] != truth.shape[-1]:
            gaps[place] = float("nan")
        else:
            gaps[place] = share(own[-len(truth) :] - truth, truth)
    return gaps


def share(part: Tensor, whole: Tensor) -> float:
    """Largest length of a part as a share of the whole, over tokens."""
    return float((part.norm(dim=-1) / whole.norm(dim=-1).clamp(min=1e-12)).max())


def unexplained(model: Network) -> list[float]:
    """How much of each block's output is not ``resid_pre + attn_out + mlp_out``, as a share.

    Infinite where the block lacks one of the two, so that they cannot be all that writes.

    Raises:
        ModelError: a site of which the wrapper knows and through which nothing passes.
    """
    parts: tuple[Site, ...] = ("resid_pre", "attn_out", "mlp_out")
    whole = [
        layer
        for layer in range(model.n_layers)
        if all(model.sites.has(site, layer) for site in parts)
    ]
    wanted: list[Place] = [(site, layer) for site in (*parts, "resid_post") for layer in whole]
    found = read_places(model, wanted)
    for site, layer in wanted:
        if (site, layer) not in found:
            raise ModelError(
                f"TransformerLens names {site} at layer {layer} ({_kind(model, layer)}) of "
                f"{model.name}, and no forward passes through it, so the stream cannot be read. "
                f"{versions()}"
            )
    rests = [float("inf")] * model.n_layers
    for layer in whole:
        output = found[("resid_post", layer)]
        rests[layer] = share(output - sum(found[(site, layer)] for site in parts), output)
    return rests


def ablation_left(model: Network) -> dict[Place, float]:
    """What is left along an ablated direction, as a share of a token's length.

    At the input of every layer, at what its MLP reads where that is a place of its own, and at the
    end. The direction is one along which the plain stream lies at every layer.
    """
    ends: list[Place] = [("resid_post", layer) for layer in range(model.n_layers)]
    stream = read_places(model, ends)
    last = torch.stack([stream[place][-1] for place in ends])
    unit = (last / last.norm(dim=-1, keepdim=True).clamp(min=1e-12)).sum(0)
    unit = unit / unit.norm()

    def ablate(x: Tensor) -> Tensor:
        wide, own = x.float(), unit.to(x.device)
        return (wide - (wide @ own).unsqueeze(-1) * own).to(x.dtype)

    places = model.sites.ablation_places(range(model.n_layers))
    seen: list[Place] = [("resid_pre", layer) for layer in range(model.n_layers)]
    if "resid_mid" not in model.sites.unwritable:
        seen += _middles(model)
    seen += ends[-1:]
    plain = read_places(model, seen)
    found = read_places(model, seen, [(site, at, ablate) for site, at in places])
    # Of the plain length: where a token lay along the direction alone, nothing of it is left.
    return {place: share((x @ unit).unsqueeze(-1), plain[place]) for place, x in found.items()}


def _unwritable(model: Network) -> frozenset[str]:
    """``resid_mid``, where the bridge cannot put back what a block read in the middle."""
    try:
        with model.hooks((site, layer, lambda x: x.clone()) for site, layer in _middles(model)):
            wrapped_logits(model)
    except Exception:  # an architecture may object in any way it likes
        return frozenset({"resid_mid"})
    return frozenset()


def _middles(model: Network) -> list[Place]:
    """What the MLP reads in blocks where more than attention and MLP writes."""
    places: list[Place] = [("resid_mid", layer) for layer in sorted(model.sites.mixed)]
    return [place for place in places if model.sites.has(*place)]


def largest(found: Mapping[Place, float]) -> tuple[Place, float]:
    """The place with the largest number; one that is no number is larger than all."""
    return max(found.items(), key=lambda item: item[1] if item[1] == item[1] else float("inf"))


def check_ablation(model: Network) -> float:
    """The largest share that ablation leaves.

    Raises:
        ModelError: it is more than rounding.
    """
    left = ablation_left(model)
    (site, layer), worst = largest(left)
    if not worst <= tolerance(model, *ABLATION):
        raise ModelError(
            f"a direction cannot be ablated in {model.name}: {worst:.2g} of a token's length is "
            f"left along it at {site} of layer {layer} ({_kind(model, layer)}). {versions()}"
        )
    return worst


@torch.no_grad()
def last_only_gap(model: Network) -> float:
    """How far logits for the last position alone are from those of all, in standard deviations."""
    ids = model.reference.ids.to(model.device)
    try:
        found = model.network(input_ids=ids, use_cache=False, **model.last_only(ids.shape[1]))
    except Exception:  # an architecture may object in any way it likes
        return float("inf")
    return logits_gap(model, found.logits[-1, -1:].float().cpu(), model.reference.logits[-1:])


def padding_gap(model: Network) -> float:
    """How far padding on the left moves the text's last logits, in standard deviations."""
    ids = model.reference.ids.to(model.device)
    pad = model.tokenizer.pad_token_id or 0
    filler = torch.full_like(ids[:, : ids.shape[1] // 2], pad)
    mask = torch.cat([torch.zeros_like(filler), torch.ones_like(ids)], dim=1)
    with torch.no_grad():
        padded = plain_logits(model.network, torch.cat([filler, ids], dim=1), mask)[-1:]
    return logits_gap(model, padded.float().cpu(), model.reference.logits[-1:])


@torch.no_grad()
def cache_gap(model: Network, padded: bool = False) -> float:
    """How far generation with a cache is from plain forwards, in standard deviations of logits.

    Over the first tokens after the reference's text; ``padded``, over those after its first half
    where that is answered beside the whole, with padding before it, which the whole is not asked.
    """
    whole = model.reference.ids.to(model.device)
    n = whole.shape[1] // 2 if padded else whole.shape[1]
    ids, mask = whole, torch.ones_like(whole, dtype=torch.bool)
    if padded:
        filler = torch.full_like(whole[:, n:], model.tokenizer.pad_token_id or 0)
        ids = torch.cat([whole, torch.cat([filler, whole[:, :n]], dim=1)])
        mask = mask.repeat(2, 1)
        mask[1, : filler.shape[1]] = False
    found, steps = generated(model, Tokens(ids, mask, 0, 1, ("",)), N_STEPS + 1)
    own = found[-1:, -n - N_STEPS - 1 : -1]
    truth = plain_logits(model.network, own)[-N_STEPS - 1 :]
    return logits_gap(model, steps[:, -1].float().cpu(), truth.float().cpu())


def cache_fault(model: Network, padded: bool = False) -> str:
    """Why replies cannot be trusted; nothing where they can. ``padded``: as in `cache_gap`."""
    try:
        gap = cache_gap(model, padded)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # an architecture may object in any way it likes
        first = next(iter(str(error).splitlines()), "no message")[:200]
        return f"cannot be compared with plain forwards ({type(error).__name__}: {first})"
    if gap <= tolerance(model, *CACHE):
        return ""
    return f"differ from plain forwards by {gap:.2g} standard deviations"
