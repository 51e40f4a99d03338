"""SAELens: importing it beside this TransformerLens, and reading what it saved or published."""

import contextlib
import importlib
import importlib.util
import sys
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import ArtifactError, ModelError
from workbench.intake.limits import MAX_ARTIFACT_BYTES, regular_file
from workbench.intake.parsing import parsing, without_panics
from workbench.intake.records import read_record

_REMOVED = (
    "transformer_lens.HookedTransformer",
    "transformer_lens.utils",
    "transformer_lens.components.mlps.can_be_used_as_mlp",
)
"""Modules that SAELens imports at its top and that TransformerLens 4 no longer has."""

_SETTINGS_FILE, _WEIGHTS_FILE = "cfg.json", "sae_weights.safetensors"

_SCALE_FILE = "activation_scaler.json"
"""Where SAELens' trainer keeps the scale of the activations, in a checkpoint."""


def import_sae_lens() -> Any:
    """The module ``sae_lens``, ready for its SAEs, their training and their files.

    SAELens 6 imports the class HookedTransformer, which TransformerLens 4 removed, though its SAEs
    do not use it. While it is imported, stand-ins take the places of what was removed; calling one
    of them raises. SAELens' own model wrappers and runners therefore do not work, all else does.
    To train an SAE, import SAELens through this function.

    Raises:
        ModelError: SAELens is not installed, or this version cannot be imported.
    """
    if importlib.util.find_spec("sae_lens") is None:
        raise ModelError(
            "sparse autoencoders need the package 'sae-lens'. "
            "Run: pip install 'refusal-workbench[sae]'."
        )
    try:
        with _stand_ins():
            return importlib.import_module("sae_lens")
    except ImportError as error:
        raise ModelError(
            f"the installed sae-lens cannot be imported: {error}. Install the version that "
            "constraints.txt names."
        ) from error


def read_sae(release: str, sae_id: str | None, device: str, dtype: str) -> Any:
    """An SAE of SAELens, from one of its releases, a repository on the Hub or a folder.

    Raises:
        ArtifactError: no such folder, release or SAE; it is broken or out of reach; or the scale
            that its activations need is not with it.
        ModelError: SAELens is not installed.
    """
    folder = Path(release) if sae_id is None else Path(release) / sae_id
    sae_lens = import_sae_lens()
    if sae_id is None and not folder.is_dir():
        raise ArtifactError(
            f"no folder {release}. Pass a folder that SAELens saved, or a release and its sae_id=."
        )
    local = folder.is_dir()
    if local:
        check_folder(folder)
    try:
        with without_panics(), warnings.catch_warnings():
            # SAELens warns that its own model wrapper wants other arguments; none is used here.
            warnings.filterwarnings("ignore", message=r"\s*This SAE has non-empty model_from")
            warnings.filterwarnings("ignore", message="You are loading an SAE using the Hugging")
            warnings.filterwarnings("ignore", message="norm_scaling_factor not found for")
            if local:
                sae = sae_lens.SAE.load_from_disk(str(folder), device=device, dtype=dtype)
            else:
                sae = sae_lens.SAE.from_pretrained(release, sae_id, device=device, dtype=dtype)
    # What goes wrong here is the network's, the Hub's, the file's or SAELens' own, each with
    # classes of its own.
    except Exception as error:
        raise _explained(str(folder) if local else f"{release}, {sae_id}", error, local) from error
    if sae.cfg.normalize_activations == "expected_average_only_in":
        sae.fold_activation_norm_scaling_factor(_scale(folder))
    return sae.eval().requires_grad_(False)


@dataclass(frozen=True)
class _Scale:
    scaling_factor: float


@dataclass(frozen=True)
class _Settings:
    """What decides how large an SAE is."""

    d_in: int
    d_sae: int


