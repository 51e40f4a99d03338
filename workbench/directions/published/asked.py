"""What the caller of `load_published` says of a file that does not say it itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.directions.direction import SITES
from workbench.directions.published.files import LabelKnown
from workbench.errors import ArtifactError, AxisError

AXES = ("layer", "position", "name")
"""What rows of an array without labels can be; names only by themselves."""

SIDES = ("input", "output")
"""Of a block: what a number that counts blocks can stand for."""

_KNOWN = {
    "layer": "which layers its vectors belong to",
    "position": "which positions its vectors belong to",
    "site": "where its vectors were read",
    "axes": "what its axes are",
    "read_at": "on which side of a block its vectors belong",
    "name": "what its vectors are called",
}
_CHOSEN = ("layer", "position", "name")
"""Of these, what can be chosen once the file is read."""


def axes_of(words: str) -> tuple[str, ...]:
    """Axes in one text, in their order.

    >>> axes_of("layer, position")
    ('layer', 'position')
    """
    return tuple(words.replace(",", " ").split())


@dataclass(frozen=True)
class Asked:
    """Labels that were given with a path; None where they were not.

    Attributes:
        layer: one for every row of the axis of layers, or for the only vector.
        position: the same of positions.
        site: where the vectors were read.
        axes: the axes before d_model, in their order.
        name: names of the tensors of a file that are wanted, or of its only vector.
        read_at: the side of a block that rows and numbers stand for, ``"input"`` or ``"output"``.
        t_inst: the position of vectors of Zhao et al.
        said: labels that the file said and not the caller, with how they are to be understood.
    """

    layer: tuple[int, ...] | None = None
    position: tuple[int, ...] | None = None
    site: str | None = None
    axes: tuple[str, ...] | None = None
    name: tuple[str, ...] | None = None
    t_inst: int = -6
    read_at: str | None = None
    said: Mapping[str, str] = field(default_factory=dict)

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
        alone = "name" not in axes or len(axes) == 1
        if set(axes) - set(AXES) or len(set(axes)) != len(axes) or self.axes == () or not alone:
            raise AxisError(
                f"axes={self.axes!r} are none: expected the axes before d_model in their order, "
                "'layer', 'position', 'layer position' or 'position layer', or 'name'."
            )
        if self.read_at is None:
            return
        if self.read_at not in SIDES:
            raise AxisError(f"no side {self.read_at!r} of a block: read_at={SIDES[0]!r} or "
                            f"{SIDES[1]!r}.")  # fmt: skip
        if self.layer is not None:
            raise AxisError(
                "layer= says by itself where a vector is: resid_pre of layer l is the input of "
                "block l and the output of block l - 1. Pass one of layer= and read_at=."
            )
        if self.site not in (None, "resid_pre"):
            raise AxisError(
                f"{self.site} of a block is neither its input nor its output. Pass one of site= "
                "and read_at=."
            )

    def only(self, path: Path | str, *allowed: str) -> None:
        """Refuses labels for what the file knows itself.

        Raises:
            LabelKnown: another one than the allowed was given.
        """
        for label, known in _KNOWN.items():
            if label not in allowed and getattr(self, label) is not None:
                choose = f", and choose with .directions.at({label}=…)" if label in _CHOSEN else ""
                advice = f"Leave {label}= away{choose}"
                raise LabelKnown(path, label, f"says by itself {known}", advice)

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
