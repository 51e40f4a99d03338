"""The guard against leakage: what is detected is measured on prompts that no estimate saw."""

from collections.abc import Mapping

from workbench.activations import Activations
from workbench.directions.direction import Directions
from workbench.errors import StudyError

_WHY = (
    "the prompts that the directions were estimated on, where any direction separates. Collect "
    "activations on others, such as the test part of a split."
)


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
