"""Read directions, scores and replies that other projects published.

Each format has a reader that recognises its own; `READERS` lists them, and another format is
another entry. Pickles are opened by torch's restricted unpickler with the few globals that arrays
and tensors need and stand-ins for two classes, so a file can hold numbers and nothing that runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workbench.directions.published import arditi, control_vectors, steering, zhao
from workbench.directions.published.files import (
    Published,
    PublishedChoice,
    finite,
    floating,
    read_pickle,
)
from workbench.errors import ArtifactError

__all__ = ["READERS", "Published", "PublishedChoice", "Reader", "load_published"]


def load_published(path: str | Path, t_inst: int = zhao.QWEN2_T_INST) -> Published:
    """Reads a run, a folder or a file in a format that another project published.

    Known formats:

    - the folder of a run of Arditi et al. 2024 (``mean_diffs.pt``, ``direction.pt``,
      ``direction_evaluations.json``, ``completions``, whichever are there), or one of its tensors;
    - the direction files of Zhao et al. 2025, one or a folder of them. They hold one vector per
      layer. Rows 0..27 are the inputs of the blocks; row 28 follows the last block, and the files
      do not say whether before or after the final norm;
    - control vectors of repeng or llama.cpp (``.gguf``; needs the package ``gguf``);
    - what steering-vectors and repeng hold in memory, saved with ``torch.save`` (``.pt``): a
      ``SteeringVector``, a ``ControlVector``, or the vectors of either by layer.

    The last two number their layers by the block to whose output a vector is added: layer l is
    ``resid_pre`` of layer l + 1 here, and the provenance says so. They hold no position and no
    model name; they are labelled with position -1, where both projects read by default.

    Args:
        path: the folder or file.
        t_inst: the position that vectors read at the last token of the instruction are labelled
            with, since the files of Zhao et al. do not hold it. It is -6 in Qwen2's own chat
            template; the published code rendered prompts without the last line break, so there
            it was -5.

    Raises:
        ArtifactError: nothing there, no known format, broken, not finite, a pickle that asks for
            more than arrays and tensors, or ``gguf`` is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise ArtifactError(f"no file or folder {path}.")
    for reader in READERS:
        if reader.recognises(path):
            return reader.read(path, t_inst)
    known = "; ".join(reader.what for reader in READERS)
    raise ArtifactError(f"{path} is in no published format that is known here. Known: {known}.")


def _read_tensor_file(path: Path, t_inst: int) -> Published:
    """What a file holds by itself follows from its kind and its shape."""
    found = read_pickle(path)
    tensor = floating(found)
    if tensor is None:
        return steering.read(path, found)
    if tensor.ndim == 2 and zhao.FILE_NAME.match(path.stem):
        return zhao.from_layers(
            finite(path, tensor).unsqueeze(0), (zhao.direction_name(path),), path.stem, t_inst
        )
    provenance = {"source": path.name}
    if tensor.ndim != 1:
        return Published(arditi.from_grid(path, provenance), provenance=provenance)
    beside = path.with_name(arditi.RUN_FILES[0])
    if not beside.is_file():
        raise ArtifactError(
            f"{path} holds one vector and not its layer or position. Put {beside.name} beside it, "
            "or load the folder of the run."
        )
    choice = arditi.read_choice(beside)
    return Published(
        arditi.from_vector(path, choice, provenance), choice=choice, provenance=provenance
    )


@dataclass(frozen=True)
class Reader:
    """A format: what it is called, how it is recognised, and how it is read."""

    what: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, int], Published]


READERS = (
    Reader(
        "the folder of a run of Arditi et al. 2024",
        lambda path: any((path / name).is_file() for name in arditi.RUN_FILES),
        lambda path, t_inst: arditi.read_run(path),
    ),
    Reader(
        "a folder of direction files of Zhao et al. 2025",
        lambda path: (
            path.is_dir() and any(zhao.FILE_NAME.match(file.stem) for file in path.glob("*.pt"))
        ),
        zhao.read_folder,
    ),
    Reader(
        "a control vector of repeng or llama.cpp (.gguf)",
        lambda path: path.is_file() and path.suffix == ".gguf",
        lambda path, t_inst: control_vectors.read(path),
    ),
    Reader(
        "one .pt file of either, or of steering-vectors or repeng",
        lambda path: path.is_file() and path.suffix == ".pt",
        _read_tensor_file,
    ),
)
