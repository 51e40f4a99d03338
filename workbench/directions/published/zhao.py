"""Direction files of Zhao et al. 2025: one vector per layer at t_inst, by category and overall."""

import re
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.directions.direction import Directions
from workbench.directions.published.files import Published, read_tensor
from workbench.errors import ArtifactError

QWEN2_T_INST = -6
"""Where Qwen2's own template, which ends in five tokens, has the instruction's last token."""

OVERALL = "overall"
"""The name of the direction of all categories together, which is no category."""

FILE_NAME = re.compile(r"^(?P<model>[^-]+)-(?:hf-dir-(?P<category>.+)|dir-hf)$")


def read_folder(path: Path, t_inst: int) -> Published:
    """Every direction file of a folder, named by its category.

    Raises:
        ArtifactError: files of several models, or of several shapes, or one that cannot be read.
    """
    found = {file: name for file in path.glob("*.pt") if (name := FILE_NAME.match(file.stem))}
    files = sorted(found)
    if len(models := sorted({name["model"] for name in found.values()})) > 1:
        raise ArtifactError(
            f"{path}: expected direction files of one model, found those of {', '.join(models)}. "
            "Put each model's files into a folder of their own."
        )
    arrays = {direction_name(file): read_tensor(file) for file in files}
    shapes = {tuple(array.shape) for array in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise ArtifactError(
            f"{path}: expected vectors (layer, d_model) of one model, found shapes "
            f"{', '.join(map(str, sorted(shapes)))}."
        )
    return from_layers(torch.stack(list(arrays.values())), tuple(arrays), files[0].stem, t_inst)


def direction_name(file: Path) -> str:
    """The category in a file's name; ``overall`` where it names none."""
    found = FILE_NAME.match(file.stem)
    return (found and found["category"]) or OVERALL


def from_layers(
    vectors: Float[Tensor, "name layer d_model"], names: tuple[str, ...], stem: str, t_inst: int
) -> Published:
    """Directions over (name, layer), with what the files leave open in their provenance."""
    found = FILE_NAME.match(stem)
    last = vectors.shape[1] - 1
    provenance: dict[str, Any] = {
        "source": "Zhao et al. 2025, "
        "github.com/CHATS-lab/LLMs_Encode_Harmfulness_Refusal_Separately",
        "position": f"t_inst; {t_inst} is not in the files but was given by the reader",
        "after_last_block": last,
        "last_layer": f"row {last} follows the last block; the files do not say "
        "whether it was read before or after the final norm",
    }
    if found and found["model"] == "qwen":
        provenance["model"] = "Qwen/Qwen2-7B-Instruct"
    directions = Directions(
        # Half precision is exact in float32, and its squares would overflow in a norm.
        values=vectors.float().unsqueeze(2),
        names=names,
        layers=tuple(range(vectors.shape[1])),
        positions=(t_inst,),
        site="resid_pre",
        provenance=provenance,
    )
    return Published(directions=directions, provenance=provenance)
