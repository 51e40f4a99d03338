"""Read directions, scores and replies that other projects published or saved.

Each format has a reader that recognises its own; `READERS` lists them, and another format is
another entry. Pickles are opened by torch's restricted unpickler with the few globals that arrays
and tensors need and stand-ins for two classes, so a file can hold numbers and nothing that runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.directions.published import (
    arditi,
    arrays,
    control_vectors,
    persona,
    steering,
    zhao,
)
from workbench.directions.published.asked import Asked, axes_of
from workbench.directions.published.files import (
    Published,
    PublishedChoice,
    is_ours,
    read_numpy,
    read_pickle,
    read_safetensors,
)
from workbench.directions.published.said import speaks_of_place
from workbench.errors import ArtifactError
from workbench.intake.limits import allowing, lies_there, regular_file
from workbench.intake.parsing import parsing
from workbench.intake.records import read_checked

__all__ = ["READERS", "Published", "PublishedChoice", "Reader", "load_published"]


@checked
def load_published(
    path: str | Path,
    *,
    t_inst: int = zhao.QWEN2_T_INST,
    layer: int | Sequence[int] | None = None,
    position: int | Sequence[int] | None = None,
    site: str | None = None,
    axes: str | Sequence[str] | None = None,
    name: str | Sequence[str] | None = None,
    read_at: str | None = None,
    max_bytes: int | None = None,
) -> Published:
    """Reads a run, a folder or a file that another project published or saved.

    Formats that say what they hold:

    - the folder of a run of Arditi et al. 2024 (``mean_diffs.pt``, ``direction.pt``,
      ``direction_evaluations.json``, ``completions``, whichever are there), or one of its tensors;
    - the direction files of Zhao et al. 2025, one or a folder of them. They hold one vector per
      layer. Rows 0..27 are the inputs of the blocks; row 28 follows the last block, and the files
      do not say whether before or after the final norm;
    - persona vectors of Chen et al. 2025 (``…_response_avg_diff.pt`` and its kin), one vector per
      layer as ``hidden_states`` has them;
    - control vectors of repeng or llama.cpp (``.gguf``; needs the package ``gguf``);
    - what steering-vectors and repeng hold in memory, saved with ``torch.save`` (``.pt``): a
      ``SteeringVector``, a ``ControlVector``, or a dict of what either holds;
    - ``.svec`` files of activation-steering;
    - directions that the workbench saved.

    Control and steering vectors are labelled with where their project adds them, and the provenance
    says so: vectors that are added to the output of block l are ``resid_pre`` of layer l + 1 here.
    They hold no position and no model name; they are labelled with position -1, where these
    projects read by default, or with ``position``.

    Everything else that holds floating vectors is read by its shape, from ``.pt``, ``.pth``,
    ``.safetensors``, ``.npy``, ``.npz`` and ``.json``:

    - one vector (d_model) takes ``layer``;
    - the rows of a matrix (row, d_model) can be layers, positions of one layer or vectors of one
      place, and take ``axes`` (or as many labels in ``layer`` as there are rows);
    - (layer, 1, d_model) and (1, layer, d_model) are one vector per layer; two longer axes look
      alike and take ``axes``;
    - rows that are layers are the inputs of the blocks, row l being ``resid_pre`` of layer l as
      ``hidden_states[l]`` is, unless ``read_at`` or ``layer`` says otherwise;
    - a dict with numbers of layers as keys (``3``, ``"3"``, ``"layer_3"``) holds ``resid_pre`` of
      these layers, the inputs of the blocks, unless ``read_at`` or ``layer`` says otherwise. The
      path of a block (``"model.layers.3"``) stands for its output, as that of its MLP
      (``"model.layers.3.mlp"``) does, and ``"blocks.3.hook_resid_pre"`` for what it says. A dot
      alone (``"layers.3"``) can be either and takes ``read_at``;
    - what a dict, or the metadata of ``.safetensors``, says under ``layer``, ``position``,
      ``site`` and their kin is read by the same rules, and what was given may not contradict it;
    - several tensors of one shape under other names give one direction each.

    Args:
        path: the folder or file.
        t_inst: the position that vectors read at the last token of the instruction are labelled
            with, since the files of Zhao et al. do not hold it. It is -6 in Qwen2's own chat
            template; the published code rendered prompts without the last line break, so there
            it was -5.
        layer: where the file does not say it, the layer of its vector, or one for every layer of
            it: ``site`` of that layer. The output of block l is ``resid_pre`` of layer l + 1.
        position: where the file does not say it, the same of positions; -1 by default.
        site: where the file does not say it, the site; ``resid_pre`` by default.
        axes: the axes of an array before d_model, in their order: ``"layer"``, ``"position"``,
            ``"layer position"`` or ``"position layer"``; or ``"name"``, every row being a vector
            of its own at one place.
        name: of a file with several tensors, those that are wanted; of one vector, its name.
        read_at: where rows or keys count blocks and the file does not say on which side it was
            read: ``"input"``, block l being ``resid_pre`` of layer l, or ``"output"``, of layer
            l + 1. ``provenance["layer"]`` says how it was read.
        max_bytes: of a file, and of what it unpacks to; 512 MiB by default.

    Raises:
        ArtifactError: nothing there, no known format, broken, not finite, zero, no floating
            numbers, a pickle that asks for more than arrays and tensors, a shape that can be read
            two ways or without a label that it needs, too large, no regular file, or ``gguf`` is
            not installed.
        AxisError: a layer below 0, a position that is not, or an unknown site or axis.
    """
    path = Path(path).expanduser()
    if not lies_there(path):
        raise ArtifactError(f"no file or folder {path}.")
    asked = Asked(
        layer=_several(layer),
        position=_several(position),
        site=site,
        axes=axes_of(axes) if isinstance(axes, str) else _several(axes),
        name=_several(name),
        t_inst=t_inst,
        read_at=read_at,
    )
    if (path / "study.json").is_file():
        raise ArtifactError(
            f"{path} is a run of the workbench. Read it with wb.load_run(path): its .direction is "
            "the chosen one, its .directions are all candidates."
        )
    with allowing(max_bytes=max_bytes), parsing(path, "what its name says"):
        for reader in READERS:
            if reader.recognises(path):
                return _checked(path, reader.read(path, asked))
    if not path.is_dir():
        regular_file(path)
    known = "; ".join(reader.what for reader in READERS)
    raise ArtifactError(f"{path} is in no published format that is known here. Known: {known}.")


def _checked(path: Path, published: Published) -> Published:
    """What was read, where every direction points somewhere at some place.

    A difference of means is zero at layer 0 after the instruction, so a part of them may be.
    """
    found = published.directions
    if found is None:
        return published
    nowhere = found.degenerate
    for name, everywhere in zip(found.names, nowhere.flatten(1).all(1), strict=True):
        if everywhere:
            raise ArtifactError(
                f"{path} holds nothing that points anywhere: {name} is zero, shorter than "
                "rounding or too long for its precision. It was saved broken; fetch or compute it "
                "again."
            )
    if not nowhere.any():
        return published
    places = sorted({found.layers[layer] for _, layer, _ in nowhere.nonzero().tolist()})
    note = {"zero": f"some vectors of layers {places} are zero but for rounding; none can be used"}
    provenance = {**published.provenance, **note}
    directions = replace(found, provenance={**found.provenance, **note})
    return replace(published, directions=directions, provenance=provenance)


def _several(given: Any) -> Any:
    """One label as a tuple of one."""
    if given is None:
        return None
    return (given,) if isinstance(given, int | str) else tuple(given)


def _read_contents(path: Path, found: Any, asked: Asked) -> Published:
    """What a file holds by itself follows from its name, its kind and its shape."""
    tensor = arrays.as_array(path, found)
    if tensor is None:
        return steering.read(path, found, asked)
    if tensor.ndim == 2 and zhao.FILE_NAME.match(path.stem):
        asked.only(path)
        name = (zhao.direction_name(path),)
        return zhao.from_layers(tensor.unsqueeze(0), name, path.stem, asked.t_inst)
    if tensor.ndim == 2 and persona.FILE_NAME.match(path.stem):
        return persona.from_layers(path, tensor, asked)
    provenance = {"source": path.name}
    grid = Path(arditi.RUN_FILES[1]).name
    if tensor.ndim == 3 and path.name == grid and asked == Asked(t_inst=asked.t_inst):
        return Published(arditi.from_grid(path, provenance), provenance=provenance)
    beside = path.with_name(arditi.RUN_FILES[0])
    if tensor.ndim == 1 and beside.is_file() and path.name == "direction.pt":
        asked.only(path)
        choice = arditi.read_choice(beside)
        return Published(
            arditi.from_vector(path, choice, provenance), choice=choice, provenance=provenance
        )
    name = asked.name or (path.stem,)
    if len(name) != 1 and asked.axes != ("name",):
        raise ArtifactError(f"{path} holds one tensor, and name= gives {len(name)}.")
    return arrays.from_array(path, {name[0]: tensor}, asked)


def _read_safetensors(path: Path, asked: Asked) -> Published:
    if is_ours(path):
        asked.only(path)
        directions = Directions.load(path)
        return Published(directions, provenance=directions.provenance)
    tensors, metadata = read_safetensors(path)
    said = {key: each for key, each in metadata.items() if speaks_of_place(key)}
    return _read_contents(path, said | tensors, asked)


def _read_json(path: Path, asked: Asked) -> Published:
    return _read_contents(path, read_checked(path, Any), asked)


def _read_run(path: Path, asked: Asked) -> Published:
    asked.only(path)
    return arditi.read_run(path)


def _read_folder(path: Path, asked: Asked) -> Published:
    asked.only(path)
    return zhao.read_folder(path, asked.t_inst)


@dataclass(frozen=True)
class Reader:
    """A format: what it is called, how it is recognised, and how it is read."""

    what: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, Asked], Published]


def _ends(*suffixes: str) -> Callable[[Path], bool]:
    # What is there and no regular file is refused where it is opened.
    return lambda path: not path.is_dir() and path.suffix.lower() in suffixes


READERS = (
    Reader(
        "the folder of a run of Arditi et al. 2024",
        lambda path: any((path / name).is_file() for name in arditi.RUN_FILES),
        _read_run,
    ),
    Reader(
        "a folder of direction files of Zhao et al. 2025",
        lambda path: (
            path.is_dir() and any(zhao.FILE_NAME.match(file.stem) for file in path.glob("*.pt"))
        ),
        _read_folder,
    ),
    Reader("a control vector of repeng or llama.cpp (.gguf)", _ends(".gguf"), control_vectors.read),
    Reader(
        "one .pt file of either, or of steering-vectors or repeng, or of vectors by themselves",
        _ends(".pt", ".pth"),
        lambda path, asked: _read_contents(path, read_pickle(path), asked),
    ),
    Reader("vectors in .safetensors", _ends(".safetensors"), _read_safetensors),
    Reader(
        "vectors in .npy or .npz",
        _ends(".npy", ".npz"),
        lambda path, asked: _read_contents(path, read_numpy(path), asked),
    ),
    Reader(
        "vectors of activation-steering (.svec), or in .json", _ends(".svec", ".json"), _read_json
    ),
)
