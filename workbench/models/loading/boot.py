"""Booting a TransformerBridge: with the plain network read first, and nothing installed.

TransformerLens loads a processor for checkpoints that also read images or sound, and, where that
fails, starts pip in the user's environment. Text needs no processor, so none is loaded.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch


def boot(
    name: str,
    before: Callable[[torch.nn.Module], torch.nn.Module],
    *,
    network: Any = None,
    **settings: Any,
) -> Any:
    """A bridge around a network, after ``before`` has seen it as Hugging Face loads it.

    Args:
        name: a Hub id or folder; with ``network`` only what it is called.
        before: is given the plain network, on its device and in its type, and answers the one
            that is to be wrapped, which may have an adapter by then.
        network: a loaded model, wrapped in place.
        settings: of ``boot_transformers``.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if network is not None:
        settings["hf_model"] = before(network)
    else:
        settings["model_class"] = _PlainLoader(before, settings.get("device"))
    with _text_only():
        return TransformerBridge.boot_transformers(name, **settings)


class _PlainLoader:
    """Stands where TransformerLens expects a class to load with, and shows what it loaded."""

    def __init__(self, before: Callable[[torch.nn.Module], torch.nn.Module], device: Any):
        self.before, self.device = before, device

    def from_pretrained(self, name: str, **settings: Any) -> Any:
        """The network, with eager attention from here on, as hooks need it."""
        from transformer_lens.model_bridge.sources._hf_format import (
            determine_architecture_from_hf_config,
        )
        from transformer_lens.model_bridge.sources.transformers.helpers import (
            get_hf_model_class_for_architecture,
        )
        from transformer_lens.utilities.attn_implementation import force_eager_attention

        # What attention the network would choose by itself is the truth: it is what it was made
        # for, and eager attention is not in every architecture the same.
        config = settings["config"]
        eager = settings.get("attn_implementation") == "eager"
        if eager:
            del settings["attn_implementation"]
            # Either would choose eager attention, too.
            config.output_attentions, config._attn_implementation = False, None
        architecture = determine_architecture_from_hf_config(config)
        network = get_hf_model_class_for_architecture(architecture).from_pretrained(
            name, **settings
        )
        if "device_map" not in settings and self.device is not None:
            network = network.to(self.device)
        network = self.before(network.eval())
        if eager:
            force_eager_attention(network)
        return network


@contextlib.contextmanager
def _text_only() -> Iterator[None]:
    """Keeps TransformerLens from loading processors, from asking for them, and from pip."""
    from transformer_lens.model_bridge.architecture_adapter import ArchitectureAdapter
    from transformer_lens.model_bridge.sources.transformers import helpers, source

    replaced = (
        (source, "load_modality_processor", lambda *args, **kwargs: None),
        (helpers, "_ensure_torchvision", lambda: False),
        (ArchitectureAdapter, "_check_required_libraries", lambda self: None),
    )
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, stand_in in replaced:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, own in before:
            setattr(owner, name, own)