def check_folder(folder: Path) -> None:
    """Refuses settings of another size than the weights beside them.

    SAELens makes room for what the settings say before it looks at the weights.

    Raises:
        ArtifactError: they do, or the files are broken or none that can be read to their end.
    """
    from safetensors import safe_open

    for file in folder.iterdir():
        if not file.is_dir():
            regular_file(file, otherwise=MAX_ARTIFACT_BYTES)
    weights = folder / _WEIGHTS_FILE
    if not weights.is_file() or not (folder / _SETTINGS_FILE).is_file():
        return  # another layout, of which SAELens says what is missing
    settings = read_record(folder / _SETTINGS_FILE, _Settings)
    with parsing(folder, "an SAE that SAELens can read", verb="does not hold"):
        with safe_open(weights, framework="numpy") as file:
            held = {name: file.get_slice(name).get_shape() for name in file.keys()}
    shape = [settings.d_sae, settings.d_in]
    if held.get("W_dec") != shape:
        decoder = f"a decoder of shape {held['W_dec']}" if "W_dec" in held else "no decoder W_dec"
        raise ArtifactError(
            f"{folder} does not hold an SAE: {_SETTINGS_FILE} says {settings.d_sae} features of "
            f"width {settings.d_in}, and {_WEIGHTS_FILE} holds {decoder}. Save it again."
        )


def _scale(folder: Path) -> float:
    """The factor by which activations are multiplied before the SAE reads them.

    Without it every encoding would be wrong, and nothing would show it.
    """
    try:
        return read_record(folder / _SCALE_FILE, _Scale).scaling_factor
    except ArtifactError as error:
        raise ArtifactError(
            f"{folder} was trained on rescaled activations and does not say by how much: expected "
            f"a scaling_factor in {_SCALE_FILE}. Save it after the trainer's fit(), which folds "
            "the scale into the weights."
        ) from error


def _explained(name: str, error: Exception, local: bool) -> ArtifactError:
    """One clear line for whatever SAELens, safetensors or the Hub raised."""
    from huggingface_hub import errors as hub

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(each, kinds) for each in chain)

    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300].rstrip(".")
    if local:
        if isinstance(error, KeyError):
            reason = f"SAELens has no SAE of architecture or entry {reason}"
        return ArtifactError(
            f"{name} does not hold an SAE that SAELens can read: {reason}. Expected cfg.json and "
            "sae_weights.safetensors, as save_inference_model writes them."
        )
    if has(hub.GatedRepoError):
        return ArtifactError(
            f"{name} is gated. Accept its licence on its Hub page, then log in with "
            "`hf auth login` or set HF_TOKEN."
        )
    if has(hub.LocalEntryNotFoundError, ConnectionError, TimeoutError):
        return ArtifactError(
            f"{name} is not on this machine and the Hub cannot be reached. Connect once, or pass "
            "a folder."
        )
    if has(hub.RepositoryNotFoundError, hub.EntryNotFoundError):
        return ArtifactError(f"the Hub has no SAE {name}. Check the release and sae_id=.")
    return ArtifactError(f"cannot load the SAE {name}: {reason}.")


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    """Puts stand-ins where TransformerLens removed a module, and takes them away again."""
    transformer_lens: Any = importlib.import_module("transformer_lens")
    added = [name for name in _REMOVED if name not in sys.modules and not _exists(name)]
    for name in added:
        sys.modules[name] = _Removed(name)
    if _REMOVED[0] in added:
        legacy: Any = sys.modules[_REMOVED[0]]
        # What SAEs are built on is still there, under another name.
        legacy.HookedRootModule = transformer_lens.HookedRootModule
        transformer_lens.HookedTransformer = legacy.HookedTransformer
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)
        if _REMOVED[0] in added:
            del transformer_lens.HookedTransformer


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


class _Removed(types.ModuleType):
    """A module that is gone: every name in it is a class that cannot be made."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: Any, **kwargs: Any) -> None:
            raise ModelError(
                f"{name} left TransformerLens in version 4, so this part of SAELens does not "
                "work here. Load models with workbench.load_model."
            )

        return type(name, (), {"__init__": refuse})
