"""The network under a `HookedModel`: sites, hooks, and forward passes over batches of tokens."""

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.artifact import environment
from workbench.errors import AxisError, ModelError
from workbench.models.form import Form
from workbench.models.head_layout import by_head, projected_width
from workbench.models.reference import Reference, weights_fingerprint
from workbench.models.sites import Inside, Site, Sites
from workbench.models.tokens import ChatTemplate, Tokens

Hook = Callable[[Tensor], Tensor | None]
"""Reads an activation [prompt token ...] and replaces it unless it returns None."""


class StopForward(Exception):
    """Ends a forward pass early, from inside a hook, once everything wanted has been read."""


@dataclass(frozen=True)
class ForwardPass:
    """Which columns of which prompts the model is reading now.

    Attributes:
        tokens: the prompts of the batch.
        start: column of the first token of this forward; counts on through a reply.
        variants: how many copies of these columns stand one after the other; see `models.forwards`.
    """

    tokens: Tokens
    start: int
    variants: int = 1

    def columns(self, width: int) -> Int[Tensor, " token"]:
        """Column of the prompt, or of prompt and reply, that each token of this forward fills."""
        return torch.arange(self.start, self.start + width // self.variants).repeat(self.variants)


class Network:
    """A chat model whose sites can be read and written during forward passes.

    Attributes:
        bridge: the TransformerBridge; every TransformerLens tool works on it.
        tokenizer: the Hugging Face tokenizer.
        name: what `load_model` was asked for.
        batch_tokens: most tokens, padding counted, that go through the model at once. Lower it
            when memory runs out; results do not depend on it.
        current: the forward pass that is running, None outside of one. Interventions on a subset
            of the tokens read it.
        sites: which sites each layer has.
        reference: what the plain network gave on a short text, before it was wrapped.
        pads: whether padding on the left leaves a prompt as it is. Where it does not, prompts of
            one length go through the model together, and no others.
        generation_pads: whether that holds of replies, too: a network counts positions itself.
        checked: what was found when shortcuts through this model were compared with plain
            forwards: nothing, or why they cannot be taken. See `models.forwards`.
        n_raw_hooks: how many blocks of `hooks` are open whose functions may not know about
            variants; forwards are not packed meanwhile.
        edits: what interventions are active, as results made meanwhile carry it.
        form: in what form the weights came, empty for an ordinary checkpoint; see `models.form`.
        adapter: what `load_model` was given as ``adapter=``.
        plain_weights: as `weights_fingerprint`, of the network before it was wrapped, whose names
            the wrapper adds to; so a model with an adapter knows the hash of its base.
    """

    def __init__(
        self, bridge: Any, tokenizer: Any, name: str, template: ChatTemplate, revision: str | None
    ):
        self.bridge = bridge
        self.tokenizer = tokenizer
        self.name = name
        self.template = template
        self.revision = revision
        self.batch_tokens = 8192
        self.current: ForwardPass | None = None
        self.checked: dict[str, str] = {}
        self.n_raw_hooks = 0
        self.edits: tuple[Mapping[str, Any], ...] = ()
        self.form: Form = {}
        self.adapter: str | None = None
        self.plain_weights = ""
        self.sites = Sites(bridge, name)
        self.reference = Reference(torch.zeros(1, 0, dtype=torch.int64), torch.zeros(0, 0))
        self.pads = True
        self.generation_pads = True
        self.keeps_last = "logits_to_keep" in inspect.signature(self.network.forward).parameters

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.name!r}, n_layers={self.n_layers}, "
            f"n_heads={self.n_heads}, d_model={self.d_model}, dtype={self.dtype}, "
            f"device={self.device})"
        )

    @property
    def network(self) -> torch.nn.Module:
        """The Hugging Face model under the bridge; its own forward fires the hooks."""
        return self.bridge.original_model

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return self.bridge.cfg.n_layers

    @property
    def n_heads(self) -> int:
        """Number of query heads of a layer."""
        return self.bridge.cfg.n_heads

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.bridge.cfg.d_model

    @property
    def d_head(self) -> int:
        """Width of one head's output, which is that of its values and not always of its keys.

        Raises:
            AxisError: no layer has heads, or they are not of one width in all layers.
        """
        return self.head_width(self.layers_with("z"))

    def head_width(self, layers: Sequence[int]) -> int:
        """Width of one head's output in some layers.

        Raises:
            AxisError: there are none, or their heads are of several widths.
        """
        widths: dict[int, list[int]] = {}
        for layer in layers:
            width = projected_width(getattr(self.bridge.blocks[layer], "attn", None))
            known = width is not None and not width % self.n_heads
            own = width // self.n_heads if known else self.bridge.cfg.d_head  # pyright: ignore
            widths.setdefault(own, []).append(layer)
        if len(widths) != 1:
            told = "; ".join(f"{width} in layers {own}" for width, own in sorted(widths.items()))
            raise AxisError(
                f"heads of {self.name} have no one width: {told or 'no layer has heads'}. "
                "Read layers of one width, or attn_out."
            )
        return next(iter(widths))

    def layers_with(self, site: Site) -> tuple[int, ...]:
        """The layers that have a site. Hybrids have layers without attention.

        Raises:
            AxisError: no such site.
        """
        return self.sites.layers_with(site)

    @property
    def max_tokens(self) -> int | None:
        """Longest sequence that the model was made for, None where its config does not say."""
        return getattr(self.bridge.cfg, "n_ctx", None)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where token ids go; with a device map the layers may live elsewhere."""
        return next(self.network.parameters()).device

    @cached_property
    def weights_fingerprint(self) -> str:
        """16 hexadecimal digits from the names, shapes and a sample of all weights.

        A strided sample of some 4,096 values per tensor: enough to tell a fine-tuned or quantised
        copy from its base, without reading every weight.
        """
        return weights_fingerprint(self.network)

    @property
    def provenance(self) -> dict[str, Any]:
        """What a result made with this model must carry."""
        return {
            "model": self.name,
            "revision": self.revision,
            "weights": self.weights_fingerprint,
            **self.template.provenance,
            "dtype": str(self.dtype).removeprefix("torch."),
            "environment": dict(environment()),
            **self.form,
            **({"edits": [dict(edit) for edit in self.edits]} if self.edits else {}),
        }

    def hook_name(self, site: Inside, layer: int) -> str:
        """The TransformerLens name of a site.

        Raises:
            AxisError: no such site or layer, or a layer that lacks the site.
        """
        return self.sites.hook_name(site, layer)

    def batches(
        self, tokens: Tokens, share: int = 1, *, mixed: bool = True
    ) -> list[tuple[list[int], Tokens]]:
        """Batches that fit, with the rows that they hold; of one length where padding is read.

        Args:
            tokens: the prompts.
            share: how many times the memory of a plain forward a token takes.
            mixed: whether prompts of several lengths may share a batch.
        """
        return tokens.batches(max(1, self.batch_tokens // share), mixed=self.pads and mixed)

    def check_padding(self, tokens: Tokens, *, generating: bool = False) -> None:
        """Refuses padded prompts where the model would read the padding.

        Args:
            tokens: one batch.
            generating: whether replies are to be written.

        Raises:
            ModelError: some are padded, and the model does not leave padding out.
        """
        pads = self.pads and (self.generation_pads or not generating)
        if not pads and not bool(tokens.mask.all()):
            raise ModelError(
                f"{self.name} reads padding as if it were text, so prompts of several lengths "
                "cannot share a batch. Use model.batches(tokens), which keeps them apart."
            )

    def last_only(self, width: int) -> dict[str, Tensor]:
        """What tells the network, of ``width`` tokens, to give logits for the last alone.

        A column and not a count: some networks that are asked for one count cut the stream itself
        to that many tokens, half-way up.
        """
        if not self.keeps_last:
            return {}
        return {"logits_to_keep": torch.tensor([width - 1], device=self.device)}

    @contextlib.contextmanager
    def hooks(
        self, hooks: Iterable[tuple[Inside, int, Hook]], know_variants: bool = False
    ) -> Iterator[None]:
        """Runs functions at (site, layer) during every forward inside the block.

        Hooks fire in the order given and are removed on exit, also by an exception. At ``z`` they
        get [prompt token head d_head] on every architecture.

        Args:
            hooks: site, layer and function of each.
            know_variants: the functions do the right thing where several variants of the last
                tokens stand one after the other (`ForwardPass.variants`). One that takes
                ``x[:, -1]`` for the last token of the prompt does not.

        Raises:
            AxisError: no such site or layer.
            ModelError: in a forward, of a ``z`` that does not split into the model's heads.
        """
        named = []
        for site, layer, function in hooks:
            name = self.hook_name(site, layer)
            if site == "z":
                width = projected_width(self.bridge.blocks[layer].attn)
                function = by_head(function, self.n_heads, width, f"{name} of {self.name}")
            named.append((name, _without_hook_point(self._by_prompt(function))))
        raw = bool(named) and not know_variants
        self.n_raw_hooks += raw
        try:
            with self.bridge.hooks(fwd_hooks=named):
                yield
        finally:
            self.n_raw_hooks -= raw

    def _by_prompt(self, function: Hook) -> Hook:
        """The function, given [prompt token d] also where a block has all tokens in one row."""

        def call(x: Tensor) -> Tensor | None:
            if x.ndim != 2 or self.current is None:
                return function(x)
            n_prompts = len(self.current.tokens)
            changed = function(x.unflatten(0, (n_prompts, -1)))
            return None if changed is None else changed.flatten(0, 1)

        return call

    @contextlib.contextmanager
    def reading(self, tokens: Tokens, start: int = 0, variants: int = 1) -> Iterator[None]:
        """Tells hooks which tokens the forwards inside the block read."""
        before, self.current = self.current, ForwardPass(tokens, start, variants)
        try:
            yield
        finally:
            self.current = before

    @torch.no_grad()
    def forward(self, tokens: Tokens) -> Float[Tensor, "prompt d_vocab"]:
        """One forward over one batch; logits at the last position, in float32."""
        return self.forward_with_gradients(tokens)

    def forward_with_gradients(self, tokens: Tokens) -> Float[Tensor, "prompt d_vocab"]:
        """The same, and what hooks put in can be differentiated through."""
        return self._logits(tokens, **self.last_only(tokens.ids.shape[1]))[:, -1].float()

    @torch.no_grad()
    def logits_everywhere(self, tokens: Tokens) -> Float[Tensor, "prompt token d_vocab"]:
        """One forward over one batch; logits at every position, in the type of the weights.

        At padding they may be anything.
        """
        return self._logits(tokens)

    def _logits(self, tokens: Tokens, **settings: Any) -> Float[Tensor, "prompt token d_vocab"]:
        self.check_padding(tokens)
        with self.reading(tokens):
            return self.network(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                position_ids=tokens.position_ids,
                use_cache=False,
                **settings,
            ).logits

    def check_finite(self, logits: Tensor) -> None:
        """Refuses to go on from logits that are not finite.

        Raises:
            ModelError: they are not.
        """
        if not logits.isfinite().all():
            self.refuse_not_finite()

    def refuse_not_finite(self, what: str = "logits") -> NoReturn:
        """Says that the model gives numbers that are not finite.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"{self.name} gives {what} that are not finite. Check its weights; on a GPU, try "
            "dtype=torch.float32."
        )


def _without_hook_point(function: Hook) -> Callable[..., Tensor | None]:
    """TransformerLens passes the hook point along; ours need only the activation."""

    def call(activation: Tensor, hook: Any) -> Tensor | None:
        return function(activation)

    return call
