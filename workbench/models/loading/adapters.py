"""PEFT adapters: found, held against their base, and merged into it or left on.

The library loads what fits and passes over the rest. Here an adapter that has no place in the base
is refused, one that asks for what the installed version does not know, too, and one that changes
nothing is named in a warning.

Source: github.com/huggingface/peft, ``PeftModel.from_pretrained`` and ``save_and_load.py``.
"""

import contextlib
import copy
import hashlib
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from workbench.artifact import file_digest
from workbench.errors import ModelError, WorkbenchError
from workbench.intake.records import read_checked
from workbench.models.form import form_of
from workbench.models.loading.explained import explained, lacks
from workbench.models.loading.places import ADAPTER_CONFIG, Place, check_files
from workbench.models.reference import weights_fingerprint

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_ONE = "default"


@dataclass(frozen=True)
class Adapter:
    """An adapter on this machine.

    Attributes:
        name: what was asked for.
        folder: where it lies.
        base: the model that it says it was trained on; None where it says none.
        base_revision: the revision of that.
        weights: the file of its weights.
    """

    name: str
    folder: Path
    base: str | None
    base_revision: str | None
    weights: Path

    @property
    def has_tokenizer(self) -> bool:
        """Whether a tokenizer lies beside it, as whoever trains one usually keeps it."""
        names = ("tokenizer_config.json", "tokenizer.json")
        return all((self.folder / name).is_file() for name in names)


def on_hub(place: Place, revision: str | None) -> Path | None:
    """The downloaded folder of an adapter on the Hub; None where the id is none, or not reached.

    Raises:
        ModelError: it is one, and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        hf_hub_download(place.source, ADAPTER_CONFIG, revision=revision)
    except Exception:  # whatever it is, who reads it as a model says it
        return None
    wanted = ["adapter_*", "tokenizer*", "special_tokens_map.json", "chat_template*"]
    try:
        return Path(snapshot_download(place.source, revision=revision, allow_patterns=wanted))
    except Exception as error:
        raise explained(place.name, error) from error


def read_adapter(name: str, folder: Path) -> Adapter:
    """What the files of an adapter say of themselves.

    Raises:
        ModelError: they are broken, or hold no weights.
    """
    check_files(folder)
    found = read_checked(folder / ADAPTER_CONFIG, dict[str, Any], ModelError)
    for key in ("base_model_name_or_path", "revision"):
        if not isinstance(found.get(key), str | None):
            raise ModelError(f"{folder / ADAPTER_CONFIG} is broken: {key} is no text.")
    weights = [folder / file for file in _WEIGHTS if (folder / file).is_file()]
    if not weights:
        raise ModelError(f"{folder} holds an adapter without weights: no {' or '.join(_WEIGHTS)}.")
    base = (found.get("base_model_name_or_path") or "").strip() or None
    return Adapter(name, folder, base, found.get("revision") or None, weights[0])


def check_installed(name: str) -> None:
    """Refuses to go on without PEFT.

    Raises:
        ModelError: it is not installed.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise lacks("peft", "adapters", name) from error


@dataclass(frozen=True)
class Adapted:
    """A network with an adapter.

    Attributes:
        network: what is to be wrapped.
        form: see `models.form`.
        notes: what has to be said about it, in whole sentences.
    """

    network: torch.nn.Module
    form: dict[str, Any]
    notes: tuple[str, ...] = ()


def put_on(
    network: torch.nn.Module, adapter: Adapter, base: str, merge: bool, form: Mapping[str, Any]
) -> Adapted:
    """A network with an adapter, merged into it or left on.

    Args:
        network: the base, which is changed.
        adapter: what goes on.
        base: what the base is called.
        merge: whether the base's own matrices are changed.
        form: of the base; see `models.form`.

    Raises:
        ModelError: the adapter does not fit the base, cannot be merged, or is broken.
    """
    _check_quantized(network, adapter.name, merge)
    before = weights_fingerprint(network)
    notes: list[str] = []
    if adapter.base is not None and _model_name(adapter.base) != _model_name(base):
        notes.append(
            f"adapter {adapter.name} says that its base is {adapter.base}, and it is put on "
            f"{base}. Where that is not meant, pass the other as the model."
        )
    with _calmly(adapter.name, base):
        wrapped = _fitted(network, adapter, base)
        state = _state(wrapped)
        if merge:
            found = wrapped.base_model.merge_and_unload(safe_merge=True)
            nothing = weights_fingerprint(found) == before
        else:
            found = wrapped.get_base_model()
            nothing = _adds_nothing(state)
    if nothing:
        notes.append(_nothing(adapter.name))
    facts = {
        "name": adapter.name,
        "weights": _digest(state),
        "file_sha256": file_digest(adapter.weights),
    }
    return Adapted(
        found, _form(facts, merge, {"model": base, "plain_weights": before, **form}), (*notes,)
    )


