"""Tiny random networks of many architectures, by name."""

from copy import deepcopy
from typing import Any

from architectures.dense import DENSE, MORE_DENSE, ODD
from architectures.experts import EXPERTS, ODD_EXPERTS
from architectures.images import IMAGES
from architectures.kind import Kind
from architectures.mixed import HYBRID, MORE_WRITERS

KINDS: dict[str, Kind] = {
    **DENSE,
    **MORE_DENSE,
    **ODD,
    **EXPERTS,
    **ODD_EXPERTS,
    **HYBRID,
    **MORE_WRITERS,
    **IMAGES,
}

__all__ = [
    "DENSE",
    "EXPERTS",
    "HYBRID",
    "IMAGES",
    "KINDS",
    "MORE_DENSE",
    "MORE_WRITERS",
    "ODD",
    "ODD_EXPERTS",
    "random_network",
]


def random_network(name: str, seed: int = 0) -> Any:
    """A tiny Hugging Face model in which no norm is trivial and no distribution flat."""
    import torch
    import transformers as hf

    kind = KINDS[name]
    torch.manual_seed(seed)
    settings = deepcopy(kind.settings)  # some configs change the lists that they are given
    if kind.text:
        settings["text_config"] = deepcopy(kind.text)
    model = getattr(hf, kind.model, None) or getattr(hf, f"{kind.model}ForCausalLM")
    network = model(getattr(hf, kind.config)(**settings))
    with torch.no_grad():
        for key, parameter in network.named_parameters():
            if parameter.ndim == 1 or key.endswith("norm.weight"):  # Cohere's of heads are 2-D
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif not key.endswith("A_log"):  # a time scale, not a weight
                parameter.mul_(kind.scale)
        for key, buffer in network.named_buffers():
            if key.endswith("layer_scalar"):
                buffer.fill_(0.8)
    return network.eval()
