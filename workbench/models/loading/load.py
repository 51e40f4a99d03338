"""load_model: the one place that boots a TransformerBridge."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from workbench import screen
from workbench.arguments import checked
from workbench.errors import ModelError
from workbench.intake.parsing import parsing, without_panics
from workbench.models.checks import check_loaded, compare_with_plain
from workbench.models.form import form_of, plain_fingerprint, remember_form
from workbench.models.hooked import HookedModel
from workbench.models.loading import adapters, gguf_file
from workbench.models.loading.boot import boot
from workbench.models.loading.explained import explained, quiet
from workbench.models.loading.places import Place, find_model
from workbench.models.loading.placing import check_device_map, device_here, known_dtype
from workbench.models.reference import (
    Reference,
    check_weights,
    read_plain,
    remember,
    remembered,
)
from workbench.models.templates import template_origin, template_text
from workbench.models.tokens import ChatTemplate


@checked
def load_model(
    name: Any = "pocket",
    *,
    adapter: str | Path | None = None,
    merge: bool = True,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    device_map: Any = None,
    trust_remote_code: bool = False,
    chat_template: str | Path | None = None,
    thinking: bool | None = None,
    date: str | None = None,
) -> HookedModel:
    """Loads a chat model with ``resid_pre``, ``attn_out``, ``mlp_out`` and ``z`` exposed.

    Weights stay as they are: nothing is folded or centred. One short text is read before and after
    wrapping, and the model is refused where logits differ from Hugging Face's own, or where an
    ablated direction is not gone; `verify_model` compares more. Nothing is ever installed.

    Args:
        name: a shipped organism (``workbench models`` lists them), a Hugging Face Hub id, a local
            folder, a ``.gguf`` file (its weights are dequantized; needs the extra ``gguf``), a
            PEFT adapter (a folder or Hub id; its base is the one that it names; needs the extra
            ``adapters``), or a Hugging Face model that is already loaded. Such a model is wrapped
            in place, and its later calls go through the same hooks; one that bitsandbytes
            quantized is read as it is. Of a loaded ``PeftModel`` a merged copy is wrapped, and
            what you hold stays as it is; with ``merge=False`` it is wrapped in place, too.
        adapter: a PEFT adapter, as a folder or Hub id, that is put on ``name``.
        merge: whether an adapter is merged into the weights of its base, in memory and in their
            own type, or left on beside them. Left on, matrices are not read: what needs one (such
            as direct attribution) is refused where an adapter stands beside it.
        tokenizer: needed with a loaded model; otherwise the checkpoint's own: of a GGUF file the
            one in it, of an adapter the one beside it, or its base's where there is none.
        device: by default the GPU if there is one, else the CPU. Not with ``device_map``.
        dtype: by default bfloat16 on a GPU and float32 on a CPU. Also as a name, ``"bfloat16"``.
        revision: a branch, tag or commit of a Hub id.
        device_map: spreads the layers over several devices, as Hugging Face does (``"auto"``).
        trust_remote_code: lets a checkpoint run its own Python code.
        chat_template: Jinja text, or a file that holds it, instead of the tokenizer's own; or the
            name of one of the tokenizer's, where it has several (by default ``default``).
        thinking: tells a template with such a switch (``enable_thinking``) to let the model think
            or not; by default as the template has it.
        date: the day, such as ``"2026-01-31"``, for a template that writes one; by default today,
            and the same for as long as the model is loaded.

    Raises:
        ModelError: a setting is none that this machine has, would do nothing, or contradicts
            another; a chat template is no Jinja, or the one given renders no prompt; the model is
            absent, gated, of an unknown architecture or broken (weights that are not finite, a
            GGUF file that is cut off or lacks weights); an adapter does not fit its base, or
            cannot be merged; a package that a form needs is not installed; TransformerLens does
            not compute what it computes, with the layer named where that begins.

    Warns of an adapter that changes nothing, or says that it was made for another base.

    >>> import workbench as wb
    >>> model = wb.load_model("pocket")
    >>> model.n_layers, model.n_heads, model.d_model
    (8, 8, 160)
    """
    model = load_unchecked(
        name,
        adapter=adapter,
        merge=merge,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        revision=revision,
        device_map=device_map,
        trust_remote_code=trust_remote_code,
        chat_template=chat_template,
        thinking=thinking,
        date=date,
    )
    if chat_template is not None:
        model.template.frame()
    check_loaded(model)
    return model


def load_unchecked(
    name: Any = "pocket",
    *,
    adapter: str | Path | None = None,
    merge: bool = True,
    tokenizer: Any = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    device_map: Any = None,
    trust_remote_code: bool = False,
    chat_template: str | Path | None = None,
    thinking: bool | None = None,
    date: str | None = None,
) -> HookedModel:
    """As `load_model`, also where the wrapper does not tell the truth: for `verify_model` alone."""
    if device is not None and device_map is not None:
        raise ModelError("device= and device_map= contradict each other. Pass one of them.")
    check_device_map(device_map)
    device = None if device is None else device_here(device)
    chosen_dtype = known_dtype(dtype)
    template = template_text(chat_template)
    settings = {
        "thinking": thinking,
        "date": date,
        "origin": template_origin(chat_template),
    }
    if not isinstance(name, str | Path):
        if adapter is not None:
            raise ModelError(
                "adapter= does nothing to a model that is loaded already. Pass the name of the "
                "base, or a PeftModel."
            )
        return _wrap(
            name, merge, tokenizer, device, chosen_dtype, revision, device_map, template, settings
        )
    base, on = _base_and_adapter(name, adapter, revision)
    if on is None and not merge:
        raise ModelError(f"merge=False does nothing: {name} has no adapter. Leave it out.")
    if revision is not None and (
        not revision.strip() or "hub" not in (base.kind, find_model(name).kind)
    ):
        raise ModelError(
            f"revision must be a branch, tag or commit of a Hub id, found {revision!r} for {name}. "
            "Leave revision= out."
        )
    header = gguf_file.check_file(base.path) if base.kind == "gguf" else None
    if on is not None:
        adapters.check_installed(f"adapter {on.name}")
        if str(name) == on.name:  # the revision was the adapter's
            revision = on.base_revision if base.kind == "hub" else None
    if device_map is None:
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    chosen_dtype = chosen_dtype or (torch.bfloat16 if on_gpu else torch.float32)
    if tokenizer is None and on is not None and on.has_tokenizer:
        tokenizer = read_tokenizer(str(on.folder), on.name, None, trust_remote_code)
    elif tokenizer is None:
        tokenizer = read_tokenizer(base.source, base.name, revision, trust_remote_code)
    for_bridge = _for_bridge(tokenizer)
    # Before the weights are read.
    chat = chat_template_of(str(name), tokenizer, template, **settings)
    form = {} if header is None else gguf_file.gguf_form(base.path, header)
    ready = _Ready(tokenizer, str(name), form)
    if on is not None:
        ready.put_on = lambda network, form: adapters.put_on(network, on, base.name, merge, form)
    loading: dict[str, Any] = {
        "device": device,
        "dtype": chosen_dtype,
        "revision": revision,
        "device_map": device_map,
        "trust_remote_code": trust_remote_code,
    }
    try:
        with quiet(), without_panics():
            if header is not None:
                network = gguf_file.read_network(
                    base.path, header, chosen_dtype, device, device_map
                )
                _name_architecture(network)
                loading = {"network": network.eval()}
            bridge = boot(base.source, ready, tokenizer=for_bridge, **loading)
    except ModelError:
        raise
    except Exception as error:
        raise explained(base.name, error) from error
    commit = getattr(bridge.original_model.config, "_commit_hash", None)
    model = _finished(bridge, ready, chat, commit or revision)
    model.adapter = None if adapter is None else str(adapter)
    return model


def _base_and_adapter(
    name: str | Path, adapter: str | Path | None, revision: str | None
) -> tuple[Place, adapters.Adapter | None]:
    """The model that a name means, and the adapter that goes on it, if any.

    Raises:
        ModelError: one is not there; an adapter does not name its base, or an adapter is to go on
            an adapter.
    """
    place = find_model(name)
    folder = _adapter_folder(place, revision)
    if folder is None and adapter is None:
        return place, None
    if folder is not None and adapter is not None:
        raise ModelError(
            f"{name} is an adapter itself, and adapter={str(adapter)!r} goes on a model. Pass the "
            "base of both, and one adapter."
        )
    if adapter is not None:
        asked = find_model(adapter)
        folder, name = _adapter_folder(asked, None), str(adapter)
        if folder is None:
            raise ModelError(
                f"{adapter} is no adapter: it has no adapter_config.json"
                + (", or the Hub cannot be reached." if asked.kind == "hub" else ".")
            )
    assert folder is not None
    found = adapters.read_adapter(str(name), folder)
    if adapter is not None:
        return place, found
    if found.base is None:
        raise ModelError(
            f"adapter {name} does not say what its base is. Pass that as the model, and the "
            "adapter as adapter=."
        )
    try:
        base = find_model(found.base)
    except ModelError as error:
        raise ModelError(
            f"the base of adapter {name}: {error} Pass the model, and the adapter as adapter=."
        ) from error
    if _adapter_folder(base, found.base_revision) is not None:
        raise ModelError(f"the base of adapter {name}, {found.base}, is an adapter, too.")
    return base, found


def _adapter_folder(place: Place, revision: str | None) -> Path | None:
    """Where an adapter lies on this machine; None where a place is something else."""
    if place.kind == "hub":
        with quiet():
            return adapters.on_hub(place, revision)
    return place.path if place.kind == "adapter" else None


def read_tokenizer(source: str, name: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder, a GGUF file or a Hub id.

    Raises:
        ModelError: it is absent, gated or broken.
    """
    from transformers import AutoTokenizer

    try:
        with quiet(), without_panics():
            if source.lower().endswith(".gguf") and Path(source).is_file():
                return gguf_file.read_tokenizer(Path(source))
            return AutoTokenizer.from_pretrained(
                source, revision=revision, trust_remote_code=trust_remote_code
            )
    except Exception as error:
        raise explained(name, error) from error


