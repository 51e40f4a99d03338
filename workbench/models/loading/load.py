"""load_model: the one place that boots a TransformerBridge."""

import contextlib
import copy
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from workbench.arguments import checked
from workbench.errors import ModelError
from workbench.intake.limits import allowing, lies_there, regular_file
from workbench.intake.parsing import parsing, without_panics
from workbench.models.checks import check_loaded, compare_with_plain
from workbench.models.hooked import HookedModel
from workbench.models.loading.boot import boot
from workbench.models.loading.placing import check_device_map, device_here, known_dtype
from workbench.models.organisms import organism_names, organism_path
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
            folder, or a Hugging Face model that is already loaded. Such a model is wrapped in
            place, and its later calls go through the same hooks.
        tokenizer: needed with a loaded model; otherwise the checkpoint's own.
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
            absent, gated, of an unknown architecture or broken (weights that are not finite);
            TransformerLens does not compute what it computes, with the layer named where that
            begins.

    >>> import workbench as wb
    >>> model = wb.load_model("pocket")
    >>> model.n_layers, model.n_heads, model.d_model
    (8, 8, 160)
    """
    model = load_unchecked(
        name,
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
        return _wrap(
            name, tokenizer, device, chosen_dtype, revision, device_map, template, settings
        )
    if str(name) in organism_names():
        source = str(organism_path(str(name)))
    else:
        source = local_or_hub(name)
    if revision is not None and (Path(source).is_dir() or not revision.strip()):
        raise ModelError(
            f"revision must be a branch, tag or commit of a Hub id, found {revision!r} for {name}. "
            "Leave revision= out."
        )
    if device_map is None:
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = torch.cuda.is_available() if device is None else device.type == "cuda"
    chosen_dtype = chosen_dtype or (torch.bfloat16 if on_gpu else torch.float32)
    if tokenizer is None:
        tokenizer = read_tokenizer(source, str(name), revision, trust_remote_code)
    for_bridge = _for_bridge(tokenizer)
    # Before the weights are read.
    chat = chat_template_of(str(name), tokenizer, template, **settings)
    plain: list[Reference] = []
    try:
        with quiet(), without_panics():
            bridge = boot(
                source,
                lambda network: plain.append(_read_sound(network, tokenizer, str(name))),
                tokenizer=for_bridge,
                device=device,
                dtype=chosen_dtype,
                revision=revision,
                device_map=device_map,
                trust_remote_code=trust_remote_code,
            )
    except ModelError:
        raise
    except Exception as error:
        raise explained(str(name), error) from error
    commit = getattr(bridge.original_model.config, "_commit_hash", None)
    return _finished(bridge, plain[0], tokenizer, str(name), chat, commit or revision)


def read_tokenizer(source: str, name: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The tokenizer of a folder or of a Hub id.

    Raises:
        ModelError: it is absent, gated or broken.
    """
    from transformers import AutoTokenizer

    try:
        with without_panics():
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
    config: Any = network.config
    name = getattr(config, "_name_or_path", "") or kind
    chat = chat_template_of(name, tokenizer, template, **settings)
    if device is not None or dtype is not None:
        network.to(device=device, dtype=dtype)
    if not getattr(config, "architectures", None):
        config.architectures = [kind]  # a model that was never saved does not have it yet
    network.eval()
    plain: list[Reference] = []
    try:
        with quiet():
            bridge = boot(
                name,
                lambda network: plain.append(_read_sound(network, tokenizer, name)),
                network=network,
                tokenizer=for_bridge,
            )
    except ModelError:
        raise
    except Exception as error:
        raise explained(name, error) from error
    return _finished(bridge, plain[0], tokenizer, name, chat, None)


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


def _read_sound(network: torch.nn.Module, tokenizer: Any, name: str) -> Reference:
    """What the plain network gives, or gave before it was wrapped, if its weights are finite."""
    check_weights(network, name)
    return remembered(network, name) or read_plain(network, tokenizer, name)


def _finished(
    bridge: Any,
    plain: Reference,
    tokenizer: Any,
    name: str,
    chat: ChatTemplate,
    revision: str | None,
) -> HookedModel:
    """The wrapped network, once it has been compared with the plain one."""
    bridge.original_model.eval().requires_grad_(False)
    model = HookedModel(bridge, tokenizer, name, chat, revision)
    compare_with_plain(model, plain)
    remember(bridge.original_model, model.reference)
    return model


def local_or_hub(name: str | Path) -> str:
    """The folder or Hub id that a name means; a name that can only be a folder must exist."""
    path = Path(name).expanduser()
    if lies_there(path) and path.is_dir():
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise ModelError(
                f"{path} holds an adapter and no model. Load its base model with peft, and pass "
                "model.merge_and_unload() with tokenizer=."
            )
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} has no config.json, so it is not a model folder.")
        for file in path.iterdir():
            if not file.is_dir() and file.exists():
                with allowing(max_bytes=sys.maxsize):  # weights may be as large as they are
                    regular_file(file, ModelError)
        return str(path)
    if path.suffix.lower() == ".gguf":
        raise ModelError(
            f"{path} is a GGUF file, which is not read as a model. Load it with transformers "
            "(from_pretrained(folder, gguf_file=…)) and pass that network with tokenizer=."
        )
    looks_local = isinstance(name, Path) or path.is_absolute() or str(name).startswith((".", "~"))
    if looks_local or lies_there(path) or str(name).count("/") != 1:
        known = ", ".join(organism_names())
        raise ModelError(
            f"no model {str(name)!r}: not a shipped organism ({known}), not a folder. "
            "A Hub id has the form owner/name."
        )
    return str(name)


def explained(name: str, error: Exception) -> ModelError:
    """One clear line for whatever Hugging Face or TransformerLens raised."""
    from huggingface_hub import errors as hub

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    first_line = re.sub(r" Available architectures: \[.*?\],", "", first_line)[:300]

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(item, kinds) for item in chain)

    if has(hub.GatedRepoError) or "gated repo" in str(error):
        return ModelError(
            f"{name} is gated. Accept its licence on its Hub page, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    if has(hub.RevisionNotFoundError):
        return ModelError(f"{name} has no such revision. {first_line}")
    if has(hub.RepositoryNotFoundError) or "is not a valid model identifier" in str(error):
        return ModelError(
            f"no model {name!r} on the Hugging Face Hub. Check the spelling; a private one needs "
            "`hf auth login`."
        )
    if has(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError) or (
        "couldn't connect" in str(error).lower()
    ):
        return ModelError(
            f"{name} is not on this machine and the Hub cannot be reached. Connect once, or pass "
            "a local folder."
        )
    unknown = ("architecture", "unrecognized configuration class", "does not recognize")
    if any(word in str(error).lower() for word in unknown):
        return ModelError(
            f"TransformerLens cannot wrap {name}: {first_line} "
            "`transformer_lens.supported_models` lists the architectures it knows."
        )
    return ModelError(f"cannot load {name}: {first_line}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides the loader's progress bars and notes, and leaves logging as it was."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
