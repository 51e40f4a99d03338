"""Directions one by one, and the harm categories that each of them stands for."""

from collections.abc import Collection, Mapping, Sequence

from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.models.hooked import HookedModel
from workbench.prompts.prompt import listed


def single_vectors(directions: Directions | Sequence[Directions]) -> dict[str, Directions]:
    """One vector for each name, in the order given.

    Raises:
        AxisError: none, a name twice, several layers or positions of one name, or a vector that is
            zero but for rounding.
    """
    sets = [directions] if isinstance(directions, Directions) else list(directions)
    vectors: dict[str, Directions] = {}
    for each in sets:
        if len(each.layers) != 1 or len(each.positions) != 1:
            raise AxisError(
                f"expected one layer and position of each direction, found {each!r}. Choose with "
                ".at(layer=…, position=…)."
            )
        each.unit()  # says which of them points nowhere
        for name in each.names:
            if name in vectors:
                raise AxisError(f"two directions are named {name!r}. Give each a name of its own.")
            vectors[name] = each.at(name=name)
    if not vectors:
        raise AxisError("no directions.")
    return vectors


def check_places(model: HookedModel, directions: Directions) -> None:
    """Refuses directions of layers that a model does not have, or of which none points anywhere.

    The output of the last block, layer ``n_layers``, is a place, though nothing is written there.

    Raises:
        AxisError: the first layer that is none; or every vector is zero but for rounding.
    """
    for layer in directions.layers:
        if directions.site != "resid_pre" or layer != model.n_layers:
            model.hook_name(directions.site, layer)  # pyright: ignore[reportArgumentType]
    if directions.degenerate.all():
        directions.check_points_somewhere()


def own_categories(
    names: Collection[str], present: Collection[str], own: Mapping[str, Collection[str]] | None
) -> dict[str, tuple[str, ...]]:
    """The categories that each direction stands for.

    Raises:
        StudyError: a direction has none, or one that no prompt has.
    """
    own = {name: (name,) for name in names} if own is None else own
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        categories = own.get(name, ())
        found[name] = (categories,) if isinstance(categories, str) else tuple(categories)
        missing = [category for category in found[name] if category not in present]
        if missing or not found[name]:
            raise StudyError(
                f"no prompt has the category {missing[0]!r} of direction {name!r}: "
                f"{listed(set(present))}. Name directions after categories, or pass own=."
                if missing
                else f"own= says nothing of direction {name!r}. Give it at least one category."
            )
    return found
