"""run_study: the one composition of the rooms, stage by stage, each saved when it is done."""

from pathlib import Path

from workbench import figures
from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.intake.limits import allowing
from workbench.models.hooked import HookedModel
from workbench.study import results
from workbench.study.results import Run, choose, load_run
from workbench.study.settings import Study
from workbench.study.stages import Say, open_run


@checked
def run_study(
    study: Study | None = None,
    out: str | Path | None = None,
    *,
    model: HookedModel | None = None,
    say: Say | None = None,
    png: bool = False,
) -> Run:
    """Finds a model's refusal direction and measures what it does.

    Split prompts; keep those that the model refuses (harmful) or answers (harmless); collect
    activations; estimate candidates; sweep them; select one; answer test prompts plainly, with the
    direction ablated and with it added; analyse; draw. Every result is saved when it is done: a run
    that was stopped goes on where it stopped, and ends with the same numbers. An analysis for which
    something is missing is skipped, and `Run.skipped` says why.

    Args:
        study: the settings; the defaults run on the shipped model.
        out: the run's folder; by default ``runs/`` and the model's name.
        model: the study's model, where it is loaded already.
        say: is told what happens, one line at a time.
        png: also draws the figures as pictures, which needs kaleido and Chrome or Chromium.

    Raises:
        StudyError: the folder holds another study; too few prompts are left; nothing passes the
            selection.
        WorkbenchError: whatever the rooms raise on bad prompts, models or files.
    """
    study = study or Study()
    with allowing(max_bytes=study.max_bytes, max_rows=study.max_rows):
        return _run(study, out, model, say or (lambda line: None), png)


def _run(
    study: Study, out: str | Path | None, model: HookedModel | None, say: Say, png: bool
) -> Run:
    stages = open_run(study, out, model=model, say=say)
    directions = stages.directions()
    scores = stages.scores(directions)
    choice = choose(study, scores)
    direction = stages.direction(directions, choice)
    stages.effects(direction, stages.replies(direction))
    stages.analyses(directions, direction)
    run = load_run(stages.folder)
    draw(run, png=png, say=say)
    return run


def draw(run: Run, png: bool = False, say: Say | None = None) -> list[Path]:
    """Draws the gallery of a run into its folder, as HTML and JSON, and as pictures if asked.

    Args:
        run: what was found.
        png: also pictures.
        say: is told of figures for which a result does not suffice.
    """
    written: list[Path] = []
    for entry in figures.GALLERY:
        try:
            figure = entry.draw(run)
        except StudyError as error:
            (say or (lambda line: None))(f"figure {entry.name} not drawn: {error}")
            continue
        if figure is not None:
            folder = run.folder / results.FIGURES
            written += figures.save_figure(figure, folder, entry.name, png=png).values()
    return written
