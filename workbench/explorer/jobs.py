"""Work that takes long, in pieces: each is kept, and after each it can be stopped."""

import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from workbench.activations import Activations, collect_activations
from workbench.directions.direction import Directions
from workbench.errors import StudyError
from workbench.explorer.views import Selection
from workbench.interventions import Ablate, Add, Intervention, intervene
from workbench.models.hooked import HookedModel
from workbench.models.loading.load import load_model
from workbench.positions import Position
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import judge
from workbench.study.results import Run
from workbench.study.texts import read_texts

Step = tuple[int, int, str]
"""Pieces done, pieces in all, and what comes next."""

_CONDITIONS = ("plain", "ablated", "added")
_BATCH = 16


@dataclass(frozen=True)
class Reply:
    """One reply and its verdict."""

    text: str
    verdict: str


class Answers:
    """Replies of a few test prompts under every candidate that was asked for.

    Plain replies and those of the candidate that the run chose are the run's own; others are made
    when they are wanted, one prompt and condition at a time, and kept.

    Args:
        run: the run.
        n_prompts: prompts of each set.
    """

    def __init__(self, run: Run, n_prompts: int):
        self.run = run
        rows = run.replies.drop_duplicates(["prompt_set", "id"])
        chosen = rows.groupby("prompt_set", sort=False).head(n_prompts)
        self.prompts: tuple[tuple[str, str, str], ...] = tuple(
            zip(chosen["prompt_set"], chosen["id"], chosen["prompt"], strict=True)
        )
        self._known: dict[tuple[str, int, Position, str, str, str], Reply] = {}
        wanted = {(kind, name) for kind, name, _ in self.prompts}
        for row in run.replies.to_dict("records"):
            if (row["prompt_set"], row["id"]) not in wanted or row["condition"] not in _CONDITIONS:
                continue
            place = run.choice.layer, run.choice.position
            self._known[
                (run.directions.names[0], *place, row["condition"], row["prompt_set"], row["id"])
            ] = Reply(row["reply"], row["verdict"])

    def get(self, selection: Selection, condition: str, kind: str, name: str) -> Reply | None:
        """A reply, if it is known."""
        choice = self.run.choice
        place = (selection.name, selection.layer, selection.position)
        if condition == "plain":
            place = (self.run.directions.names[0], choice.layer, choice.position)
        return self._known.get((*place, condition, kind, name))

    def missing(self, selection: Selection) -> list[tuple[str, str, str, str]]:
        """Condition, set, id and text of every reply that is not known yet."""
        return [
            (condition, kind, name, text)
            for kind, name, text in self.prompts
            for condition in _CONDITIONS
            if self.get(selection, condition, kind, name) is None
        ]

    def make(
        self, model: HookedModel, direction: Directions, selection: Selection
    ) -> Iterator[Step]:
        """Makes what is missing; a step after each reply.

        Raises:
            AxisError: the direction is zero, or does not fit the model.
        """
        missing, study = self.missing(selection), self.run.study
        total = len(missing)
        edits: dict[str, list[Intervention]] = {
            "plain": [],
            "ablated": [Ablate(direction)],
            "added": [Add(direction)],
        }
        for done, (condition, kind, name, text) in enumerate(missing):
            yield done, total, f"answering {kind} prompt {name}, {condition}"
            tokens = model.tokens([text], study.system)
            with intervene(model, *edits[condition]):
                reply = model.generate(tokens, max_new_tokens=study.max_new_tokens)[0]
            verdict = judge([reply], judge=study.judge, prompts=[text])[0]  # pyright: ignore[reportArgumentType]
            key = (selection.name, selection.layer, selection.position, condition, kind, name)
            self._known[key] = Reply(reply, verdict)
        yield total, total, "done"

    def table(self, selection: Selection) -> str:
        """The replies side by side, as HTML in which every text is only text."""
        head = "".join(f"<th scope='col'>{name}</th>" for name in ("prompt", *_CONDITIONS))
        rows = []
        for kind, name, text in self.prompts:
            cells = [f"<td><small>{html.escape(kind)}</small><br>{_isolated(text)}</td>"]
            for condition in _CONDITIONS:
                reply = self.get(selection, condition, kind, name)
                cells.append(
                    "<td>not answered yet</td>"
                    if reply is None
                    else f"<td><b>{html.escape(reply.verdict)}</b><br>{_isolated(reply.text)}</td>"
                )
            rows.append(f"<tr>{''.join(cells)}</tr>")
        return (
            f"<table class='workbench-replies'><thead><tr>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>"
        )


