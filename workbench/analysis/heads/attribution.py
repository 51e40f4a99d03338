"""Which heads write a direction: every component's direct contribution to a projection."""

from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from workbench.analysis.inputs import prompt_axes
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, ModelError
from workbench.models.form import check_matrix
from workbench.models.forwards.capture import capture
from workbench.models.given import given_prompts
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.sites import Place
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.prompts.promptset import PromptSet
from workbench.statistics.intervals import MEAN_INTERVAL
from workbench.statistics.label_means import with_label_means

_STREAM = ("resid_pre", "attn_out", "mlp_out")
_WRITES = ("attn_out", "mlp_out")
_ROUNDING = {torch.float64: 1e-6, torch.float32: 1e-3}
"""How far the heads' sum may lie from attn_out, as a share of its length; coarser weights get 5 %.

What is not explained by rounding is an architecture that does something else after its heads.
"""


@dataclass(frozen=True)
class HeadWrites:
    """How the heads of one layer reach the stream, as far as one direction sees it.

    Where a norm stands between the heads and the stream, their sum ``x`` becomes ``s · g ⊙ x``: the
    gain ``g`` is fixed, the scale ``s`` is the token's own. Given the scale, heads add up again.

    Attributes:
        w_o: output projection of every head.
        b_o: its bias.
        gain: of the norm; ones where there is none.
        removes_mean: whether the norm takes the mean out of its input first.
        shift: bias of the norm.
        normed: whether there is a norm, so that the scale has to be found.
    """

    w_o: Float[Tensor, "head d_head d_model"]
    b_o: Float[Tensor, " d_model"]
    gain: Float[Tensor, " d_model"]
    removes_mean: bool
    shift: Float[Tensor, " d_model"]
    normed: bool

    def onto(
        self,
        unit: Float[Tensor, " d_model"],
        z: Float[Tensor, "prompt head d_head"],
        attn_out: Float[Tensor, "prompt d_model"],
    ) -> tuple[Float[Tensor, "prompt head"], Float[Tensor, " prompt"], float]:
        """Contributions of heads and biases onto a unit vector.

        The third value is how far heads and biases are from ``attn_out``, as a share of its length.
        """
        w_o = self.w_o.to(z)  # layer by layer: all of a large model's at once would not fit
        whole = self._through(torch.einsum("phd,hdm->pm", z, w_o) + self.b_o)
        written = attn_out - self.shift
        scale = torch.ones_like(whole[:, 0])
        if self.normed:
            scale = (written * whole).sum(1) / (whole * whole).sum(1).clamp(min=1e-30)
        gap = (scale[:, None] * whole - written).norm() / written.norm().clamp(min=1e-30)
        # r̂·(g ⊙ centred(x)) = centred(g ⊙ r̂)·x: the norm is moved onto the direction once.
        reader = self._centred(self.gain * unit)
        heads = torch.einsum("phd,hd->ph", z, w_o @ reader) * scale[:, None]
        return heads, (self.b_o @ reader) * scale + self.shift @ unit, float(gap)

    def _through(self, x: Tensor) -> Tensor:
        """The norm without its scale."""
        return self.gain * self._centred(x)

    def _centred(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True) if self.removes_mean else x


