"""The explorer's controls, and what happens when one of them is used."""

import asyncio
import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import ipywidgets as widgets

from workbench.analysis.geometry.token_projections import read_prompt
from workbench.errors import AxisError, WorkbenchError
from workbench.explorer.jobs import Answers, Reading, Step, model_of
from workbench.explorer.plots import Plots
from workbench.explorer.views import VIEWS, Selection, Views, as_message, clicked
from workbench.figures.parts.theme import position_label
from workbench.models.hooked import HookedModel
from workbench.positions import T_INST, Position, position_order
from workbench.study.results import Run
from workbench.written import number

_WIDE = {"description_width": "initial"}


class Panel(widgets.VBox):
    """Controls, figures and replies of one run.

    Attributes:
        run: the run.
        views: what is shown, without widgets.
        selection: what is selected now.
    """

    def __init__(self, run: Run, model: HookedModel | None = None, n_prompts: int = 3):
        self.run, self._model = run, model
        self.views = Views(run)
        self.selection = self.views.start
        self._answers, self._reading = Answers(run, n_prompts), Reading(run)
        self._task: asyncio.Task[None] | None = None
        self._stopped = self._updating = False
        self.plots = Plots(**self._drawn(VIEWS))
        self._make_controls()
        super().__init__(
            [
                widgets.HTML(
                    f"<h3>Explore refusal in <bdi>{html.escape(run.study.model)}</bdi></h3>"
                ),
                widgets.HBox(
                    [self.layer, self.position, self.name, self.pair],
                    layout={"flex_flow": "row wrap"},
                ),
                widgets.HBox([self.prompt, self.read], layout={"flex_flow": "row wrap"}),
                self.chosen,
                widgets.HBox(
                    [self.answer, self.positions, self.stop, self.progress, self.status],
                    layout={"flex_flow": "row wrap"},
                ),
                self.plots,
                self.replies,
            ]
        )
        self._tell()

    def _make_controls(self) -> None:
        """Widgets with their first values, and what each of them calls."""
        views, start = self.views, self.selection
        self.layer = widgets.SelectionSlider(
            options=views.layers, value=start.layer, description="layer", style=_WIDE
        )
        self.position = widgets.Dropdown(
            options=[(self._position_name(each), each) for each in views.positions],
            value=start.position,
            description="position",
            style=_WIDE,
        )
        self.name = widgets.Dropdown(
            options=views.names, value=start.name, description="direction", style=_WIDE
        )
        names = views.categories.names if views.categories else ()
        pairs = [(a, b) for a in names for b in names if a != b]
        self.pair = widgets.Dropdown(
            options=[(f"{a} · {b}", (a, b)) for a, b in pairs] or [("none", None)],
            value=start.pair,
            description="pair",
            style=_WIDE,
        )
        example = next((text for _, _, text in self._answers.prompts), "")
        self.prompt = widgets.Text(
            value=example,
            description="prompt",
            continuous_update=False,
            layout={"width": "min(46em, 100%)"},
            style=_WIDE,
        )
        self.read = widgets.Button(description="Show its tokens")
        self.answer = widgets.Button(
            description="Answer test prompts",
            tooltip="with the selected direction ablated, added",
            layout={"width": "auto"},
        )
        self.positions = widgets.Button(
            description="Read all positions",
            tooltip="principal components at every position",
            layout={"width": "auto"},
        )
        self.stop = widgets.Button(description="Stop", disabled=True)
        self.progress = widgets.IntProgress(layout={"visibility": "hidden", "width": "10em"})
        self.chosen, self.status, self.replies = widgets.HTML(), widgets.HTML(), widgets.HTML()
        for control, part in (
            (self.layer, "layer"),
            (self.position, "position"),
            (self.name, "name"),
            (self.pair, "pair"),
        ):
            control.observe(lambda change, part=part: self._chose(part, change["new"]), "value")
        self.prompt.observe(lambda _change: self._start(self._read_prompt()), "value")
        self.read.on_click(lambda _button: self._start(self._read_prompt()))
        self.answer.on_click(lambda _button: self._start(self._answer()))
        self.positions.on_click(lambda _button: self._start(self._read_positions()))
        self.stop.on_click(lambda _button: self._stop())
        self.plots.on_click(self._clicked)

    def select(self, selection: Selection) -> None:
        """Selects, as if by the controls: they follow, and so do the figures."""
        before, self.selection = self.selection, selection
        self._updating = True
        try:
            self.layer.value, self.position.value = selection.layer, selection.position
            self.name.value, self.pair.value = selection.name, selection.pair
        finally:
            self._updating = False
        self._show(before)

    def _chose(self, part: str, value: Any) -> None:
        if not self._updating:
            self.select(replace(self.selection, **{part: value}))

    def _clicked(self, event: Mapping[str, Any]) -> None:
        """A candidate or a pair; a candidate is answered too."""
        after = clicked(self.selection, event)
        if after.pair not in {value for _, value in self.pair.options}:
            return
        self.select(after)
        if event.get("view") == "sweep" and self._answers.missing(self.selection):
            self._start(self._answer())

    def _show(self, before: Selection) -> None:
        """Draws what hangs on the parts of the selection that changed."""
        for view, drawn in self._drawn(self.views.changed(before, self.selection)).items():
            setattr(self.plots, view, drawn)
        self._tell()

    def _drawn(self, views: Iterable[str]) -> dict[str, dict[str, Any]]:
        return {view: as_message(self.views.draw(view, self.selection)) for view in views}

    def _tell(self) -> None:
        """The selection in words, and its replies."""
        self.chosen.value = self._in_words()
        self.replies.value = self._answers.table(self.selection)

    def _in_words(self) -> str:
        """The selected candidate and its scores, or why it was skipped."""
        selection = self.selection
        where = f"layer {selection.layer}, position {self._position_name(selection.position)}"
        words = f"<b>{html.escape(selection.name)}</b> at {html.escape(where)}"
        table = self.run.choice.table
        row = table[(table["layer"] == selection.layer) & (table["position"] == selection.position)]
        if selection.name in self.run.directions.names and len(row):
            scores = [f"{name} {number(row[name].item())}" for name in ("bypass", "induce", "kl")]
            outcome = row["dropped"].item() or (
                "chosen" if row.index[0] == table.index[0] else "passes the selection"
            )
            words += f": {', '.join(scores)} (nats); {html.escape(str(outcome))}"
        return f"<span role='status'>{words}</span>"

    def _position_name(self, position: Position) -> str:
        """A position and its token."""
        scores = self.run.scores
        if "position_label" not in scores or position not in scores["position"].values:
            if position == T_INST:
                return T_INST
            lowest = min(self.run.directions.positions, key=position_order)
            before = position_order(position) < position_order(lowest)
            return f"{number(position)} t_inst" if before else number(position)
        label = html.unescape(
            position_label(position, str(scores["position_label"].sel(position=position).item()))
        )
        return f"{label} (t_post)" if position == -1 else label

    # Long work -----------------------------------------------------------------------------------

    def _loaded(self) -> HookedModel:
        if self._model is None:
            self._model = model_of(self.run, self._say)
        return self._model

    def _say(self, line: str) -> None:
        self.status.value = f"<span role='status'>{html.escape(line)}</span>"

    def _answer(self) -> Iterator[Step]:
        """Replies of the candidate that is selected when this starts."""
        selection = self.selection
        if not self._answers.missing(selection):
            return
        yield 0, 1, f"loading {self.run.study.model}"
        direction = self.views.direction(selection)
        for step in self._answers.make(self._loaded(), direction, selection):
            if selection == self.selection:
                self.replies.value = self._answers.table(selection)
            yield step

    def _read_positions(self) -> Iterator[Step]:
        yield 0, 1, f"loading {self.run.study.model}"
        yield from self._reading.make(self._loaded(), self.views.positions)
        self.views.activations = self._reading.activations
        self.plots.pca = as_message(self.views.draw("pca", self.selection))

    def _read_prompt(self) -> Iterator[Step]:
        text = self.prompt.value.strip()
        if not text:
            raise AxisError("type a prompt first.")
        yield 0, 1, f"reading the prompt with {self.run.study.model}"
        study = self.run.study
        self.views.prompt = read_prompt(
            self._loaded(),
            text,
            study.site,  # pyright: ignore[reportArgumentType]
            study.system,
        )
        self.plots.tokens = as_message(self.views.draw("tokens", self.selection))
        yield 1, 1, "done"

    def _start(self, job: Iterator[Step]) -> None:
        """Runs a job, piece by piece, in Jupyter's own loop; without one, at once."""
        if self._task is not None and not self._task.done():
            self._say("busy: wait for it, or press Stop first")
            return
        self._stopped = False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            for step in self._guarded(job):
                self._advance(step)
            return
        self._task = loop.create_task(self._drive(job))

    async def _drive(self, job: Iterator[Step]) -> None:
        for step in self._guarded(job):
            self._advance(step)
            # Lets the kernel read what came meanwhile: another selection, or Stop.
            await asyncio.sleep(0.01)

    def _guarded(self, job: Iterator[Step]) -> Iterator[Step]:
        """The steps until the end, a stop or an error; controls are as before afterwards."""
        self.stop.disabled = False
        self.progress.layout.visibility = "visible"
        ended = "done"
        try:
            for step in job:
                yield step
                if self._stopped:
                    ended = f"stopped after {step[0]} of {step[1]}; what is done is kept"
                    break
        except KeyboardInterrupt:
            ended = "interrupted; what is done is kept"
        except WorkbenchError as error:
            ended = str(error)
        finally:
            self.stop.disabled = True
            self.progress.layout.visibility = "hidden"
            self._say(ended)

    def _advance(self, step: Step) -> None:
        self.progress.value, self.progress.max = step[0], max(step[1], 1)
        self._say(f"{step[2]} ({step[0]} of {step[1]})")

    def _stop(self) -> None:
        self._stopped = True