def unwrapped(network: Any, merge: bool) -> Adapted:
    """The network under a `PeftModel` that somebody holds.

    Merged, it is a copy, and what they hold stays as it is; left on, it is the very network.

    Raises:
        ModelError: it cannot be merged.
    """
    name = ", ".join(network.active_adapters)
    found = inner = network.get_base_model()
    base = getattr(inner.config, "_name_or_path", "") or type(inner).__name__
    _check_quantized(inner, name, merge)
    with _calmly(name, base):
        state = {}
        for own in network.active_adapters:
            _check_kind(network.peft_config[own], name)
            mark = f"{own}." if len(network.active_adapters) > 1 else ""
            state |= {mark + key: weight for key, weight in _state(network, own).items()}
        before = _base_fingerprint(inner, network.base_model.prefix)
        nothing = _adds_nothing(state)
        if merge:
            found = copy.deepcopy(network).base_model.merge_and_unload(safe_merge=True)
            nothing = weights_fingerprint(found) == before
    facts = {"name": name, "weights": _digest(state)}
    own = {"model": base, "plain_weights": before, **form_of(inner)}
    return Adapted(found, _form(facts, merge, own), (_nothing(name),) if nothing else ())


def left_on(network: Any) -> Adapted:
    """A network on which somebody put adapters, and which is no `PeftModel`: taken as it is."""
    prefix = "lora_"
    state = {
        f"base_model.model.{name.replace('.default', '')}": weight
        for name, weight in network.state_dict().items()
        if f".{prefix}" in name
    }
    base = getattr(network.config, "_name_or_path", "") or type(network).__name__
    before = _base_fingerprint(network, prefix)
    own = {"model": base, "plain_weights": before, **form_of(network)}
    facts = {"name": ", ".join(network.peft_config), "weights": _digest(state)}
    return Adapted(network, _form(facts, False, own))


def _form(facts: Mapping[str, Any], merged: bool, base: Mapping[str, Any]) -> dict[str, Any]:
    return {"form": "adapter", "adapter": dict(facts), "merged": merged, "base": dict(base)}


def _adds_nothing(state: Mapping[str, torch.Tensor]) -> bool:
    """Whether the second factor of all pairs is zero, as before any training."""
    second = [weight for name, weight in state.items() if "lora_B" in name]
    others = [name for name in state if "lora_" not in name]
    return bool(second) and not others and not any(weight.any() for weight in second)


def _nothing(name: str) -> str:
    return (
        f"adapter {name} changes nothing: with it the model is its base. One that was never "
        "trained is like that."
    )


def is_peft_model(network: Any) -> bool:
    """Whether a network is a model of PEFT, without importing that."""
    return any(
        each.__name__ == "PeftModel" and each.__module__.startswith("peft.")
        for each in type(network).__mro__
    )


def _fitted(network: torch.nn.Module, adapter: Adapter, base: str) -> Any:
    """A PeftModel of the two, all of whose weights were found in the file, and the other way round.

    Raises:
        ModelError: they do not fit.
    """
    from peft import PeftConfig, PeftModel
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    config = PeftConfig.from_pretrained(str(adapter.folder))
    _check_known(config, adapter)
    _check_kind(config, adapter.name)
    config.inference_mode = True
    stored = load_peft_weights(str(adapter.folder), device="cpu")
    try:
        wrapped = PeftModel(network, config, _ONE)
        loaded = set_peft_model_state_dict(wrapped, stored, _ONE)
    except ValueError as error:
        raise ModelError(f"adapter {adapter.name} does not fit {base}: {_first(error)}") from error
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        raise ModelError(
            f"adapter {adapter.name} does not fit {base}: {lines[0] if lines else _first(error)}"
            + f" And {len(lines) - 1} more." * (len(lines) > 1)
        ) from error
    if astray := sorted(loaded.unexpected_keys):
        raise ModelError(
            f"adapter {adapter.name} does not fit {base}: {len(astray)} of its {len(stored)} "
            f"weights have no place there, first {astray[0]}. Pass its own base"
            + (f", {adapter.base}." if adapter.base else ".")
        )
    prefix = wrapped.base_model.prefix
    if lacking := sorted(key for key in loaded.missing_keys if prefix in key):
        raise ModelError(
            f"adapter {adapter.name} is broken: its file lacks {len(lacking)} weights that its "
            f"settings ask for on {base}, first {lacking[0]}."
        )
    return wrapped.eval()


