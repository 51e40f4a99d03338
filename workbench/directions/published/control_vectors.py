"""GGUF control vectors: what repeng exports and llama.cpp's cvector-generator writes.

Both write ``general.architecture`` "controlvector", a hint at the model's architecture, and one
float32 tensor ``direction.l`` per layer, which repeng and llama.cpp add to the output of block l,
0-based. repeng also reads it there. cvector-generator reads it one block earlier: its tensor 0 is
the output of block 0 and is called ``direction.1``. Directions are labelled with where they are
added, so that `Add` at their own layer does what these programs do. The two writers differ in the
sign of ``layer_count`` alone (repeng: unsigned).

Source: ``export_gguf``, ``batched_get_hiddens`` and ``ControlModule.forward`` of
github.com/vgel/repeng; ``cvector-generator.cpp``, ``mean.hpp``, ``pca.hpp`` and
``llama-adapter.cpp`` of github.com/ggml-org/llama.cpp.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from workbench.directions.published.asked import Asked
from workbench.directions.published.files import Published
from workbench.directions.published.steering import POSITION, from_blocks, repeng_provenance
from workbench.errors import ArtifactError
from workbench.intake.gguf import check_gguf
from workbench.intake.limits import regular_file
from workbench.intake.parsing import parsing

_ARCHITECTURE = "controlvector"

_TENSOR = re.compile(r"^direction\.(0|[1-9]\d*)$")


def read(path: Path, asked: Asked) -> Published:
    """The directions of a control vector.

    Raises:
        ArtifactError: gguf is not installed; the file is broken, another kind of GGUF, holds no
            direction, or one that is quantised, of another width, or not finite.
    """
    try:
        from gguf import GGUFReader, GGUFValueType
    except ImportError as error:
        raise ArtifactError(
            f"reading {path} needs the package gguf: pip install 'refusal-workbench[gguf]'."
        ) from error
    regular_file(path)
    with parsing(path, "a GGUF file"):
        # The reader trusts what a header says.
        check_gguf(path, _ARCHITECTURE, "a control vector; a language model holds no directions.")
        reader = GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items() if _wanted(name)}
    # The reader maps the file into memory; copies outlive it.
    vectors = {
        int(name[1]): np.array(tensor.data)
        for tensor in reader.tensors
        if (name := _TENSOR.match(tensor.name))
    }
    if not vectors:
        raise ArtifactError(f"{path} is a control vector without a tensor direction.<layer>.")
    provenance = repeng_provenance(fields.get(f"{_ARCHITECTURE}.model_hint"))
    count = reader.fields.get(f"{_ARCHITECTURE}.layer_count")
    if count is not None and count.types[0] == GGUFValueType.INT32:
        provenance = _cvector_generator(provenance)
    return from_blocks(path, vectors, provenance, asked)


def _wanted(name: str) -> bool:
    return name.startswith(f"{_ARCHITECTURE}.")


def _cvector_generator(provenance: dict[str, Any]) -> dict[str, Any]:
    """What differs where llama.cpp's own program wrote the file."""
    return {
        "source": "llama.cpp's cvector-generator, by its signed layer_count",
        "architecture": provenance["architecture"],
        "layer": "their layer l is added to the output of block l, which is resid_pre of layer "
        "l + 1; it was read one block earlier, at resid_pre of layer l",
        "position": f"none: it was read at all tokens of a text; {POSITION} is only a label",
    }
