"""Directions: vectors in the residual stream, with labelled axes and provenance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.arguments import check_fields, checked
from workbench.artifact import load_artifact, save_artifact
from workbench.errors import ArtifactError, AxisError, WorkbenchError
from workbench.intake.limits import allowing, lies_there
from workbench.intake.parsing import parsing
from workbench.labels import span
from workbench.positions import T_INST, Position
from workbench.statistics.resampling import Resampled
from workbench.tabled import Tabled

if TYPE_CHECKING:
    import pandas as pd

SITES = ("resid_pre", "attn_out", "mlp_out", "z")
"""Where vectors are read, as `workbench.models.sites.Site` says."""

_NOISE = 1e-6
"""A vector this much shorter than the longest of its set is rounding noise, not a direction."""

_SHORTEST = 1e-12
"""No longer than that is a vector zero: float32 loses the squares of its numbers soon after."""


@dataclass(frozen=True, eq=False)
class Directions(Tabled):
    """Raw vectors over (name, layer, position), read at one site.

    Attributes:
        values: the vectors as estimated, never normalised; in units of the activations.
        names: what each direction stands for: ``"refusal"``, or a harm category.
        layers: 0-based.
        positions: negative, from the end of the rendered prompt, or ``"t_inst"``, the last token of
            each prompt's instruction.
        site: where the activations were read, ``"resid_pre"`` unless said otherwise.
        provenance: model, prompts and settings that the vectors come from.
        resampled: the raw vectors on resampled prompts, rows being names, or None.
        prompt_keys: `PromptSet.keys` of the prompts that they were estimated on, where known.

    Raises:
        AxisError: labels and values disagree, or a label appears twice.
    """

    values: Float[Tensor, "name layer position d_model"]
    names: tuple[str, ...]
    layers: tuple[int, ...]
    positions: tuple[Position, ...]
    site: str = "resid_pre"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    resampled: Resampled | None = None
    prompt_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.values.is_floating_point():
            raise AxisError(
                f"Directions are floating numbers, found {self.values.dtype}. Pass values.float()."
            )
        labels = {"name": self.names, "layer": self.layers, "position": self.positions}
        expected = tuple(len(axis) for axis in labels.values())
        if tuple(self.values.shape[:3]) != expected or self.values.ndim != 4:
            raise AxisError(
                f"values of shape {tuple(self.values.shape)} do not fit the labels: expected "
                f"{expected} and d_model."
            )
        for axis, entries in labels.items():
            if len(set(entries)) != len(entries):
                raise AxisError(f"a {axis} appears twice: {list(entries)}.")
        if self.resampled is not None and self.resampled.halves.shape[2:] != self.values.shape:
            raise AxisError(
                f"resampled vectors of shape {tuple(self.resampled.halves.shape[2:])} do not fit "
                f"values of shape {tuple(self.values.shape)}."
            )
        if any(position != T_INST and position >= 0 for position in self.positions):
            raise AxisError(
                f"positions count from the end and are negative, or 't_inst': {self.positions}."
            )

    @classmethod
    @checked
    def from_vector(
        cls,
        vector: Any,
        layer: int,
        position: Position = -1,
        site: str = "resid_pre",
        name: str = "direction",
        provenance: Mapping[str, Any] | None = None,
    ) -> "Directions":
        """One vector of your own, with the place that it belongs to.

        Args:
            vector: [d_model], a tensor, an array or a list of floats; it is copied, half precision
                to float32, which holds it exactly.
            layer: ``site`` of this layer. The output of block l is ``resid_pre`` of layer l + 1.
            position: negative, from the end of the rendered prompt, or ``"t_inst"``.
            site: ``resid_pre``, ``attn_out``, ``mlp_out`` or ``z``.
            name: what it stands for.
            provenance: where it comes from.

        Raises:
            AxisError: it is no vector of floating, finite numbers, it points nowhere since it is
                zero but for rounding, or the place is none.

        >>> Directions.from_vector([0.0, 1.0], layer=3)
        Directions(direction; layers 3; positions -1; d_model 2; site resid_pre)
        """
        if site not in SITES:
            raise AxisError(
                f"no site {site!r}: {', '.join(SITES)}. The output of block l is resid_pre of "
                "layer l + 1."
            )
        values = _vector(vector)[None, None, None]
        made = cls(values, (name,), (layer,), (position,), site, provenance or {})
        made.check_points_somewhere(otherwise="")
        return made

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each vector: name, layer, position and norm, in activation units."""
        import pandas as pd

        cells = product(self.names, self.layers, self.positions)
        table = pd.DataFrame(cells, columns=["name", "layer", "position"])
        return table.assign(norm=self.norms.flatten().cpu().numpy())

    def __len__(self) -> int:
        """Number of vectors."""
        return self.values[..., 0].numel()

    def __repr__(self) -> str:
        names = ", ".join(self.names[:4]) + (", …" if len(self.names) > 4 else "")
        return (
            f"Directions({names}; layers {span(self.layers)}; positions "
            f"{span(self.positions)}; d_model {self.d_model}; site {self.site})"
        )

    @property
    def d_model(self) -> int:
        """Width of the stream."""
        return self.values.shape[-1]

    @property
    def vector(self) -> Float[Tensor, " d_model"]:
        """The only vector of these directions.

        Raises:
            AxisError: there is more than one.
        """
        if len(self) != 1:
            raise AxisError(
                f"expected one vector, found {len(self)}: {self!r}. Choose with "
                ".at(name=…, layer=…, position=…)."
            )
        return self.values[0, 0, 0]

    @property
    def norms(self) -> Float[Tensor, "name layer position"]:
        """Length of every vector, in units of the activations."""
        return self.values.norm(dim=-1)

    @property
    def degenerate(self) -> Bool[Tensor, "name layer position"]:
        """True where a vector is zero but for rounding, or not finite.

        The mean difference at layer 0 is one at every post-instruction token: the token is the
        same in every prompt. Such candidates are skipped, never normalised.
        """
        norms = self.norms
        finite = norms.isfinite()
        longest = norms[finite].max() if finite.any() else norms.new_zeros(())
        return ~finite | (norms <= torch.clamp(_NOISE * longest, min=_SHORTEST))

    def at(
        self,
        name: str | Sequence[str] | None = None,
        layer: int | Sequence[int] | None = None,
        position: Position
        | Literal["t_post"]
        | Sequence[Position | Literal["t_post"]]
        | None = None,
    ) -> "Directions":
        """Some of the directions, by label; an axis that is not given stays whole.

        ``"t_post"`` is position -1, and ``"t_inst"`` the number at which it stands in all prompts
        that the directions were estimated on, where there is one and it was not read by its name.

        Raises:
            AxisError: no such label.
        """
        chosen = {
            "name": _chosen("name", self.names, name, self.site),
            "layer": _chosen("layer", self.layers, layer, self.site),
            "position": _chosen("position", self.positions, self._numbered(position), self.site),
        }
        values = self.values
        for dim, index in enumerate(chosen.values()):
            values = values.index_select(dim, torch.tensor(index, device=values.device))
        return replace(
            self,
            values=values,
            names=tuple(self.names[i] for i in chosen["name"]),
            layers=tuple(self.layers[i] for i in chosen["layer"]),
            positions=tuple(self.positions[i] for i in chosen["position"]),
            resampled=self.resampled and self.resampled.select(*chosen.values()),
        )

    def _numbered(self, position: Any) -> Any:
        """Names of positions as the numbers that these directions have them by."""
        if not isinstance(position, str):
            listed = hasattr(position, "__iter__")
            return [self._numbered(each) for each in position] if listed else position
        number = {"t_post": -1, T_INST: self.provenance.get("t_inst_position")}.get(position)
        stands = number in self.positions and position not in self.positions
        return number if stands else position

    def unit(self) -> "Directions":
        """A copy in which every vector has length 1.

        Raises:
            AxisError: one of them is zero but for rounding, so it has no direction.
        """
        self.check_points_somewhere()
        return replace(self, values=self.values / self.norms.unsqueeze(-1))

    def check_points_somewhere(self, otherwise: str = " Choose another with .at(…).") -> None:
        """Refuses vectors that are zero but for rounding, or not finite.

        Raises:
            AxisError: the first of them, with its place.
        """
        if self.degenerate.any():
            name, layer, position = self.degenerate.nonzero()[0].tolist()
            why = _why_nowhere(self.values[name, layer, position])
            raise AxisError(
                f"{self.names[name]} at layer {self.layers[layer]}, position "
                f"{self.positions[position]} {why}.{otherwise}"
            )

    def save(self, path: str | Path) -> Path:
        """Writes the directions as one artifact, vectors in float32."""
        tensors = {"values": self.values.detach().float().cpu().numpy()}
        manifest = {
            "names": list(self.names),
            "layers": list(self.layers),
            "positions": list(self.positions),
            "site": self.site,
            "provenance": dict(self.provenance),
            "prompt_keys": list(self.prompt_keys),
        }
        if self.resampled is not None:
            tensors |= self.resampled.tensors()
            manifest["resampling_seed"] = self.resampled.seed
        return save_artifact(path, kind="directions", tensors=tensors, manifest=manifest)

    @classmethod
    def load(cls, path: str | Path, max_bytes: int | None = None) -> "Directions":
        """Reads what `save` wrote.

        Args:
            path: the file.
            max_bytes: of the file; 8 GiB by default.

        Raises:
            ArtifactError: the file is absent, broken, foreign, too large or of another kind.
        """
        try:
            with allowing(max_bytes=max_bytes):
                artifact = load_artifact(path, kind="directions")
        except ArtifactError as error:
            if lies_there(Path(path)) and Path(path).is_file() and "is of kind" not in str(error):
                raise ArtifactError(
                    f"{error} Vectors that others saved are read with wb.load_published(path)."
                ) from error
            raise
        manifest = artifact.manifest
        try:
            with parsing(path, "complete directions", verb="does not hold"):
                return cls(
                    torch.from_numpy(artifact.tensors["values"].copy()),
                    tuple(manifest["names"]),
                    tuple(manifest["layers"]),
                    tuple(manifest["positions"]),
                    manifest["site"],
                    manifest["provenance"],
                    Resampled.from_tensors(artifact.tensors, manifest),
                    tuple(manifest.get("prompt_keys", ())),
                )
        except WorkbenchError as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(f"{path} does not hold complete directions: {error}") from error