class Reading:
    """Test prompts read at every position, batch by batch; what was read is kept when stopped."""

    def __init__(self, run: Run):
        self.run = run
        self._read: dict[str, list[Activations]] = {}
        self._sets: dict[str, PromptSet] | None = None

    def make(self, model: HookedModel, positions: tuple[Position, ...]) -> Iterator[Step]:
        """Reads what is missing; a step after each batch."""
        sets = self._prompts()
        batches = [
            (label, start)
            for label, prompts in sets.items()
            for start in range(0, len(prompts), _BATCH)
        ]
        for done, (label, start) in enumerate(batches):
            yield done, len(batches), f"reading {label} test prompts at every position"
            own = self._read.setdefault(label, [])
            if start // _BATCH < len(own):
                continue
            own.append(
                collect_activations(
                    model,
                    sets[label][start : start + _BATCH],
                    site=self.run.study.site,  # pyright: ignore[reportArgumentType]
                    positions=positions,
                    per_prompt=True,
                    system=self.run.study.system,
                )
            )
        yield len(batches), len(batches), "done"

    @property
    def activations(self) -> tuple[Activations, ...]:
        """What was read so far."""
        return tuple(each for own in self._read.values() for each in own)

    def _prompts(self) -> dict[str, PromptSet]:
        """The run's test prompts, as it keeps them.

        Raises:
            StudyError: it does not.
        """
        if self._sets is None:
            texts = read_texts(self.run)
            self._sets = {label: own["test"] for label, own in texts.items()}
        return self._sets


def model_of(run: Run, say: Callable[[str], None]) -> HookedModel:
    """The run's model, loaded as it was, and checked to be the same.

    Raises:
        StudyError: its weights, their type or chat template differ from those of the run.
        ModelError: it cannot be loaded.
    """
    study = run.study
    say(f"loading {study.model}")
    recorded = run.provenance
    model = load_model(
        study.model,
        adapter=study.adapter,
        device=study.device,
        dtype=study.dtype or recorded.get("dtype"),
        revision=study.revision,
        chat_template=study.chat_template,
        thinking=study.thinking,
        date=recorded.get("date"),
    )
    check_model(run, model)
    return model


def check_model(run: Run, model: HookedModel) -> None:
    """Refuses a model on which the run's directions mean nothing.

    Raises:
        StudyError: its weights, their type or chat template differ from those of the run.
    """
    recorded = run.provenance
    now = {"weights": model.weights_fingerprint, "template": model.template.fingerprint}
    for what, fingerprint in now.items():
        if recorded.get(what) != fingerprint:
            raise StudyError(
                f"the {what} of {model.name} are not those of the run in {run.folder}: expected "
                f"fingerprint {recorded.get(what)}, found {fingerprint}. Load the revision of the "
                "run, or run the study again."
            )
    if recorded.get("dtype") not in (None, model.provenance["dtype"]):
        raise StudyError(
            f"{model.name} is in {model.provenance['dtype']}, and the run in {run.folder} was made "
            f"in {recorded['dtype']}: load it with dtype={recorded['dtype']!r}."
        )


def _isolated(text: str) -> str:
    """Untrusted text: only text, and what it does to the direction of writing ends with it."""
    return f"<bdi dir='auto'>{html.escape(text)}</bdi>"
