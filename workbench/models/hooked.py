"""HookedModel: a chat model with every site of its residual stream exposed."""

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.artifact import environment
from workbench.errors import AxisError, ModelError
from workbench.models.head_layout import by_head, projected_width
from workbench.models.tokens import ChatTemplate, Tokens
from workbench.progress import track
from workbench.prompts.promptset import PromptSet

Site = Literal["resid_pre", "attn_out", "mlp_out", "z"]
"""Where a layer can be read or written.

``resid_pre`` is the input of the block; ``attn_out`` and ``mlp_out`` are what the block adds to the
stream, after a post-norm where the architecture has one; ``z`` is the heads' output before W_O.
"""

Hook = Callable[[Tensor], Tensor | None]
"""Reads an activation [prompt token ...] and replaces it unless it returns None."""

Prompts = PromptSet | Tokens | Sequence[str] | str
"""Whatever can be answered: a prompt set, texts, one text, or tokens made before."""


ScoreAfter = Literal["prompt", "thinking"]
"""Where a reply is scored: after the rendered prompt, or after the model's own thinking block."""


class StopForward(Exception):
    """Ends a forward pass early, from inside a hook, once everything wanted has been read."""


@dataclass(frozen=True)
class ForwardPass:
    """Which columns of which prompts the model is reading now.

    Attributes:
        tokens: the prompts of the batch.
        start: column of the first token of this forward; counts on through a reply.
        variants: how many copies of these columns stand one after the other; see `models.packed`.
    """

    tokens: Tokens
    start: int
    variants: int = 1

    def columns(self, width: int) -> Int[Tensor, " token"]:
        """Column of the prompt, or of prompt and reply, that each token of this forward fills."""
        return torch.arange(self.start, self.start + width // self.variants).repeat(self.variants)


class HookedModel:
    """A chat model whose residual stream can be read and written at every layer.

    Made by `load_model`; not to be called directly.

    Attributes:
        bridge: the TransformerBridge; every TransformerLens tool works on it.
        tokenizer: the Hugging Face tokenizer.
        name: what `load_model` was asked for.
        batch_tokens: most tokens, padding counted, that go through the model at once. Lower it
            when memory runs out; results do not depend on it.
        current: the forward pass that is running, None outside of one. Interventions on a subset
            of the tokens read it.
        checked: what was found when shortcuts through this model were compared with plain
            forwards: nothing, or why they cannot be taken. See `models.shortcuts`.
        n_raw_hooks: how many blocks of `hooks` are open whose functions may not know about
            variants; forwards are not packed meanwhile.
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
        parameters = inspect.signature(self.network.forward).parameters
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}

    def __repr__(self) -> str:
        return (
            f"HookedModel({self.name!r}, n_layers={self.n_layers}, n_heads={self.n_heads}, "
            f"d_model={self.d_model}, dtype={self.dtype}, device={self.device})"
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
        """Width of one head's output, which is that of its values and not always of its keys."""
        width = projected_width(self.bridge.blocks[0].attn)
        if width is None or width % self.n_heads:
            return self.bridge.cfg.d_head
        return width // self.n_heads

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
        digest = hashlib.sha256()
        # The wrapper's part of a name is not the model's: it may change with its version, and a
        # model that is wrapped twice has it twice.
        weights = {
            key.replace("._original_component", ""): weight
            for key, weight in self.network.state_dict().items()
        }
        for name, weight in sorted(weights.items()):
            digest.update(f"{name}{tuple(weight.shape)}".encode())
            flat = weight.detach().flatten()
            sample = flat[:: max(1, flat.numel() // 4096)]
            digest.update(sample.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

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
        }

    def tokens(
        self,
        prompts: Prompts,
        system: str | None = None,
        after: ScoreAfter = "prompt",
        max_thinking_tokens: int = 1024,
    ) -> Tokens:
        """Renders prompts with the chat template, tokenises and left-pads them.

        Args:
            prompts: what is asked.
            system: a system prompt for all of them.
            after: ``"prompt"``, or ``"thinking"``: each prompt goes on with the block that the
                model thinks of it, greedily, so that what is read at the last token is the answer.
            max_thinking_tokens: longest block that is waited for.

        Raises:
            PromptError: no prompts, one that is too long for the model, or one whose thinking the
                model does not close.
            ModelError: no chat template, or none with a place for ``system``.
        """
        if after not in get_args(ScoreAfter):
            raise ModelError(f"no place {after!r} to score: {', '.join(get_args(ScoreAfter))}.")
        if after == "thinking":
            from workbench.models.own_thinking import after_thinking

            return after_thinking(self, self.tokens(prompts, system), max_thinking_tokens)
        if isinstance(prompts, Tokens):
            if system is not None:
                raise ModelError(
                    "these prompts are tokens already, so system= would do nothing. Pass it where "
                    "they are made: model.tokens(prompts, system=…)."
                )
            return prompts.to(self.device)
        texts = prompts.texts if isinstance(prompts, PromptSet) else prompts
        texts = [texts] if isinstance(texts, str) else list(texts)
        return self.template.tokens(texts, system, self.max_tokens).to(self.device)

    def hook_name(self, site: Site, layer: int) -> str:
        """The TransformerLens name of a site.

        Raises:
            AxisError: no such site or layer.
        """
        if site not in get_args(Site):
            raise AxisError(f"no site {site!r}: {', '.join(get_args(Site))}.")
        if not 0 <= layer < self.n_layers:
            raise AxisError(
                f"no layer {layer} in {self.name}: layers 0..{self.n_layers - 1}. "
                f"Pass layer={self.n_layers - 1} for the last."
            )
        return f"blocks.{layer}.{'attn.hook_z' if site == 'z' else f'hook_{site}'}"

    @contextlib.contextmanager
    def hooks(
        self, hooks: Iterable[tuple[Site, int, Hook]], know_variants: bool = False
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
            named.append((name, _without_hook_point(function)))
        raw = bool(named) and not know_variants
        self.n_raw_hooks += raw
        try:
            with self.bridge.hooks(fwd_hooks=named):
                yield
        finally:
            self.n_raw_hooks -= raw

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
        with self.reading(tokens):
            output = self.network(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                position_ids=tokens.position_ids,
                use_cache=False,
                **self.last_only,
            )
        return output.logits[:, -1].float()

    def check_finite(self, logits: Tensor) -> None:
        """Refuses to go on from logits that are not finite.

        Raises:
            ModelError: they are not.
        """
        if not logits.isfinite().all():
            raise ModelError(
                f"{self.name} gives logits that are not finite. Check its weights; on a GPU, try "
                "dtype=torch.float32."
            )

    def logits(
        self,
        prompts: Prompts,
        system: str | None = None,
        after: ScoreAfter = "prompt",
        max_thinking_tokens: int = 1024,
    ) -> Float[Tensor, "prompt d_vocab"]:
        """Next-token logits at the last position of every prompt, on the CPU, in float32.

        Arguments are those of `tokens`: with ``after="thinking"`` the position is that where the
        answer begins, after the model's own closed thinking block.

        Raises:
            ModelError: the logits are not finite.
            PromptError: the model does not close a block in time.
        """
        tokens = self.tokens(prompts, system, after, max_thinking_tokens)
        rows, parts = [], []
        batches = tokens.batches(self.batch_tokens)
        for chosen, batch in track(batches, "reading prompts", len(batches)):
            parts.append(self.forward(batch).cpu())
            rows.extend(chosen)
        logits = torch.cat(parts)[torch.tensor(rows).argsort()]
        self.check_finite(logits)
        return logits

    def generate(
        self,
        prompts: Prompts,
        max_new_tokens: int = 64,
        do_sample: bool = False,
        temperature: float = 1.0,
        seed: int = 0,
        system: str | None = None,
    ) -> list[str]:
        """The model's replies, one per prompt, without special tokens but with thinking blocks.

        Greedy unless ``do_sample``. Sampling is reproducible for the same seed, prompts and
        ``batch_tokens``. Interventions that are active apply to prompt and reply as they say.

        Raises:
            PromptError: prompt and reply together are longer than the model can read.
        """
        from workbench.models.generate import generate

        return generate(
            self,
            self.tokens(prompts, system),
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature,
            seed=seed,
        )


def _without_hook_point(function: Hook) -> Callable[..., Tensor | None]:
    """TransformerLens passes the hook point along; ours need only the activation."""

    def call(activation: Tensor, hook: Any) -> Tensor | None:
        return function(activation)

    return call