def _vector(vector: Any) -> Float[Tensor, " d_model"]:
    """A copy of one vector, in float32 or wider."""
    what = "from_vector takes one vector [d_model]"
    if isinstance(vector, Directions):
        raise AxisError(f"{what}, found Directions, which need no making.")
    if np.ma.is_masked(vector):
        raise AxisError(f"{what}, found an array with masked numbers. Pass .filled(…) of it, or "
                        "leave them out.")  # fmt: skip
    if not isinstance(vector, Tensor):
        try:
            array = np.asarray(vector)
            # Of another byte order, or read-only, they are none that torch takes.
            vector = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
        except (TypeError, ValueError) as error:
            raise AxisError(f"{what} of numbers, found a {type(vector).__name__}.") from error
    if vector.ndim != 1 or not len(vector):
        raise AxisError(
            f"{what}, found shape {tuple(vector.shape)}. Pass one row, or for vectors of several "
            "layers Directions(values, names, layers, positions)."
        )
    if not vector.is_floating_point():
        raise AxisError(f"{what} of floating numbers, found {vector.dtype}.")
    if lost := int((~vector.isfinite()).sum()):
        raise AxisError(f"{what}, and {lost} of its {len(vector)} numbers are NaN or infinite.")
    own = vector.detach()
    return own.clone() if own.dtype == torch.float64 else own.to(torch.float32, copy=True)


