"""explore: a run, or a model of which a small run is made first, in Jupyter."""

from pathlib import Path
from typing import TYPE_CHECKING

from workbench import screen
from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.explorer.jobs import check_model
from workbench.models.hooked import HookedModel
from workbench.names import folder_name
from workbench.study.results import Run, load_run
from workbench.study.run import run_study
from workbench.study.settings import Study

if TYPE_CHECKING:
    from workbench.explorer.panel import Panel


@checked
def explore(
    run_or_model: Run | HookedModel | str | Path,
    *,
    model: HookedModel | None = None,
    n_prompts: int = 3,
    out: str | Path | None = None,
) -> "Panel":
    """Shows a run in Jupyter: figures that follow one selection of layer, position and direction.

    A click on a point of the sweep selects that candidate and, on demand, answers a few test
    prompts with it ablated and added; a click on a cell of the cosine map follows that pair through
    the layers; a typed prompt is shown token by token along the selected direction. What is stored
    is shown at once; the model is loaded when something needs it.

    Args:
        run_or_model: a run, its folder, or a loaded model, of which a small run is made first: it
            says what it does, can be interrupted, and goes on where it stopped.
        model: the run's model, where it is loaded already.
        n_prompts: test prompts of each set that are answered.
        out: folder of the small run; by default ``runs/explore-`` and the model's name.

    Raises:
        StudyError: ipywidgets and anywidget are not installed; the folder holds no finished run;
            the model is not the one of the run.
    """
    try:
        from workbench.explorer.panel import Panel
    except ImportError as error:
        raise StudyError(
            f"the explorer needs ipywidgets and anywidget: {error}. Install them with "
            "pip install 'refusal-workbench[notebooks]'."
        ) from error
    if isinstance(run_or_model, HookedModel):
        model = run_or_model
        run = _small_run(model, out)
    elif isinstance(run_or_model, Run):
        run = run_or_model
    else:
        run = load_run(run_or_model)
    if model is not None:
        check_model(run, model)
    return Panel(run, model, n_prompts)


def small_study(model: HookedModel) -> Study:
    """Settings of the run that is made where none is given: enough to look at, in little time."""
    return Study(model=model.name, n_train=64, n_validation=16, n_test=16, max_new_tokens=32)


def _small_run(model: HookedModel, out: str | Path | None) -> Run:
    folder = Path(out) if out is not None else Path("runs") / f"explore-{folder_name(model.name)}"
    screen.tell(
        f"No run given: making a small one of {model.name} in {folder}. "
        "If you interrupt it, call explore again: it goes on where it stopped."
    )
    return run_study(small_study(model), folder, model=model, say=screen.say)
