"""What is asked of every wrapped model when it is loaded, and before its first reply.

TransformerLens knows the names of thousands of checkpoints, and most were never tried. One short
text shows whether the wrapper computes what the plain network does, which blocks write to the
stream by other ways than attention and MLP, whether an ablated direction really is gone, and
whether padding leaves a prompt alone. `verify_model` asks more, and shows it.
"""

from collections.abc import Iterable, Sequence
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.artifact import environment
from workbench.errors import ModelError
from workbench.models.hooked import Hook, HookedModel
from workbench.models.reference import Reference, plain_logits
from workbench.models.sites import Inner, Site
from workbench.models.tokens import Tokens

_WIDE = (torch.float32, torch.float64)
N_STEPS = 2
"""Generated tokens that are compared with plain forwards."""

Place = tuple[Site | Inner, int]


def tolerance(model: HookedModel, wide: float, narrow: float) -> float:
    """What rounding may do: one number for 32 bits and more, one for fewer."""
    exact = model.dtype in _WIDE and getattr(model.network, "hf_quantizer", None) is None
    return wide if exact else narrow


def check_loaded(model: HookedModel, reference: Reference) -> None:
    """Compares a freshly wrapped model with its plain network, and learns what its blocks do.

    Sets ``model.sites.mixed`` and ``model.pads``.

    Raises:
        ModelError: logits, or the stream of some layer, are not those of the plain network; or
            something of an ablated direction is left.
    """
    check_logits(model, reference)
    model.sites.mixed = frozenset(
        layer
        for layer, rest in enumerate(unexplained(model, reference))
        if not rest <= tolerance(model, 1e-4, 0.02)
    )
    model.sites.unwritable = _unwritable(model, reference)
    check_ablation(model, reference)
    model.pads = padding_gap(model, reference) <= tolerance(model, 1e-3, 0.1)


def logits_gap(found: Tensor, truth: Tensor) -> float:
    """Largest difference, in standard deviations of the true logits."""
    return float((found - truth).abs().max() / truth.std().clamp(min=1e-12))


def check_logits(model: HookedModel, reference: Reference) -> float:
    """The gap between wrapped and plain logits, in standard deviations.

    Raises:
        ModelError: it is more than rounding; the first layer that differs is named.
    """
    gap = logits_gap(wrapped_logits(model, reference), reference.logits)
    if gap <= tolerance(model, 1e-3, 0.1):
        return gap
    blocks = stream_gaps(model, reference)
    allowed = tolerance(model, 1e-3, 0.05)
    first = next((layer for layer, own in enumerate(blocks) if not own <= allowed), None)
    where = (
        "though every block's output agrees"
        if first is None
        else f"first in the output of layer {first} ({_kind(model, first)})"
    )
    raise ModelError(
        f"TransformerLens does not compute what {model.name} computes: logits are off by {gap:.2g} "
        f"standard deviations from Hugging Face's own, {where}. Nothing read from it would be "
        f"true, so it is refused. {versions()}"
    )


def versions() -> str:
    """The libraries that decide what a wrapper computes, for messages."""
    found = environment()
    names = ("torch", "transformers", "transformer-lens")
    told = ", ".join(f"{name} {found[name]}" for name in names if name in found)
    return f"Versions: {told}."


def _kind(model: HookedModel, layer: int) -> str:
    return type(model.bridge.blocks[layer].original_component).__name__


@torch.no_grad()
def wrapped_logits(model: HookedModel, reference: Reference) -> Float[Tensor, "token d_vocab"]:
    """The reference's text through the wrapped network."""
    return plain_logits(model.network, reference.ids.to(model.device)).float().cpu()


def read_places(
    model: HookedModel,
    reference: Reference,
    places: Iterable[Place],
    edits: Sequence[tuple[Site | Inner, int, Hook]] = (),
) -> dict[Place, Float[Tensor, "token d_site"]]:
    """Activations at some places on the reference's text, in float32, with edits before them."""
    found: dict[Place, Tensor] = {}

    def reader(place: Place) -> Hook:
        def read(x: Tensor) -> None:
            # Some blocks hand the tokens of a batch on in one row.
            rows = x.detach() if x.ndim == 2 else x.detach()[-1]
            found[place] = rows.flatten(1).float().cpu()

        return read

    hooks = [*edits, *((site, layer, reader((site, layer))) for site, layer in places)]
    with model.hooks(hooks):
        wrapped_logits(model, reference)
    return found


def stream_gaps(model: HookedModel, reference: Reference) -> list[float]:
    """How far each block's output is from the plain network's, as a share of its length."""
    places: list[Place] = [("resid_post", layer) for layer in range(model.n_layers)]
    found = read_places(model, reference, places)
    gaps = []
    for layer in range(model.n_layers):
        block = model.bridge.blocks[layer].original_component
        truth, own = reference.outputs.get(id(block)), found.get(("resid_post", layer))
        known = truth is not None and own is not None
        gaps.append(share(own[-len(truth) :] - truth, truth) if known else float("nan"))
    return gaps


def share(part: Tensor, whole: Tensor) -> float:
    """Largest length of a part as a share of the whole, over tokens."""
    return float((part.norm(dim=-1) / whole.norm(dim=-1).clamp(min=1e-12)).max())


