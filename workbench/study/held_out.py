"""A stage of a run: the chosen direction measured on test prompts, which did not choose it."""

from typing import TYPE_CHECKING

import xarray as xr

from workbench.analysis.selection.held_out import measure_held_out
from workbench.analysis.selection.selection import Choice
from workbench.artifact import load_dataset, save_dataset
from workbench.directions.direction import Directions
from workbench.errors import StudyError
from workbench.study import names
from workbench.study.keeping import check_kept

if TYPE_CHECKING:
    from workbench.study.stages import Stages


def held_out(stages: "Stages", directions: Directions, choice: Choice) -> None:
    """Measures the chosen candidate and its runners-up on kept test prompts.

    There is no result, and that is said, where the model treats too few of those as their label
    says: what the run says of the direction are then the scores that chose it, and it says so.
    """
    ledger, study, told = stages.ledger, stages.study, stages.treatment()
    try:
        check_kept(told, "measuring the chosen direction again")
    except StudyError as error:
        stages.say(str(error))
        ledger.drop(names.HELD_OUT)
        return
    path = ledger.folder / names.HELD_OUT
    if stages.stands(names.HELD_OUT):
        found = load_dataset(path, kind="held_out")
        if _places(found) == [*zip(choice.top["layer"], choice.top["position"], strict=True)]:
            return
    kept = {label: stages.scored("test", label) for label in ("harmful", "harmless")}
    others = len(choice.top) - 1
    also = f" and {others} that passed, too," if others else ""
    stages.say(f"measuring the chosen direction{also} on test prompts, which did not choose it")
    found = measure_held_out(
        stages.model,
        directions,
        choice,
        harmful=kept["harmful"],
        harmless=kept["harmless"],
        refusal_tokens=stages.refusal_tokens(),
        confidence=study.confidence,
        seed=study.seed,
    )
    save_dataset(path, found.assign_attrs(test_prompts=told), kind="held_out")
    ledger.keep(names.HELD_OUT, names.MADE_FROM[names.HELD_OUT])


def _places(found: xr.Dataset) -> list[tuple[int, int]]:
    """Layer and position of every candidate."""
    return [*zip(found["layer"].values.tolist(), found["position"].values.tolist(), strict=True)]