def chat_template_of(
    name: str, tokenizer: Any, template: str | None, **settings: Any
) -> ChatTemplate:
    """The chat template of a model; settings as of `ChatTemplate`.

    Raises:
        ModelError: what the tokenizer holds is none.
    """
    with parsing(name, "a model with a chat template", ModelError):
        return ChatTemplate(tokenizer, template, **settings)


def _wrap(
    network: Any,
    merge: bool,
    tokenizer: Any,
    device: torch.device | None,
    dtype: torch.dtype | None,
    revision: str | None,
    device_map: Any,
    template: str | None,
    settings: dict[str, Any],
) -> HookedModel:
    """A HookedModel around a Hugging Face model that the caller loaded."""
    kind = type(network).__name__
    if not isinstance(network, torch.nn.Module) or not hasattr(network, "config"):
        raise ModelError(f"expected a model's name, folder or Hugging Face model, found a {kind}.")
    if tokenizer is None:
        raise ModelError(f"a loaded model needs its tokenizer: load_model({kind}, tokenizer=…).")
    if device_map is not None or revision is not None:
        raise ModelError("device_map= and revision= do nothing to a model that is loaded already.")
    for_bridge = _for_bridge(tokenizer)
    name = getattr(network.config, "_name_or_path", "") or kind
    chat = chat_template_of(name, tokenizer, template, **settings)
    form, notes = form_of(network), ()
    if adapters.is_peft_model(network):
        adapted = adapters.unwrapped(network, merge)
        network, form, notes = adapted.network, adapted.form, adapted.notes
    elif not merge:
        raise ModelError(f"merge=False does nothing: this {kind} is no PeftModel. Leave it out.")
    elif not form.get("adapter") and isinstance(getattr(network, "peft_config", None), dict):
        form = adapters.left_on(network).form
    if form.get("form") == "quantized" and (device is not None or dtype is not None):
        raise ModelError(
            f"device= and dtype= do nothing to weights quantized by {form['quantization']}. Choose "
            "both where the model is loaded."
        )
    if device is not None or dtype is not None:
        network.to(device=device, dtype=dtype)
    _name_architecture(network)
    ready = _Ready(tokenizer, name, form, notes=notes)
    try:
        with quiet():
            bridge = boot(name, ready, network=network.eval(), tokenizer=for_bridge)
    except ModelError:
        raise
    except Exception as error:
        raise explained(name, error) from error
    return _finished(bridge, ready, chat, None)