def _check_kind(config: Any, name: str) -> None:
    """Refuses adapters that are no change of weights, or not of all tokens.

    Raises:
        ModelError: it is one of these.
    """
    kind = getattr(config.peft_type, "value", config.peft_type)
    if config.is_prompt_learning or getattr(config, "is_adaption_prompt", False):
        raise ModelError(
            f"adapter {name} is of type {kind}: it changes no weight and adds what is read beside "
            "the prompt, so positions are not the prompt's. Only adapters of weights are read."
        )
    for setting in ("alora_invocation_tokens", "layer_replication", "megatron_config"):
        if getattr(config, setting, None):
            raise ModelError(
                f"adapter {name} sets {setting}, with which it is no fixed change of the weights "
                "of its base. It is not read."
            )


def _check_known(config: Any, adapter: Adapter) -> None:
    """Refuses settings that the installed PEFT passes over.

    Raises:
        ModelError: it would.
    """
    import peft

    asked = json.loads((adapter.folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    known = {own.name for own in fields(config)}
    strange = sorted(name for name, value in asked.items() if value and name not in known)
    if strange:
        raise ModelError(
            f"adapter {adapter.name} sets {', '.join(strange)[:200]}, which peft "
            f"{peft.__version__} does not know, so it would compute something else. Install the "
            "version that it was made with."
        )


def _check_quantized(network: torch.nn.Module, name: str, merge: bool) -> None:
    form = form_of(network)
    if merge and form.get("form") == "quantized":
        raise ModelError(
            f"adapter {name} cannot be merged into weights quantized by {form['quantization']} "
            "without rounding it to as few bits. Load the base without, or pass merge=False."
        )


def _model_name(name: str) -> str:
    """A model's name without owner, folders, and what says how its weights are stored.

    >>> [_model_name(each) for each in ("a/Tiny-1B", "b/tiny-1b.Q4_1.gguf", "Tiny-1B-bnb-4bit")]
    ['tiny-1b', 'tiny-1b', 'tiny-1b']
    """
    parts = [part for part in re.split(r"[\\/]", name.lower()) if part]
    own = parts[-1] if parts else ""
    if re.fullmatch(r"[0-9a-f]{40}", own) and len(parts) > 2:  # as the Hub's cache has it
        own = parts[-3].rsplit("--", 1)[-1]
    own = own.removesuffix(".gguf")
    return re.sub(r"[.\-_]((ud-)?i?q\d\w*|b?f(p)?(16|32)|(unsloth-)?bnb-[48]bit)$", "", own)


def _state(wrapped: Any, adapter: str = _ONE) -> dict[str, torch.Tensor]:
    """The weights of one adapter by their names."""
    from peft.utils import get_peft_model_state_dict

    found = get_peft_model_state_dict(wrapped, adapter_name=adapter, save_embedding_layers=False)
    return {name: weight.detach().clone() for name, weight in found.items()}


def _digest(state: Mapping[str, torch.Tensor]) -> str:
    """16 hexadecimal digits from names, shapes and all values; in whatever file they came."""
    digest = hashlib.sha256()
    for name, weight in sorted(state.items()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        digest.update(weight.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _base_fingerprint(inner: torch.nn.Module, prefix: str) -> str:
    """What `weights_fingerprint` gives for a network without the adapters that are left on it."""
    kept: dict[str, torch.Tensor] = {}
    for name, weight in inner.state_dict().items():
        if f".{prefix}" not in name and ".modules_to_save." not in name:
            name = name.replace(".base_layer.", ".").replace(".original_module.", ".")
            kept[name] = weight
    return weights_fingerprint(inner, kept)


@contextlib.contextmanager
def _calmly(name: str, base: str) -> Iterator[None]:
    """Runs PEFT without its warnings, and with its errors in one line of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except WorkbenchError:
        raise
    except (KeyError, TypeError, AttributeError, NotImplementedError) as error:
        told = f"{type(error).__name__}: {_first(error)}"
        raise ModelError(f"adapter {name} cannot be put on {base}: {told}") from error
    except Exception as error:
        raise explained(f"adapter {name}", error) from error


def _first(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    return line if line.endswith(".") else f"{line}."
