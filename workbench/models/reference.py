"""What a network gives before anybody wraps it: the truth that a wrapper is compared with."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workbench.errors import ModelError
from workbench.models.sites import Inner, Site, Sites

_TEXT = "How far is the sea from here, and what is the weather like?"
_MOST = 24
"""Tokens of the text that are read: enough to be past a first token's peculiarities."""
_KEPT_AS = "_refusal_workbench_reference"
KEPT = 4
"""Positions, from the end, that are kept of every module."""


@dataclass(frozen=True, eq=False)
class Reference:
    """One short text, read by the plain network.

    Attributes:
        ids: its tokens.
        logits: at every position, in float32, on the CPU.
        outputs: what each module gave at the last positions, by the module's ``id()``; empty once
            `by_site` has taken from them what sites are compared with.
        inputs: what each module was given there.
        sites: what stands at (site, layer) of the plain network, at the last positions.
    """

    ids: Int[Tensor, "1 token"]
    logits: Float[Tensor, "token d_vocab"]
    outputs: Mapping[int, Tensor] = field(default_factory=dict)
    inputs: Mapping[int, Tensor] = field(default_factory=dict)
    sites: Mapping[tuple[str, int], Float[Tensor, "_ _"]] = field(default_factory=dict)


def weights_fingerprint(
    network: torch.nn.Module, stored: Mapping[str, Tensor] | None = None
) -> str:
    """16 hexadecimal digits from the names, shapes and a strided sample of all weights.

    Args:
        network: whose weights they are.
        stored: weights by name, instead of the network's own.
    """
    digest = hashlib.sha256()
    # The wrapper's part of a name is not the model's: it may change with its version, and a model
    # that is wrapped twice has it twice.
    weights = {
        key.replace("._original_component", ""): weight
        for key, weight in (network.state_dict() if stored is None else stored).items()
    }
    for name, weight in sorted(weights.items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        flat = weight.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 4096)]
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def remember(network: torch.nn.Module, reference: Reference) -> None:
    """Keeps what a network gave on the network itself: once wrapped, it cannot be asked again."""
    network.__dict__[_KEPT_AS] = (weights_fingerprint(network), reference)


def remembered(network: torch.nn.Module, name: str) -> Reference | None:
    """What a network gave before it was wrapped for the first time; None where it never was.

    Raises:
        ModelError: it is wrapped, and nobody knows what it gave before, or its weights changed.
    """
    if not any(hasattr(part, "original_component") for part in network.modules()):
        return None
    weights, reference = network.__dict__.get(_KEPT_AS, ("", None))
    if reference is None or weights != weights_fingerprint(network):
        why = "by something else" if reference is None else "and its weights have changed since"
        raise ModelError(
            f"{name} is wrapped already, {why}, so what it computes by itself cannot be told any "
            "more. Load it anew, and pass it as it comes."
        )
    return reference


@torch.no_grad()
def read_plain(network: torch.nn.Module, tokenizer: Any, name: str) -> Reference:
    """Reads the text with forward hooks on every module, through the network's own attention.

    Raises:
        ModelError: the network cannot read a few tokens, or gives numbers that are not finite.
    """
    ids = probe_ids(network, tokenizer)
    try:
        with _recording(network, ids.shape[1]) as (outputs, inputs):
            logits = plain_logits(network, ids)
    # What a network raises, it raises without the workbench.
    except Exception as error:
        first = next(iter(str(error).splitlines()), "no message")[:200]
        few = any(weight.element_size() < 2 for weight in network.parameters())
        raise ModelError(
            f"{name} cannot read {ids.shape[1]} tokens, also without the workbench "
            f"({type(error).__name__}: {first})."
            + " Weights of 8 bits need their own kernels: load them as dtype='float32'."
            * few
        ) from error
    if not logits.isfinite().all():
        raise ModelError(
            f"{name} is broken: the plain network gives logits that are not finite. Download or "
            "train it again, or load it with dtype='float32'."
        )
    return Reference(ids.cpu(), logits.float().cpu(), outputs, inputs)


