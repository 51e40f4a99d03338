"""Find, compare and causally test the directions that make a chat model refuse.

>>> import workbench as wb
>>> wb.load_prompts("harmful").sample(2).labels
('harmful', 'harmful')

At the top stands the main job, from prompts to a direction and what it does to replies. What else
can be asked stands under the question's word: ``wb.selection``, ``wb.geometry``, ``wb.transfer``,
``wb.meaning``, ``wb.heads``; ``wb.figures`` draws, and ``wb.scores`` compares judges and rates.

One grammar: what runs a model is a verb, or the field's own word for a procedure (attribution
patching, direct attribution, logit lens); what is named by a noun runs none. Arguments stand in the
order model, what is acted on or with, prompts; all else is keyword-only. ``direction=`` is a
vector, ``aim=`` the way to go (``"induce"``, ``"suppress"``), ``judge=`` the name of a judge, and
directions are told apart along the axis ``name``.

Names are loaded on first use, so that importing the package is cheap.
"""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"

_HOMES = {
    "WorkbenchError": "errors",
    "PromptError": "errors",
    "ModelError": "errors",
    "AxisError": "errors",
    "ArtifactError": "errors",
    "StudyError": "errors",
    "Prompt": "prompts.promptset",
    "PromptSet": "prompts.promptset",
    "load_prompts": "prompts.sources",
    "load_model": "models.loading.load",
    "HookedModel": "models.loading.load",
    "verify_model": "models.verify",
    "Activations": "activations",
    "collect_activations": "activations",
    "Directions": "directions.direction",
    "mean_difference": "directions.estimate",
    "pca_direction": "directions.estimate",
    "probe_direction": "directions.estimate",
    "orthogonalize": "directions.orthogonalize",
    "load_published": "directions.published",
    "Ablate": "interventions",
    "Add": "interventions",
    "SetProjection": "interventions",
    "intervene": "interventions",
    "mean_projection": "interventions",
    "find_refusal_tokens": "scores.refusal",
    "refusal_score": "scores.refusal",
    "judge": "scores.judges",
    "sweep_directions": "analysis.selection.sweep",
    "search_direction": "analysis.selection.search",
    "select_direction": "analysis.selection.selection",
    "collect_completions": "analysis.selection.effects",
    "Study": "study.settings",
    "run_study": "study.run",
    "load_run": "study.results",
    "write_report": "report.page",
    "explore": "explorer.open",
    "compare_directions": "compare.runs",
}
_ROOMS = {
    "figures": "figures",
    "geometry": "analysis.geometry",
    "heads": "analysis.heads",
    "meaning": "analysis.meaning",
    "scores": "scores",
    "selection": "analysis.selection",
    "transfer": "analysis.transfer",
}

if TYPE_CHECKING:
    # The same names, for editors and type checkers; a test keeps the two in step.
    from workbench import figures as figures
    from workbench import scores as scores
    from workbench.activations import Activations as Activations
    from workbench.activations import collect_activations as collect_activations
    from workbench.analysis import geometry as geometry
    from workbench.analysis import heads as heads
    from workbench.analysis import meaning as meaning
    from workbench.analysis import selection as selection
    from workbench.analysis import transfer as transfer
    from workbench.analysis.selection.effects import collect_completions as collect_completions
    from workbench.analysis.selection.search import search_direction as search_direction
    from workbench.analysis.selection.selection import select_direction as select_direction
    from workbench.analysis.selection.sweep import sweep_directions as sweep_directions
    from workbench.compare.runs import compare_directions as compare_directions
    from workbench.directions.direction import Directions as Directions
    from workbench.directions.estimate import mean_difference as mean_difference
    from workbench.directions.estimate import pca_direction as pca_direction
    from workbench.directions.estimate import probe_direction as probe_direction
    from workbench.directions.orthogonalize import orthogonalize as orthogonalize
    from workbench.directions.published import load_published as load_published
    from workbench.errors import ArtifactError as ArtifactError
    from workbench.errors import AxisError as AxisError
    from workbench.errors import ModelError as ModelError
    from workbench.errors import PromptError as PromptError
    from workbench.errors import StudyError as StudyError
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.explorer.open import explore as explore
    from workbench.interventions import Ablate as Ablate
    from workbench.interventions import Add as Add
    from workbench.interventions import SetProjection as SetProjection
    from workbench.interventions import intervene as intervene
    from workbench.interventions import mean_projection as mean_projection
    from workbench.models.loading.load import HookedModel as HookedModel
    from workbench.models.loading.load import load_model as load_model
    from workbench.models.verify import verify_model as verify_model
    from workbench.prompts.promptset import Prompt as Prompt
    from workbench.prompts.promptset import PromptSet as PromptSet
    from workbench.prompts.sources import load_prompts as load_prompts
    from workbench.report.page import write_report as write_report
    from workbench.scores.judges import judge as judge
    from workbench.scores.refusal import find_refusal_tokens as find_refusal_tokens
    from workbench.scores.refusal import refusal_score as refusal_score
    from workbench.study.results import load_run as load_run
    from workbench.study.run import run_study as run_study
    from workbench.study.settings import Study as Study

__all__ = sorted([*_HOMES, *_ROOMS, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # which would take every name for one that is there

    def __getattr__(name: str) -> _Any:
        if name in _HOMES:
            value = getattr(_import_module(f"workbench.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        if name in _ROOMS:
            return _import_module(f"workbench.{_ROOMS[name]}")
        raise AttributeError(f"module 'workbench' has no attribute {name!r}{_where(name)}")

    def _where(name: str) -> str:
        """Where a name stands that is looked for at the top; "" where in no room."""
        # Python asks for files of the package before it reads them, tools for names of their own.
        if name.startswith("_") or _find_spec(f"workbench.{name}") is not None:
            return ""
        rooms = (room for room, home in _ROOMS.items() if name in _public(home))
        return next((f"; it is workbench.{room}.{name}" for room in rooms), "")

    def _public(home: str) -> list[str]:
        return getattr(_import_module(f"workbench.{home}"), "__all__", [])


def __dir__() -> list[str]:
    return __all__