def unexplained(model: HookedModel, reference: Reference) -> list[float]:
    """How much of each block's output is not ``resid_pre + attn_out + mlp_out``, as a share.

    Infinite where the block lacks one of the two, so that they cannot be all that writes.
    """
    parts: tuple[Site, ...] = ("resid_pre", "attn_out", "mlp_out")
    whole = [
        layer
        for layer in range(model.n_layers)
        if all(model.sites.has(site, layer) for site in parts)
    ]
    wanted: list[Place] = [(site, layer) for site in (*parts, "resid_post") for layer in whole]
    found = read_places(model, reference, wanted)
    rests = [float("inf")] * model.n_layers
    for layer in whole:
        output = found[("resid_post", layer)]
        rests[layer] = share(output - sum(found[(site, layer)] for site in parts), output)
    return rests


def ablation_left(model: HookedModel, reference: Reference) -> dict[Place, float]:
    """What is left along an ablated direction, as a share of a token's length.

    At the input of every layer, at what its MLP reads where that is a place of its own, and at the
    end. The direction is one along which the plain stream lies at every layer.
    """
    ends: list[Place] = [("resid_post", layer) for layer in range(model.n_layers)]
    stream = read_places(model, reference, ends)
    last = torch.stack([stream[place][-1] for place in ends])
    unit = (last / last.norm(dim=-1, keepdim=True).clamp(min=1e-12)).sum(0)
    unit = unit / unit.norm()

    def ablate(x: Tensor) -> Tensor:
        wide, own = x.float(), unit.to(x.device)
        return (wide - (wide @ own).unsqueeze(-1) * own).to(x.dtype)

    places = model.sites.ablation_places(range(model.n_layers))
    seen: list[Place] = [("resid_pre", layer) for layer in range(model.n_layers)]
    if "resid_mid" not in model.sites.unwritable:
        seen += [("resid_mid", layer) for layer in sorted(model.sites.mixed)]
    seen = [place for place in seen if model.sites.has(*place)] + ends[-1:]
    found = read_places(model, reference, seen, [(site, at, ablate) for site, at in places])
    return {place: share((x @ unit).unsqueeze(-1), x) for place, x in found.items()}


def _unwritable(model: HookedModel, reference: Reference) -> frozenset[str]:
    """``resid_mid``, where the bridge cannot put back what a block read in the middle."""
    places = [("resid_mid", layer) for layer in sorted(model.sites.mixed)]
    edits: list[tuple[Site | Inner, int, Hook]] = [
        (site, layer, torch.clone) for site, layer in places if model.sites.has(site, layer)
    ]
    try:
        with model.hooks(edits):
            wrapped_logits(model, reference)
    except Exception:  # an architecture may object in any way it likes
        return frozenset({"resid_mid"})
    return frozenset()


def check_ablation(model: HookedModel, reference: Reference) -> float:
    """The largest share that ablation leaves.

    Raises:
        ModelError: it is more than rounding.
    """
    left = ablation_left(model, reference)
    (site, layer), worst = max(left.items(), key=lambda item: item[1])
    if not worst <= tolerance(model, 1e-3, 0.02):
        raise ModelError(
            f"a direction cannot be ablated in {model.name}: {worst:.2g} of a token's length is "
            f"left along it at {site} of layer {layer} ({_kind(model, layer)}). {versions()}"
        )
    return worst


def padding_gap(model: HookedModel, reference: Reference) -> float:
    """How far padding on the left moves the text's last logits, in standard deviations."""
    ids = reference.ids.to(model.device)
    pad = model.tokenizer.pad_token_id or 0
    filler = torch.full_like(ids[:, : ids.shape[1] // 2], pad)
    mask = torch.cat([torch.zeros_like(filler), torch.ones_like(ids)], dim=1)
    with torch.no_grad():
        padded = plain_logits(model.network, torch.cat([filler, ids], dim=1), mask)[-1:]
    gap = logits_gap(padded.float().cpu(), reference.logits[-1:])
    return gap if gap == gap else float("inf")


@torch.no_grad()
def cache_gap(model: HookedModel, tokens: Tokens) -> float:
    """How far generation with a cache is from plain forwards, in standard deviations of logits.

    Over the first tokens of the reply to one prompt, under whatever interventions are active.
    """
    from workbench.models.generate import generated

    one = tokens.rows([0])
    ids, steps = generated(model, one, N_STEPS + 1)
    with model.reading(one):
        plain = plain_logits(model.network, ids[:, :-1], _extended(one.mask, N_STEPS))
    truth = plain[-N_STEPS - 1 :].float().cpu()
    return logits_gap(steps[:, 0].float().cpu(), truth)


def _extended(mask: Tensor, n: int) -> Tensor:
    return torch.cat([mask, mask.new_ones(len(mask), n)], dim=1)


def check_cache(model: HookedModel, tokens: Tokens) -> None:
    """Compares the first tokens of a reply with plain forwards, once per loaded model.

    Raises:
        ModelError: they differ by more than rounding, as they do where the wrapper drops the cache.
    """
    key = "generation"
    if key not in model.checked:
        gap = cache_gap(model, tokens)
        allowed = tolerance(model, 1e-2, 0.25)
        model.checked[key] = "" if gap <= allowed else f"differ from plain forwards by {gap:.2g}"
    if reason := model.checked[key]:
        raise ModelError(
            f"replies of {model.name} cannot be trusted: the logits of its second and third token "
            f"{reason} standard deviations, so its key-value cache is lost or wrong. That is no "
            f"fault of the prompts. {versions()} Install versions within the bounds of this "
            "package."
        )
