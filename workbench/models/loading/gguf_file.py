"""GGUF files as models: weights are dequantized, and the tokenizer is the one in the file.

transformers does both. Around it stands what it does not do: the header is compared with the file
before anything is made of it, nothing that lies beside the file is mixed in, and a weight that the
file lacks is an error (transformers draws it at random, and says so in a note).
"""

import contextlib
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from workbench.artifact import file_digest
from workbench.errors import ModelError
from workbench.intake.gguf import ModelHeader, check_gguf_model
from workbench.models.loading.explained import lacks

_MOST_CLAIMED = 1.5
"""Numbers of a network for each number of its file, at most: heads may be tied to embeddings."""


def check_file(path: Path) -> ModelHeader:
    """What a GGUF file says of itself, once it is known to be a model that transformers reads.

    Raises:
        ModelError: it is none; or the package ``gguf`` is not installed.
    """
    try:
        header = check_gguf_model(path)
    except ImportError as error:
        raise lacks("gguf", "gguf", str(path)) from error
    known = _architectures()
    if header.architecture not in known:
        raise ModelError(
            f"transformers reads no GGUF of architecture {header.architecture!r}, which {path} is: "
            f"it reads {', '.join(known)}. Load the checkpoint that the file was made from."
        )
    return header


def read_tokenizer(path: Path) -> Any:
    """The tokenizer of a GGUF file, with its chat template."""
    from transformers import AutoTokenizer

    with _alone(path) as folder:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=path.name)
    tokenizer.name_or_path = str(path)
    return tokenizer


def read_network(
    path: Path,
    header: ModelHeader,
    dtype: torch.dtype,
    device: torch.device | None,
    device_map: Any,
) -> Any:
    """The network of a GGUF file, as if it had never been quantized.

    Raises:
        ModelError: the file lacks weights of the network, or claims a larger one than it holds.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import quantization_config

    settings: dict[str, Any] = {"dtype": dtype, "output_loading_info": True}
    # Where kernels are installed, transformers would keep weights packed.
    if own := getattr(quantization_config, "GgufConfig", None):
        settings["quantization_config"] = own(dequantize=True)
    if device_map is not None:
        settings["device_map"] = device_map
    with _alone(path) as folder, _without_bars():
        config = AutoConfig.from_pretrained(folder, gguf_file=path.name)
        _check_size(path, header, config)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=path.name, config=config, **settings
        )
    network, found = loaded
    if lacking := sorted(found["missing_keys"]):
        raise ModelError(
            f"{path} lacks {len(lacking)} weight(s) of a {type(network).__name__}, first "
            f"{lacking[0]}. Convert the checkpoint again."
        )
    if getattr(network, "hf_quantizer", None) is not None:
        network.hf_quantizer.remove_quantization_config(network)
    if device_map is None and device is not None:
        network = network.to(device)
    return network


def gguf_form(path: Path, header: ModelHeader) -> dict[str, Any]:
    """What provenance says of such a model; see `models.form`."""
    return {
        "form": "gguf",
        "dequantized_from": list(header.quantized),
        "file_sha256": file_digest(path),
    }


def _check_size(path: Path, header: ModelHeader, config: Any) -> None:
    """Refuses a network that is larger than what the file holds, before there is room made."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(config)
    claimed = sum(weight.numel() for weight in network.parameters())
    if claimed > _MOST_CLAIMED * header.numbers:
        raise ModelError(
            f"{path} claims a network of {claimed:,} numbers and holds {header.numbers:,}. "
            "Download it again."
        )


def _architectures() -> list[str]:
    """What transformers reads, by the names of llama.cpp."""
    from transformers import modeling_gguf_pytorch_utils as own

    found = set(own.GGUF_SUPPORTED_ARCHITECTURES)
    with contextlib.suppress(ImportError):
        from transformers.integrations.gguf.gguf_config_mapping import GGUF_CONFIG_ARCHS

        found |= set(GGUF_CONFIG_ARCHS)
    # Their names in transformers, where the two differ.
    return sorted(found | {name.replace("_", "") for name in found if name.endswith("_moe")})


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Takes away a progress bar that asks nobody."""
    own: Any = import_module("transformers.modeling_gguf_pytorch_utils")
    bar, own.tqdm = own.tqdm, lambda tensors, **settings: tensors
    try:
        yield
    finally:
        own.tqdm = bar


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[str]:
    """A folder with the file alone: transformers would take a tokenizer that lies beside it."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            (Path(folder) / path.name).symlink_to(path.resolve())
        except OSError:  # a system without links
            folder = str(path.parent)
        yield folder
