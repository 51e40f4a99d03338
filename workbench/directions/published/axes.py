"""What the axes of an array without labels are: layers and positions, before d_model.

The layer of a single vector is never guessed, nor what the rows of a matrix are: layers, positions
of one layer, or vectors of one place. What fits two ways is refused with both. Rows that are said
to be layers, or stand beside an axis of one position, are the layers 0, 1, … in order, `resid_pre`
of each, as ``hidden_states`` of Hugging Face has them, unless said to be outputs of blocks.
"""

from pathlib import Path

from workbench.directions.published.asked import Asked
from workbench.directions.published.files import LabelKnown, LabelNeeded
from workbench.errors import ArtifactError

_READINGS: dict[int, list[tuple[str, ...]]] = {
    0: [()],
    1: [("layer",), ("position",)],
    2: [("layer", "position"), ("position", "layer")],
}
"""By the number of axes before d_model, what they can be."""

_MOST_LAYERS = 256
"""More rows than that are no layers; a matrix of weights has them."""


def read_axes(
    path: Path, shape: tuple[int, ...], asked: Asked, several: bool
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
    """What the axes before d_model, the last of the shape, are, with their labels.

    Raises:
        LabelNeeded: they can be something else as well, or lack a label.
        LabelKnown: axes of a single vector.
        ArtifactError: they can be none of these.
    """
    lead = shape[:-1]
    shown = ", ".join(map(str, (*lead, "d_model")))
    known = _READINGS.get(len(lead), [])
    if asked.axes is not None:
        if not lead:
            raise no_axes(path)
        if len(asked.axes) != len(lead):
            raise ArtifactError(
                f"{path} has the shape ({shown}), and axes= names {len(asked.axes)} axes before "
                "d_model."
            )
        known = [asked.axes]
    elif len(lead) == 1 and asked.layer is None:
        _check_count(path, shown, lead[0])
    if not known:
        raise ArtifactError(
            f"{path} has the shape ({shown}): expected (d_model), (layer, d_model) or layers and "
            "positions before d_model. Make Directions(values, names, layers, positions) of it."
        )
    fitting = [(each, *own) for each in known if (own := _labels(each, lead, asked)) is not None]
    if len(fitting) == 1:
        reading, layers, positions = fitting[0]
        if asked.layer is None:
            _check_count(path, shown, len(layers))
        return reading, layers, positions
    layer_is_enough = asked.layer is None and len(known) == 1 and _n_layers(known[0], lead) == 1
    enough = "layer" if layer_is_enough else ""
    if not lead:
        raise LabelNeeded(_why_no_place(path, asked, several), enough)
    can = _what_it_can_be(lead, known, asked)
    more = ""
    if asked.layer is not None and "layer" in asked.said:
        more = f" The file itself says layer {', '.join(map(str, asked.layer))} (0-based)."
    elif asked.layer is not None:
        more = " To choose layers of a file leave layer= away, and use .directions.at(layer=…)."
    elif len(lead) == 1 and lead[0] > shape[-1]:
        more = f" There are more rows than numbers in each ({shape[-1]}): is it the transpose?"
    raise LabelNeeded(f"{path} has the shape ({shown}), which {can}.{more}", enough)


def no_axes(path: Path) -> LabelKnown:
    """The error of axes that are given for a single vector."""
    return LabelKnown(path, "axes", "holds one vector, without axes before d_model",
                      "Leave axes= away")  # fmt: skip


def _n_layers(reading: tuple[str, ...], lead: tuple[int, ...]) -> int:
    return dict(zip(reading, lead, strict=True)).get("layer", 1)


def _check_count(path: Path, shown: str, rows: int) -> None:
    if rows > _MOST_LAYERS:
        raise ArtifactError(
            f"{path} has the shape ({shown}): no model has {rows} layers. A matrix of weights is "
            "no set of directions; if it is one, read it with wb.load_published(path, layer=[…])."
        )


def _labels(
    reading: tuple[str, ...], lead: tuple[int, ...], asked: Asked
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Layers and positions under one reading, where it goes with what was given."""
    sizes = dict(zip(reading, lead, strict=True))
    n_layers, n_positions = sizes.get("layer", 1), sizes.get("position", 1)
    layers, positions = asked.layer, asked.position
    if layers is None:
        if n_layers == 1:
            return None  # which one is not to be guessed
        if len(lead) == 1 and asked.axes is None and positions is None:
            return None  # rows alone may be anything
        first = 1 if asked.read_at == "output" else 0
        layers = tuple(range(first, first + n_layers))
    if positions is None:
        # With one layer given, many rows can as well be meant to be chosen from.
        settled = asked.axes is not None or len(layers) > 1
        if n_positions > 1 and not settled:
            return None
        positions = tuple(range(-n_positions, 0))
    fits = (len(layers), len(positions)) == (n_layers, n_positions)
    return (layers, positions) if fits else None


def _why_no_place(path: Path, asked: Asked, several: bool) -> str:
    """What a single vector lacks."""
    if asked.layer is not None:
        return f"{path} holds one vector: expected one layer and one position for it."
    of_each = " of each name" if several else ""
    return (
        f"{path} holds one vector{of_each} and not its layer or position. Pass layer=l where it is "
        "resid_pre of layer l (the output of block l is resid_pre of layer l + 1), and position= "
        "where it was not read at the last token."
    )


def _what_it_can_be(lead: tuple[int, ...], known: list[tuple[str, ...]], asked: Asked) -> str:
    """What a shape can be, and what to pass for each."""
    ways = []
    for reading in known:
        sizes = dict(zip(reading, lead, strict=True))
        layers, positions = sizes.get("layer", 1), sizes.get("position", 1)
        words = [f"{layers} layers" if layers > 1 else "one layer"]
        words.append(f"{positions} positions" if positions > 1 else "one position")
        arguments = f"axes={' '.join(reading)!r}"
        if layers == 1 and (asked.layer is None or len(asked.layer) != 1):
            arguments += ", layer=…"
        elif layers > 1 and asked.layer is not None and len(asked.layer) != layers:
            arguments += f" with {layers} layers in layer=, or none"
        if asked.position is not None and len(asked.position) != positions:
            arguments += f" with {positions} positions in position=, or none"
        ways.append(f"{' and '.join(words)} (pass {arguments})")
    if len(known) > 1 and len(lead) == 1:
        ways.append(f"{lead[0]} vectors of one place (pass axes='name', layer=…)")
    number = {2: "two", 3: "three"}.get(len(ways))
    can = f"can be read {number} ways" if number else "does not go with what was given"
    return f"{can}: {', or '.join(ways)}"
