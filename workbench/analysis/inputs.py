"""What questions share: what goes in is put in order, or refused.

Directions one by one and the categories that each stands for; prompts that an estimate saw; ids and
labels of prompts as coordinates.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.activations import Activations
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.models.given import given_prompts
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.tokens import Tokens
from workbench.prompts.prompt import listed
from workbench.prompts.promptset import PromptSet
from workbench.prompts.texts import Texts

ALL = "all"
"""The group of prompts that nobody labelled."""
_WHY = (
    "the prompts that the directions were estimated on, where any direction separates. Collect "
    "activations on others, such as the test part of a split."
)


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


def check_places(model: HookedModel, directions: Directions, *, edited: bool = False) -> None:
    """Refuses directions of layers that a model does not have, or of which none points anywhere.

    The output of the last block, layer ``n_layers``, is a place, though nothing is written there.

    Args:
        model: the model.
        directions: at any layers.
        edited: whether each is to be ablated and added, which nothing is at the last output.

    Raises:
        AxisError: the first layer that is none; or every vector is zero but for rounding.
    """
    if edited and directions.site == "resid_pre" and model.n_layers in directions.layers:
        raise AxisError(
            f"layer {model.n_layers} of these directions is the output of the last block of "
            f"{model.name}, where nothing is edited. Choose the others with "
            f".at(layer=[…]), layers 0..{model.n_layers - 1}."
        )
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


def check_unseen(directions: Directions, activations: Activations) -> None:
    """Refuses activations on prompts that the directions were estimated on.

    Single prompts are told by their texts; where those are not known, whole sets by their
    fingerprints.

    Raises:
        StudyError: some of the prompts are in both.
    """
    seen = {*directions.prompt_keys}
    both = sum(key in seen for key in activations.prompt_keys)
    if both:
        n = activations.n_prompts
        raise StudyError(f"{both} of {n} prompts are among {_WHY}")
    if _fingerprints(directions.provenance) & _fingerprints(activations.provenance):
        raise StudyError(f"these are {_WHY}")


def _fingerprints(provenance: Mapping[str, object]) -> set[str]:
    """Of every set that went in, whether one, or two of an estimate, or several put together."""
    found: set[str] = set()
    for own in (provenance.get("prompts"), provenance.get("sets")):
        each = own.values() if isinstance(own, Mapping) else [own]
        found |= {known for known in each if isinstance(known, str)}
    return found


def prompt_axes(prompts: PromptSet | Texts | Tokens, n_prompts: int) -> dict[str, Any]:
    """Coordinates of the prompts: ids, labels and categories; tokens get their index."""
    if isinstance(prompts, PromptSet):
        ids, labels, categories = prompts.ids, prompts.labels, prompts.categories
    elif isinstance(prompts, Texts):
        ids, labels, categories = prompts.ids, [ALL] * n_prompts, prompts.categories
    else:
        ids = [str(row) for row in range(n_prompts)]
        labels, categories = [ALL] * n_prompts, [""] * n_prompts
    return {
        "prompt": list(ids),
        "label": ("prompt", np.array(labels, dtype=object)),
        "category": ("prompt", np.array(categories, dtype=object)),
    }


def prompt_ids(prompts: Prompts, n_prompts: int) -> list[str]:
    """Ids of prompts that have some; else the row as text."""
    given = given_prompts(prompts)
    return [*map(str, range(n_prompts))] if isinstance(given, Tokens) else list(given.ids)


def prompts_provenance(source: Prompts, target: Prompts, system: str | None) -> dict[str, Any]:
    """Which prompts a patching experiment was made on."""
    found: dict[str, Any] = {
        name: each.fingerprint if isinstance(each, PromptSet) else None
        for name, each in (("source", given_prompts(source)), ("target", given_prompts(target)))
    }
    return {**found, "system": system}
