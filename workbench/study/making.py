"""The analyses of a run, made where they are asked for and missing, or there and do not stand."""

import json
import traceback
from typing import Any

from workbench import __version__
from workbench.artifact import save_dataset, write_text
from workbench.errors import StudyError, WorkbenchError
from workbench.study import names
from workbench.study.ledger import Ledger
from workbench.study.material import Material
from workbench.study.registry import ANALYSES, Analysis, chosen_analyses
from workbench.study.stored import read_note


def make_analyses(material: Material) -> None:
    """Whatever the study asks for and the folder lacks; what cannot be made is said and noted.

    The main results stand by now, and no analysis takes them away: one that lacks what it needs is
    skipped for as long as the version of the package is the same, one that fails for any other
    reason is tried again by the next run. What is there and does not stand is made again even
    where it is not asked for: readers would refuse the run.
    """
    ledger = material.ledger
    _mend_category_directions(material)
    chosen = chosen_analyses(material.study.analyses)
    for analysis in ANALYSES:
        own = [name for name in analysis.files if ledger.odd(name)]
        faults = {name: fault for name in own if (fault := ledger.fault(name))}
        there = [name for name in faults if (ledger.folder / name).exists()]
        wanted = analysis in chosen or there
        for name, fault in faults.items():
            material.say(f"{name} {fault}, so it is {'made again' if wanted else 'left out'}")
        ledger.forget(*(name for name in faults if name not in there))
        if wanted and (faults or not _is_made(ledger, analysis)):
            material.say(f"{analysis.name}: {analysis.what}")
            _make(analysis, material)


def _is_made(ledger: Ledger, analysis: Analysis) -> bool:
    """Whether all results stand, or it is known that this run lacks what the analysis needs.

    What another version of the package found lacking may suffice for this one.
    """
    if all(ledger.fault(name) is None for name in analysis.made):
        return True
    if ledger.fault(analysis.note) is not None:
        return False
    note = read_note(ledger.folder / analysis.note)
    return note.version == __version__ and not note.again


def _make(analysis: Analysis, material: Material) -> None:
    """Makes one analysis and saves its results, or notes why there are none."""
    try:
        found = analysis.compute(material)
        made, note = found.results, None
        if found.reason:
            note = {"reason": found.reason, "needs": analysis.needs, "again": False}
        for name, dataset in made.items():
            path = material.folder / names.result_name(name)
            save_dataset(path, dataset, kind=name)
            material.ledger.keep(names.result_name(name), analysis.made_from)
    except StudyError as error:
        made, note = {}, {"reason": str(error), "needs": analysis.needs, "again": False}
    # A broken file or a place that is not there is no property of the run: it can be mended.
    except WorkbenchError as error:
        made, note = {}, _failed(error)
    # A bug in one analysis must not cost the user the others; its traceback is kept.
    except Exception as error:
        made, note = {}, {**_failed(error), "traceback": traceback.format_exc()}
    kept = [names.result_name(name) for name in made] + [*(analysis.beside if made else ())]
    material.ledger.drop(*(name for name in analysis.made if name not in kept))
    if note is None:
        material.ledger.drop(analysis.note)
        return
    _note(analysis, material, {**note, "version": __version__})


def _failed(error: Exception) -> dict[str, Any]:
    """The note of an analysis that may succeed another time."""
    return {"reason": f"failed with {type(error).__name__}: {error}", "again": True}


def _note(analysis: Analysis, material: Material, note: dict[str, Any]) -> None:
    """Writes down why results are missing, and says so."""
    write_text(material.folder / analysis.note, json.dumps(note, indent=1, sort_keys=True))
    material.ledger.keep(analysis.note, analysis.made_from)
    material.say(f"{analysis.name} skipped: {note['reason']}")


def _mend_category_directions(material: Material) -> None:
    """Makes the categories' directions again where they were there and do not stand."""
    ledger, name = material.ledger, names.CATEGORY_DIRECTIONS
    fault = ledger.fault(name)
    if fault is None or not ledger.odd(name):
        return
    material.say(f"{name} {fault}, so it is made again")
    try:
        material.category_directions  # noqa: B018  # made and saved when it is asked for
    except StudyError:  # prompts that are kept by now have no categories
        ledger.drop(name)
