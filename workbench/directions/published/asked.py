"""What the caller of `load_published` says of a file that does not say it itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.directions.direction import SITES
from workbench.errors import ArtifactError, AxisError

AXES = ("layer", "position")
"""What rows of an array without labels can be."""

_KNOWN = {
    "layer": "which layers its vectors belong to. Leave layer= away, and choose with "
    ".directions.at(layer=…)",
    "position": "which positions its vectors belong to. Leave position= away, and choose with "
    ".directions.at(position=…)",
    "site": "where its vectors were read. Leave site= away",
    "axes": "what its axes are. Leave axes= away",
    "name": "what its vectors are called. Leave name= away, and choose with .directions.at(name=…)",
}


@dataclass(frozen=True)
class Asked:
    """Labels that were given with a path; None where they were not.

    Attributes:
        layer: one for every row of the axis of layers, or for the only vector.
        position: the same of positions.
        site: where the vectors were read.
        axes: the axes before d_model, in their order.
        name: names of the tensors of a file that are wanted, or of its only vector.
        t_inst: the position of vectors of Zhao et al.
    """

    layer: tuple[int, ...] | None = None
    position: tuple[int, ...] | None = None
    site: str | None = None
    axes: tuple[str, ...] | None = None
    name: tuple[str, ...] | None = None
    t_inst: int = -6

    def __post_init__(self) -> None:
        if self.site is not None and self.site not in SITES:
            raise AxisError(
                f"no site {self.site!r}: {', '.join(SITES)}. The output of block l is resid_pre "
                "of layer l + 1."
            )
        if wrong := [each for each in self.position or () if each >= 0]:
            raise AxisError(
                f"no position {wrong[0]}: positions are negative, counted from the end; the last "
                "token of the prompt is -1."
            )
        axes = self.axes or ()
        if set(axes) - set(AXES) or len(set(axes)) != len(axes) or (self.axes == ()):
            raise AxisError(
                f"axes={self.axes!r} are none: expected the axes before d_model in their order, "
                "'layer', 'position', 'layer position' or 'position layer'."
            )

    def only(self, path: Path, *allowed: str) -> None:
        """Refuses labels for what the file knows itself.

        Raises:
            ArtifactError: another one than the allowed was given.
        """
        for label, known in _KNOWN.items():
            if label not in allowed and getattr(self, label) is not None:
                raise ArtifactError(f"{path} says by itself {known}.")

    def one_position(self, path: Path, otherwise: int) -> int:
        """The position given, where all vectors have one."""
        if self.position is None:
            return otherwise
        if len(self.position) != 1:
            raise ArtifactError(
                f"{path} holds vectors of one position, and position= gives {len(self.position)}."
            )
        return self.position[0]

    def layers_of(self, path: Path, rows: int) -> tuple[int, ...] | None:
        """The layers given, one for every row; None where none were."""
        if self.layer is not None and len(self.layer) != rows:
            raise ArtifactError(
                f"{path} holds vectors of {rows} layers, and layer= gives {len(self.layer)}. To "
                "choose among them leave layer= away, and use .directions.at(layer=…)."
            )
        return self.layer

    def notes(self) -> Mapping[str, Any]:
        """What was given, for the provenance."""
        given = {name: getattr(self, name) for name in ("layer", "position", "site", "axes")}
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in given.items() if value is not None}  # fmt: skip