def _finite(weight: Tensor) -> bool:
    """Whether a weight is finite, as far as its type can say."""
    if weight.device.type == "meta" or not weight.is_floating_point():
        return True
    # Types of eight bits have no test of their own.
    return bool((weight if weight.element_size() > 1 else weight.float()).isfinite().all())


def check_weights(network: torch.nn.Module, name: str) -> None:
    """Refuses weights that are not finite.

    Raises:
        ModelError: some are not.
    """
    broken = [
        key.replace("._original_component", "")
        for key, weight in network.named_parameters()
        if not _finite(weight)
    ]
    if broken:
        raise ModelError(
            f"{name} is broken: {len(broken)} weight tensor(s) hold NaN or infinity, first "
            f"{broken[0]}. Download or train it again."
        )


def probe_ids(network: torch.nn.Module, tokenizer: Any) -> Int[Tensor, "1 token"]:
    """The text as this tokenizer cuts it, on the network's device."""
    row = tokenizer(_TEXT, add_special_tokens=False)["input_ids"][:_MOST]
    if len(row) < KEPT:  # a tokenizer of whole sentences, or none of these characters
        config: Any = network.config
        row = list(range(min(_MOST, config.get_text_config().vocab_size)))
    return torch.tensor([row], device=next(network.parameters()).device)


def plain_logits(
    network: torch.nn.Module, ids: Int[Tensor, "prompt token"], mask: Tensor | None = None
) -> Float[Tensor, "token d_vocab"]:
    """One forward without a cache; logits at every position of the last row, as they come."""
    mask = torch.ones_like(ids) if mask is None else mask.long()
    return network(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        use_cache=False,
    ).logits[-1]


def by_site(reference: Reference, sites: Sites) -> Reference:
    """The reference with what stands at every site, where one module of the network gives it.

    A site is a hook of the wrapper, before or after some module of the network: what that module
    read or gave in the plain network is the truth. Where the wrapper computes a site by itself
    (scaled, say), there is none, and only sums can tell.
    """
    found: dict[tuple[str, int], Tensor] = {}
    hooks = sites.bridge.hook_dict
    for layer in range(sites.n_layers):
        block = sites.bridge.blocks[layer]
        owners: dict[int, tuple[Mapping[int, Tensor], int]] = {}
        for part in block.modules():
            original = getattr(part, "original_component", None)
            for kind, values in (("hook_in", reference.inputs), ("hook_out", reference.outputs)):
                if original is not None and (hook := getattr(part, kind, None)) is not None:
                    owners[id(hook)] = (values, id(original))
        for site in (*get_args(Site), *get_args(Inner)):
            if sites.has(site, layer):
                point = hooks[sites.hook_name(site, layer)]
                values, module = owners.get(id(point), ({}, 0))
                if module in values:
                    found[(site, layer)] = values[module].flatten(1)
    return replace(reference, outputs={}, inputs={}, sites=found)


@contextlib.contextmanager
def _recording(
    network: torch.nn.Module, width: int
) -> Iterator[tuple[dict[int, Tensor], dict[int, Tensor]]]:
    """Keeps what goes into and comes out of every module, at the last positions."""
    outputs: dict[int, Tensor] = {}
    inputs: dict[int, Tensor] = {}

    def keep(module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = args[0] if args else kwargs.get("hidden_states")
        for found, value in ((inputs, given), (outputs, output)):
            first = value[0] if isinstance(value, tuple | list) and value else value
            if isinstance(first, Tensor) and first.is_floating_point() and first.ndim >= 2:
                # Experts see the tokens of a batch in one row, without a batch axis.
                rows = first[0] if first.shape[0] == 1 and first.ndim > 2 else first
                if rows.shape[0] == width:
                    # A module that runs twice keeps its last pass.
                    found[id(module)] = rows[-KEPT:].detach().float().cpu().clone()

    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in network.modules()]
    try:
        yield outputs, inputs
    finally:
        for handle in handles:
            handle.remove()
