"""The figures of the gallery that are drawn from what other projects published."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go

from workbench import figures
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.published import READERS, Published, load_published
from workbench.directions.published.zhao import OVERALL
from workbench.errors import StudyError
from workbench.names import distinct_names


@dataclass(frozen=True)
class PublishedEntry:
    """One figure of a published result.

    Attributes:
        name: of its file, after the name of the result.
        question: what it answers.
        caption: how it is read.
        answers: the published figure that shows the same.
        draw: from a result to the figure, or None where the files do not hold what it draws.
    """

    name: str
    question: str
    caption: str
    answers: str
    draw: Callable[[Published], go.Figure | None]


def _sweep(found: Published) -> go.Figure | None:
    return None if found.scores is None else figures.sweep(found.scores, found.choice)


def _plane(found: Published) -> go.Figure | None:
    return None if found.scores is None else figures.selection_plane(found.scores, found.choice)


def _cosines(
    figure: Callable[..., go.Figure],
) -> Callable[[Published], go.Figure | None]:
    """A figure of the cosines between the categories' directions."""

    def draw(found: Published) -> go.Figure | None:
        directions = found.directions
        names = [] if directions is None else [each for each in directions.names if each != OVERALL]
        if directions is None or len(names) < 2:
            return None
        return figure(cosine_similarity_map(directions.at(name=names)))

    return draw


PUBLISHED = (
    PublishedEntry(
        name="sweep",
        question="How were the candidates scored, and which was chosen?",
        caption="The published scores of every candidate, drawn like those of a run. The files "
        "hold means only, so there are no intervals.",
        answers="Arditi et al. 2024, selection scores by layer and position",
        draw=_sweep,
    ),
    PublishedEntry(
        name="selection_plane",
        question="Which published candidates remove refusal and leave the rest alone?",
        caption="Low and to the left is good. Hollow marks fail a criterion of the selection.",
        answers="Arditi et al. 2024, the selection rule",
        draw=_plane,
    ),
    PublishedEntry(
        name="cosine_by_layer",
        question="How alike are the published category directions, layer by layer?",
        caption="Mean over all pairs, between the lowest and the highest pair. The files hold "
        "directions and no prompts, so there is neither interval nor ceiling.",
        answers="Zhao et al. 2025, the cosines between risk categories",
        draw=_cosines(figures.cosine_by_layer),
    ),
    PublishedEntry(
        name="cosine_maps_by_layer",
        question="Which published category directions are alike?",
        caption="All pairs at several layers, in one order and on one scale.",
        answers="Zhao et al. 2025, the cosines between risk categories",
        draw=_cosines(figures.cosine_maps_by_layer),
    ),
)
"""Every figure of a published result, in the order in which they are read."""


def published_results(folder: str | Path) -> list[tuple[str, Published]]:
    """Everything under a folder that is in a published format, by a name for its files.

    That is the name of the folder that holds it, marked where two folders have one name.

    Raises:
        StudyError: nothing of the kind is there.
        ArtifactError: a file is broken.
    """
    folder = Path(folder)
    found: list[Path] = []
    for place in [folder, *sorted(each for each in folder.rglob("*") if each.is_dir())]:
        # A folder inside one that was read belongs to it.
        inside = any(each in place.parents for each in found)
        if not inside and any(reader.recognises(place) for reader in READERS):
            found.append(place)
    if not found:
        known = "; ".join(reader.what for reader in READERS)
        raise StudyError(f"nothing published under {folder}. Known: {known}.")
    inside = folder.resolve()
    places = [f"{inside.name}/{place.resolve().relative_to(inside)}" for place in found]
    return [
        (name, load_published(place))
        for name, place in zip(distinct_names(places), found, strict=True)
    ]