@checked
def direct_attribution(
    model: HookedModel,
    direction: Directions,
    prompts: Prompts,
    *,
    position: int = -1,
    layer: int | None = None,
    system: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Splits the projection on a direction into what each head, MLP and the embedding wrote.

    The stream is a sum, so ``r̂·x`` at a layer is the sum of what every earlier component wrote
    along ``r̂``. Through a post-norm, heads are scaled as the norm scaled that very token. Direct
    contributions only: what a head causes through later components is theirs, and a head that
    prevents a write has none. `patch_heads` measures effects.

    TransformerLens' ``direct_logit_attribution`` does this onto directions of the unembedding, on
    folded weights and without post-norms; here it is any direction, and the weights as they are.

    Args:
        model: the model.
        direction: one vector; only its direction matters.
        prompts: best harmful and harmless ones in one set; what differs between them is told apart
            from what is written in every prompt.
        position: where the stream is read, from the end of the rendered prompt.
        layer: splits the input of this block, ``n_layers`` for the end of the stream; by default
            where the direction was read, for ``attn_out`` and ``mlp_out`` the input of the next.
        system: a system prompt for all of them.
        confidence: of the intervals.
        seed: of their bootstrap.

    Returns:
        Dataset in units of the activations: ``contribution`` (group, layer, head),
        ``mlp_contribution`` and ``bias_contribution`` (group, layer), ``embed_contribution``
        (group), their sum's target ``projection`` (group), and ``remainder`` (group), what rounding
        leaves between the two. Each with ``…_interval`` (…, bound) and ``…_by_prompt``. Groups are
        labels and ``difference``, harmful minus harmless; ``n`` (group) counts prompts.

    Raises:
        AxisError: a layer or position that there is not, or a direction that does not fit.
        ModelError: an architecture whose heads do not add up to what attention writes.
    """
    unit, end = _checked(model, direction, layer)
    prompts = given_prompts(prompts)
    tokens = model.tokens(prompts, system)
    check_position(tokens, position)
    if mixed := sorted(layer for layer in model.sites.mixed if layer < end):
        raise ModelError(
            f"layers {mixed} of {model.name} write to the stream by other ways than attn_out and "
            "mlp_out, or scale it, so what heads write does not add up to the projection. Use "
            "patch_heads, which needs no sum, or a layer before those."
        )
    writes = [_head_writes(model, index) for index in range(end)]
    parts: dict[str, np.ndarray] = {
        "contribution": np.zeros((len(tokens), end, model.n_heads)),
        "mlp_contribution": np.zeros((len(tokens), end)),
        "bias_contribution": np.zeros((len(tokens), end)),
        "embed_contribution": np.zeros(len(tokens)),
        "projection": np.zeros(len(tokens)),
    }
    batches = model.batches(tokens)
    for chosen, batch in track(batches, "attributing heads", len(batches)):
        read = _read(model, batch, position, end)
        parts["embed_contribution"][chosen] = (read["start"] @ unit).cpu().numpy()
        parts["projection"][chosen] = (read["end"] @ unit).cpu().numpy()
        for index, own in enumerate(writes):
            z, attn_out = read[f"z{index}"], read[f"attn_out{index}"]
            heads, bias, gap = own.onto(unit, z.unflatten(1, (model.n_heads, -1)), attn_out)
            if not gap <= _ROUNDING.get(model.dtype, 0.05):
                raise ModelError(
                    f"the heads of layer {index} of {model.name} do not add up to what attention "
                    f"writes: {gap:.1%} of it is missing. Attribute outside of intervene; if it is "
                    "the architecture that does more, use patch_heads, which needs no sum."
                )
            parts["contribution"][chosen, index] = heads.cpu().numpy()
            parts["bias_contribution"][chosen, index] = bias.cpu().numpy()
            mlp = read[f"mlp_out{index}"] @ unit
            parts["mlp_contribution"][chosen, index] = mlp.cpu().numpy()
    explained = sum(
        parts[name].reshape(len(tokens), -1).sum(1) for name in parts if name != "projection"
    )
    parts["remainder"] = parts["projection"] - explained
    dims = ("prompt", "layer", "head")
    units = {"units": "units of the activations"}
    by_prompt = xr.Dataset(
        {
            f"{name}_by_prompt": (dims[: values.ndim], values, units)
            for name, values in parts.items()
        },
        coords={
            **prompt_axes(prompts, len(tokens)),
            "layer": list(range(end)),
            "head": list(range(model.n_heads)),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "position": position,
            "end_layer": end,
            "direction": direction.names[0],
            "direction_layer": direction.layers[0],
            "direction_position": direction.positions[0],
            "site": direction.site,
            "confidence": confidence,
            "interval": MEAN_INTERVAL,
            "seed": seed,
            "provenance": {
                **model.provenance,
                "prompts": prompts.fingerprint if isinstance(prompts, PromptSet) else None,
                "system": system,
                "direction": dict(direction.provenance),
            },
        },
    )
    return with_label_means(by_prompt, confidence, seed)


def check_position(tokens: Tokens, position: int) -> None:
    """Refuses a position that some prompt does not have.

    Raises:
        AxisError: it does not.
    """
    shortest = int(tokens.lengths.min())
    if not -shortest <= position < 0:
        raise AxisError(
            f"no position {position}: positions are negative, counted from the end, and the "
            f"shortest prompt has {shortest} tokens."
        )


def _checked(
    model: HookedModel, direction: Directions, layer: int | None
) -> tuple[Float[Tensor, " d_model"], int]:
    """The unit vector, at the width of the computations, and the layer whose input is split."""
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
    unit = direction.unit().vector.to(model.device, _wide(model))
    end = direction.layers[0] + (direction.site in _WRITES) if layer is None else layer
    if not 1 <= end <= model.n_layers:
        raise AxisError(
            f"nothing can be attributed at the input of layer {end} of {model.name}: expected "
            f"layer=1..{model.n_layers}, {model.n_layers} for the end of the stream."
        )
    return unit, end


def _wide(model: HookedModel) -> torch.dtype:
    """float32, or float64 where the weights are."""
    return torch.promote_types(model.dtype, torch.float32)


@torch.no_grad()
def _read(model: HookedModel, batch: Tokens, position: int, end: int) -> dict[str, Tensor]:
    """What one batch has at one position, from one forward that stops at the end."""
    places: dict[str, Place] = {"start": ("resid_pre", 0)}
    for layer in range(end):
        places |= {f"{site}{layer}": (site, layer) for site in ("z", *_WRITES)}
    places["end"] = ("resid_pre", end) if end < model.n_layers else ("resid_post", end - 1)
    found, _ = capture(model, batch, list(places.values()), (position,))
    return {name: found[at].flatten(1).to(_wide(model)) for name, at in places.items()}


@torch.no_grad()
def _head_writes(model: HookedModel, layer: int) -> HeadWrites:
    """How a layer's heads reach the stream; the norm after them is found by trying it."""
    block = model.bridge.blocks[layer]
    check_matrix(
        getattr(getattr(block, "attn", None), "o", None), f"W_O of layer {layer}", model.name
    )
    try:
        w_o = block.attn.W_O.detach()
    except AttributeError as error:
        raise ModelError(
            f"layer {layer} of {model.name} has no output projection that splits into heads, so "
            "it cannot be attributed."
        ) from error
    b_o = getattr(block.attn, "b_O", None)
    zeros = torch.zeros(model.d_model, dtype=_wide(model), device=model.device)
    ones = torch.ones_like(zeros)
    norm = block.ln1_post if "ln1_post" in block.submodules else None
    gain, shift, removes_mean = ones, zeros, False
    if norm is not None:
        # Without the wrapper's hooks, which may belong to an intervention.
        plain = norm.original_component
        probe = ones.clone()
        probe[1::2] = -1  # mean 0 and length 1 per dimension, so that any norm leaves it alone

        def normed(vector: Tensor) -> Tensor:
            return plain(vector.to(w_o).view(1, 1, -1)).flatten().to(zeros)

        plus, minus = normed(probe), normed(-probe)
        gain, shift = (plus - minus) / 2 * probe, (plus + minus) / 2
        removes_mean = torch.allclose(normed(probe + 1), plus, rtol=1e-2, atol=1e-2)
    return HeadWrites(
        w_o=w_o,
        b_o=zeros if b_o is None else b_o.detach().to(zeros),
        gain=gain,
        removes_mean=removes_mean,
        shift=shift,
        normed=norm is not None,
    )
