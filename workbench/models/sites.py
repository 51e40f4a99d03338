"""Which sites each block of a wrapped model has, and where a direction can be kept out of them.

Not every block is attention and an MLP. Hybrids put a convolution or a state-space mixer in place
of attention, or beside it; some blocks scale or normalise the stream itself. What a block lacks is
refused by name, and what writes besides ``attn_out`` and ``mlp_out`` is found by adding up.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from workbench.errors import AxisError, ModelError

Site = Literal["resid_pre", "attn_out", "mlp_out", "z"]
"""Where a layer can be read or written.

``resid_pre`` is the input of the block; ``attn_out`` and ``mlp_out`` are what the block adds to the
stream, after a post-norm where the architecture has one; ``z`` is the heads' output before W_O.
"""

Inner = Literal["resid_mid", "resid_post"]
"""Places that only ablation needs: what the MLP reads, and the output of the block."""

Pattern = Literal["pattern"]
"""Attention after its softmax, [prompt head query key]: no place of the stream."""

Inside = Site | Inner | Pattern
Place = tuple[Inside, int]
"""A site of one layer."""

_HOOKS: Mapping[str, str] = {
    "resid_pre": "hook_resid_pre",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
    "z": "attn.hook_z",
    "resid_mid": "hook_resid_mid",
    "resid_post": "hook_resid_post",
    "pattern": "attn.hook_pattern",
}
_WHAT = {
    "attn_out": "attention that TransformerLens exposes",
    "z": "attention heads that TransformerLens exposes",
    "mlp_out": "MLP that TransformerLens exposes",
}


class Sites:
    """The sites of one wrapped model.

    Args:
        bridge: the TransformerBridge.
        name: of the model, for messages.

    Raises:
        ModelError: the bridge has no list of blocks with a stream between them.

    Attributes:
        mixed: layers whose output is not ``resid_pre + attn_out + mlp_out``: something else writes
            to the stream there, or scales or normalises it. Found when the model is loaded.
        unwritable: places that can be read, and at which nothing can be put back.
    """

    def __init__(self, bridge: Any, name: str):
        self.bridge, self.name = bridge, name
        self.n_layers: int = len(getattr(bridge, "blocks", ()))
        self.mixed: frozenset[int] = frozenset()
        self.unwritable: frozenset[str] = frozenset()
        self._hooks = set(bridge.hook_dict)
        for layer in range(self.n_layers):
            if not self.has("resid_pre", layer) or not self.has("resid_post", layer):
                self.n_layers = 0
        if not self.n_layers or self.n_layers != bridge.cfg.n_layers:
            raise ModelError(
                f"TransformerLens wraps {name} without one stream through {bridge.cfg.n_layers} "
                "blocks, so it has no layers to read. Use a decoder whose blocks run once, in "
                "order."
            )

    def has(self, site: str, layer: int) -> bool:
        """Whether that layer has that site."""
        return f"blocks.{layer}.{_HOOKS[site]}" in self._hooks

    def layers_with(self, site: Site) -> tuple[int, ...]:
        """The layers that have a site; all of them for ``resid_pre``.

        Raises:
            AxisError: no such site.
        """
        self._check_site(site, get_args(Site))
        return tuple(layer for layer in range(self.n_layers) if self.has(site, layer))

    def hook_name(self, site: str, layer: int) -> str:
        """The TransformerLens name of a site.

        Raises:
            AxisError: no such site or layer, or a layer that lacks the site.
        """
        self._check_site(site, _HOOKS)
        if not 0 <= layer < self.n_layers:
            raise AxisError(f"no layer {layer} in {self.name}: {self._known(site, layer)}.")
        if not self.has(site, layer):
            raise AxisError(self._lacking(site, layer))
        return f"blocks.{layer}.{_HOOKS[site]}"

    def _check_site(self, site: str, known: Iterable[str]) -> None:
        if site not in known:
            raise AxisError(f"no site {site!r}: {', '.join(get_args(Site))}.")

    def _known(self, site: str, layer: int) -> str:
        """The layers there are, and what the number after the last would be."""
        last = self.n_layers - 1
        if site == "resid_pre" and layer == self.n_layers:
            return (
                f"layers 0..{last}, and layer {layer} would be the output of the last block, which "
                f"is neither read nor written here; resid_pre of layer {last} is that block's input"
            )
        return f"layers 0..{last}. Pass layer={last} for the last"

    def adds_up(self, layer: int) -> bool:
        """Whether what is added at ``mlp_out`` of a layer is added to the output of its block."""
        return layer not in self.mixed and self.has("mlp_out", layer)

    def _lacking(self, site: str, layer: int) -> str:
        kind = type(getattr(self.bridge.blocks[layer], "original_component", None)).__name__
        having = [own for own in range(self.n_layers) if self.has(site, own)]
        remedy = f"Pass layers={having}, or" if having else "Use"
        return (
            f"layer {layer} of {self.name} ({kind}) has no {_WHAT.get(site, site)}, so no {site}. "
            f"Layers with it: {', '.join(map(str, having)) or 'none'}. {remedy} site 'resid_pre', "
            "which every layer has."
        )

    def ablation_places(self, layers: Sequence[int]) -> list[Place]:
        """Where a direction is taken out so that nothing of it is left in these layers.

        At the input of every block before which nothing is ablated, and at what each block writes.
        Where that is not ``attn_out`` and ``mlp_out`` alone, also at what the MLP reads and at the
        output of the block.
        """
        chosen = set(layers)
        entries = [layer for layer in layers if layer - 1 not in chosen]
        places: list[Place] = [("resid_pre", layer) for layer in entries]
        inner: tuple[Site | Inner, ...] = ("attn_out", "mlp_out", "resid_mid", "resid_post")
        for site in inner:
            if site not in self.unwritable:
                wanted = chosen if site in get_args(Site) else chosen & self.mixed
                at: list[Place] = [(site, layer) for layer in sorted(wanted)]
                places += [place for place in at if self.has(*place)]
        return places