def _name_architecture(network: Any) -> None:
    """Writes into a config what was never saved, and so does not have it yet."""
    if not getattr(network.config, "architectures", None):
        network.config.architectures = [type(network).__name__]


def _for_bridge(tokenizer: Any) -> Any:
    """A copy that TransformerLens may change.

    It invents special tokens where a tokenizer has none, which would change what chat templates
    render, and loads a tokenizer anew from its folder or the Hub unless it adds a BOS. One that was
    built or changed in memory has no such place, so the copy says that it does.
    """
    if not hasattr(tokenizer, "init_kwargs"):
        raise ModelError(f"expected a Hugging Face tokenizer, found a {type(tokenizer).__name__}.")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.init_kwargs |= {"name_or_path": tokenizer.name_or_path, "add_bos_token": True}
    return tokenizer


@dataclass
class _Ready:
    """Gets a network ready to be wrapped: its adapter put on, and what it gives by itself read.

    Attributes:
        tokenizer: of the model.
        name: what it is called.
        form: in what form its weights came; see `models.form`.
        put_on: gives a network with the adapter on it.
        notes: what is to be said once the model is loaded.
        plain: what the network gives, or gave before it was wrapped, if its weights are finite.
        plain_weights: the fingerprint of these.
    """

    tokenizer: Any
    name: str
    form: Mapping[str, Any]
    put_on: Callable[..., adapters.Adapted] | None = None
    notes: tuple[str, ...] = ()
    plain: Reference = field(init=False)
    plain_weights: str = field(init=False)

    def __call__(self, network: torch.nn.Module) -> torch.nn.Module:
        """The network that is to be wrapped.

        Raises:
            ModelError: the adapter does not fit, or weights are not finite.
        """
        self.form = self.form or form_of(network)
        if self.put_on is not None:
            adapted = self.put_on(network, self.form)
            network, self.form, self.notes = adapted.network, adapted.form, adapted.notes
        check_weights(network, self.name)
        self.plain_weights = plain_fingerprint(network)
        self.plain = remembered(network, self.name) or read_plain(
            network, self.tokenizer, self.name
        )
        return network


def _finished(bridge: Any, ready: _Ready, chat: ChatTemplate, revision: str | None) -> HookedModel:
    """The wrapped network, once it has been compared with the plain one."""
    bridge.original_model.eval().requires_grad_(False)
    model = HookedModel(bridge, ready.tokenizer, ready.name, chat, revision)
    model.form = ready.form
    compare_with_plain(model, ready.plain)
    remember(bridge.original_model, model.reference)
    model.plain_weights = ready.plain_weights
    remember_form(bridge.original_model, model.form, model.plain_weights)
    for note in ready.notes:
        screen.warn(note, stacklevel=5)
    return model
