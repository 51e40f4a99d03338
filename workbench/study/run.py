"""run_study: the one composition of the rooms, stage by stage, each saved when it is done."""

from pathlib import Path

from workbench import figures
from workbench.arguments import checked
from workbench.errors import StudyError
from workbench.models.hooked import HookedModel
from workbench.study import names
from workbench.study.held_out import held_out
from workbench.study.ledger import delete_figure
from workbench.study.results import Run, choose, read_run
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
    activations; estimate candidates; sweep them; select one; measure it again on prompts that did
    not choose it; answer test prompts plainly, with the direction ablated and with it added; do the
    same with random directions; analyse; draw. Every result is saved when it is done: a run that
    was stopped goes on where it stopped, and ends with the same numbers. A result that is damaged,
    or was made from something else than the run has by now, is made again with what hangs on it,
    and that is said. Nobody else can write into the folder meanwhile. An analysis for which
    something is missing is skipped, and `Run.skipped` says why.

    Args:
        study: the settings; the defaults run on the shipped model.
        out: the run's folder; by default ``runs/`` and the model's name.
        model: the study's model, where it is loaded already.
        say: is told what happens, one line at a time.
        png: also draws the figures as pictures, which needs kaleido and Chrome or Chromium.

    Raises:
        StudyError: the folder holds another study, or another process writes there; too few
            prompts are left; nothing passes the selection.
        WorkbenchError: whatever the rooms raise on bad prompts, models or files.
    """
    study = study or Study()
    say = say or (lambda line: None)
    with open_run(study, out, model=model, say=say) as stages:
        directions = stages.directions()
        scores = stages.scores(directions)
        choice = choose(study, scores)
        direction = stages.direction(directions, choice)
        held_out(stages, directions, choice)
        effects = stages.effects(direction, stages.replies(direction))
        stages.controls(directions, direction, effects)
        stages.analyses(directions, direction)
        stages.asked_heads()
        run = read_run(stages.folder, heads=False)
        draw(run, png=png, say=say)
    return run


def draw(run: Run, png: bool = False, say: Say | None = None) -> list[Path]:
    """Draws the gallery of a run into its folder, as HTML and JSON, and as pictures if asked.

    Args:
        run: what was found.
        png: also pictures; a picture of an earlier time goes where the figure is another one now.
        say: is told of figures for which a result does not suffice.
    """
    written: list[Path] = []
    folder = run.folder / names.FIGURES
    for entry in figures.GALLERY:
        try:
            figure = entry.draw(run)
        except StudyError as error:
            (say or (lambda line: None))(f"figure {entry.name} not drawn: {error}")
            figure = None
        drawn = folder / f"{entry.name}.json"
        if figure is None or not (drawn.is_file() and drawn.read_text() == figure.to_json()):
            # It would show another state of the run.
            delete_figure(folder, entry.name)
        if figure is not None:
            written += figures.save_figure(figure, folder, entry.name, png=png).values()
    return written
