"""In what form a model's weights came: plain, of a GGUF file, with an adapter, or in few bits.

A form is a plain record, which is empty for an ordinary checkpoint and goes into the provenance of
everything that is read from the model: ``form`` is ``gguf``, ``adapter`` or ``quantized``. With an
adapter it has the hash of the adapter's weights and, as ``plain_weights``, that of its base, which
is the ``plain_weights`` of the base where it is loaded by itself.
"""

from collections.abc import Mapping
from typing import Any

import torch

from workbench.errors import ModelError
from workbench.models.reference import weights_fingerprint

Form = Mapping[str, Any]
_KEPT_AS = "_refusal_workbench_form"


def form_line(form: Form) -> str:
    """What a form comes to, in one line.

    >>> form_line({"form": "gguf", "dequantized_from": ["Q4_1"], "file_sha256": "0" * 64})
    'a GGUF file, weights dequantized from Q4_1'
    """
    if form["form"] == "gguf":
        if "dequantized_from" not in form:
            return "read by transformers from a GGUF file, which nobody looked into"
        types = ", ".join(form["dequantized_from"])
        return f"a GGUF file, weights dequantized from {types}" if types else "a GGUF file"
    if form["form"] == "quantized":
        return (
            f"weights quantized by {form['quantization']}: forwards unpack them, and what needs a "
            "matrix itself is refused"
        )
    base = form["base"]
    how = "merged into" if form["merged"] else "left on"
    told = f"adapter {form['adapter']['name']} ({form['adapter']['weights']}) {how} {base['model']}"
    return f"{told}, {form_line(base)}" if "form" in base else told


def same_model(mine: Form, other: Form) -> bool:
    """Whether two forms are one adapter on one base, merged or not.

    >>> same_model({}, {})
    False
    """

    def known(form: Form) -> tuple[Any, Any]:
        base, adapter = form.get("base") or {}, form.get("adapter") or {}
        return base.get("plain_weights"), adapter.get("weights")

    return None not in known(mine) and known(mine) == known(other)


def remember_form(network: torch.nn.Module, form: Form, plain_weights: str) -> None:
    """Keeps a form on the network itself, and its fingerprint, for when it is wrapped again."""
    network.__dict__[_KEPT_AS] = (dict(form), plain_weights)


def plain_fingerprint(network: torch.nn.Module) -> str:
    """The fingerprint of a network's weights as nobody has wrapped it, or before anybody did."""
    if _KEPT_AS in network.__dict__:
        return network.__dict__[_KEPT_AS][1]
    return weights_fingerprint(network)


def form_of(network: torch.nn.Module) -> dict[str, Any]:
    """The form of a network that somebody else loaded, as far as it can be told."""
    if _KEPT_AS in network.__dict__:
        return network.__dict__[_KEPT_AS][0]
    config: Any = getattr(network, "config", None)
    quantization: Any = getattr(config, "quantization_config", None)
    if quantization is None:
        return {}
    if not isinstance(quantization, Mapping):
        quantization = quantization.to_dict()
    method = quantization.get("quant_method")
    method = str(getattr(method, "value", method))
    if method == "gguf" and not packed(network):
        return {"form": "gguf"}
    if method == "bitsandbytes":
        kind = quantization.get("bnb_4bit_quant_type")
        method += " in 8 bits" if quantization.get("load_in_8bit") else f" in 4 bits ({kind})"
    return {"form": "quantized", "quantization": method}


def packed(network: torch.nn.Module) -> bool:
    """Whether some weights are stored as something else than numbers."""
    return any(not _readable(weight) for weight in network.parameters())


def check_matrix(part: Any, what: str, model: str) -> None:
    """Refuses to read a matrix that is not what the network multiplies with.

    Args:
        part: the module that holds it, wrapped or not.
        what: is to be read from it, for the message.
        model: its name.

    Raises:
        ModelError: it is packed in few bits, or an adapter stands beside it.
    """
    part = getattr(part, "original_component", part)
    own = getattr(part, "base_layer", part)
    if own is not part:
        raise ModelError(
            f"{what} of {model} cannot be read: an adapter stands beside the matrix. Load the "
            "model with the adapter merged (merge=True)."
        )
    weight = getattr(own, "weight", None)
    if weight is not None and not _readable(weight):
        raise ModelError(
            f"{what} of {model} cannot be read: the matrix is packed as "
            f"{str(weight.dtype).removeprefix('torch.')}. Load the model without quantization."
        )


def _readable(weight: torch.Tensor) -> bool:
    return weight.is_floating_point() and weight.element_size() > 1
