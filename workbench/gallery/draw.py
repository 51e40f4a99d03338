"""Drawing the gallery: every figure, its numbers, and the page that shows them all."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import plotly.graph_objects as go
import xarray as xr

from workbench import figures
from workbench.artifact import write_text
from workbench.directions.published import Published
from workbench.errors import ArtifactError, StudyError
from workbench.gallery.page import PUBLISHED_SECTION, Shown, gallery_page
from workbench.gallery.published import PUBLISHED, published_results
from workbench.names import distinct_names, file_only
from workbench.study.command import command
from workbench.study.names import PROMPTS
from workbench.study.results import Run, load_run
from workbench.study.run import run_study
from workbench.study.settings import Study
from workbench.study.stored import read_kept

ORGANISMS = ("pocket", "pocket-two")
"""The shipped models that are in the gallery where no runs are given."""

_WIDTH, _SCALE = 1200, 1.0
"""Pixels of a picture: as wide as a page shows it."""

Say = Callable[[str], None]


def draw_gallery(
    out: str | Path,
    runs: Sequence[str | Path] = (),
    published: str | Path | None = None,
    say: Say | None = None,
) -> Path:
    """Draws every figure of the gallery again from results.

    Each figure of a run is written as a page, as a picture and as a table of the numbers in it;
    those of published results as pictures. Where pictures cannot be drawn, that is said once and
    the rest is written. Equal results give equal tables.

    Args:
        out: the gallery's folder; files in it are replaced.
        runs: folders of finished runs; by default runs on the shipped models under ``runs/``,
            which are made where they are not there yet.
        published: a folder with results of other projects, at whatever depth.
        say: is told what happens, one line at a time.

    Returns:
        The page that shows them all.

    Raises:
        StudyError: a folder holds no finished run, two runs are of models of one name, or nothing
            published was found.
        ArtifactError: a result is broken, or the folder cannot be written.
    """
    writer = _Writer(Path(out), say or (lambda line: None))
    sources = [] if published is None else published_results(published)
    finished = [load_run(folder) for folder in runs] or list(_own_runs(writer.say))
    names = _folders([run.study.model for run in finished])
    shown = [
        each
        for name, run in zip(names, finished, strict=True)
        for each in _draw_run(writer, name, run)
    ]
    shown += [each for name, found in sources for each in _draw_published(writer, name, found)]
    drawn = writer.draw_pictures()
    return write_text(Path(out) / "README.md", gallery_page(shown, pictures=drawn))


def _folders(models: Sequence[str]) -> list[str]:
    """A folder inside the gallery for each model, whatever its name is.

    Raises:
        StudyError: two are the same.
    """
    names = distinct_names(models, taken=(PUBLISHED_SECTION,))
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise StudyError(
            f"two of these runs are on models named {twice[0]!r}, and would write the same files. "
            "Draw them into different folders."
        )
    return names


def _own_runs(say: Say) -> Iterator[Run]:
    """Runs on the shipped models, made or gone on with."""
    for name in ORGANISMS:
        yield run_study(Study(model=name), say=say)


@dataclass
class _Writer:
    """Writes pages and tables at once; pictures wait, because one browser draws them all."""

    out: Path
    say: Say
    waiting: dict[Path, go.Figure] = field(default_factory=dict)

    def page(self, figure: go.Figure, folder: str, name: str, data: xr.Dataset) -> None:
        """The figure as a page, and its numbers."""
        figures.save_figure(figure, self.out / folder, name)
        write_text(self.out / folder / f"{name}.csv", figures.tidy_csv(data))

    def picture(self, figure: go.Figure, folder: str, name: str) -> None:
        """To be drawn with the others."""
        self.waiting[self.out / folder / f"{name}.png"] = figure

    def draw_pictures(self) -> bool:
        """Draws what waits; says so and goes on where pictures cannot be drawn."""
        self.say(f"drawing {len(self.waiting)} pictures")
        try:
            figures.save_pictures(self.waiting, width=_WIDTH, scale=_SCALE)
        except ArtifactError as error:
            self.say(f"pictures skipped: {error}.")
            # Those of another time would stand beside numbers that they do not show.
            for path in self.waiting:
                path.unlink(missing_ok=True)
            return False
        return True


def _draw_run(writer: _Writer, folder: str, run: Run) -> Iterator[Shown]:
    """The figures that a run has results for."""
    model = file_only(run.study.model)
    writer.say(f"drawing {model}")
    made = command(run.study)
    for entry in figures.GALLERY:
        try:
            figure = entry.draw(run)
        except StudyError as error:
            writer.say(f"figure {entry.name} of {model} not drawn: {error}")
            continue
        if figure is None:
            writer.say(f"figure {entry.name} of {model} not drawn: the run has no {entry.needs}")
            continue
        writer.page(figure, folder, entry.name, entry.data(run))
        writer.picture(figure, folder, entry.name)
        yield Shown(
            section=folder,
            title=model,
            about=_prompts_of(run),
            name=entry.name,
            question=entry.question,
            caption=entry.caption,
            answers=entry.answers,
            subtitle=_subtitle(figure),
            command=made,
        )


def _prompts_of(run: Run) -> str:
    """How many prompts stand behind the figures of a run."""
    kept = read_kept(run.path(PROMPTS))["kept"]

    def counts(part: str) -> str:
        return " and ".join(f"{len(ids)} {kind}" for kind, ids in kept[part].items())

    tested = [f"{int(run.effects['n'].sel(prompt_set=kind))} {kind}" for kind in _kinds(run)]
    return (
        f"Directions from {counts('train')} prompts, candidates scored on {counts('validation')}, "
        f"tested on {', '.join(tested)} prompts."
    )


def _kinds(run: Run) -> list[str]:
    return [str(kind) for kind in run.effects["prompt_set"].values]


def _draw_published(writer: _Writer, name: str, found: Published) -> Iterator[Shown]:
    """What can be drawn of a published result, as pictures only: the numbers are its authors'."""
    writer.say(f"drawing published {name}")
    source = str(found.provenance.get("source", name))
    for entry in PUBLISHED:
        figure = entry.draw(found)
        file = f"{name}_{entry.name}"
        if figure is not None:
            writer.picture(figure, PUBLISHED_SECTION, file)
            yield Shown(
                section=PUBLISHED_SECTION,
                title=PUBLISHED_SECTION,
                about="Drawn from the files that the authors published; nothing was run again.",
                name=file,
                question=entry.question,
                subject=name,
                caption=entry.caption,
                source=source,
                answers=entry.answers,
                subtitle=_subtitle(figure),
                command="",
            )


def _subtitle(figure: go.Figure) -> str:
    """What stands under the title: the model, how many prompts, the judge."""
    return " · ".join(figure.to_dict()["layout"]["meta"]["subtitle"])