def _why_nowhere(vector: Float[Tensor, " d_model"]) -> str:
    """What is wrong with a vector that is degenerate; its length is taken without overflow."""
    largest = float(vector.abs().max())
    if not 0 < largest < float("inf"):
        return f"is zero or not finite, so it points nowhere: its length is {largest:.3g}"
    length = largest * float((vector.double() / largest).norm())
    most = float(torch.finfo(vector.dtype).max) ** 0.5
    if length >= most:
        return (
            f"is too long: its length is {length:.3g}, and from {most:.2g} on the square of one "
            f"overflows in {str(vector.dtype).removeprefix('torch.')}. Scale it down"
        )
    return (
        f"is zero but for rounding, so it points nowhere: its length is {length:.3g}, and "
        f"{_SHORTEST:g}, or {_NOISE:g} of the longest beside it, counts as zero. Scale it up if "
        "it is meant"
    )


def _chosen(axis: str, labels: Sequence[Any], wanted: Any, site: str) -> list[int]:
    """Indices of the wanted labels, in the order in which they were asked for."""
    if wanted is None:
        return list(range(len(labels)))
    # A label out of an array or a table is a NumPy scalar, which is no int.
    single = isinstance(wanted, str) or not hasattr(wanted, "__iter__")
    wanted = [wanted] if single else list(wanted)
    missing = [label for label in wanted if label not in labels]
    if missing:
        message = f"no {axis} {missing[0]!r} in these directions: {axis}s {span(labels)} "
        message += f"(site {site})."
        if axis == "layer":
            message += f" Pass layer={labels[-1]} for the last."
        raise AxisError(message)
    return [list(labels).index(label) for label in wanted]
