"""The stages of a run: each reads its result where it stands, else makes and saves it."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from workbench.activations import collect_activations
from workbench.analysis.selection.effects import (
    collect_completions,
    planted_cosine,
    refusal_rates,
)
from workbench.analysis.selection.selection import Choice
from workbench.analysis.selection.sweep import sweep_directions
from workbench.artifact import environment, load_dataset, save_dataset, write_text
from workbench.directions import estimate
from workbench.directions.direction import Directions
from workbench.errors import ModelError
from workbench.intake.limits import MAX_ARTIFACT_BYTES, allowing
from workbench.interventions import mean_projection
from workbench.kept import kept_line
from workbench.models.hooked import HookedModel
from workbench.models.loading.load import load_model
from workbench.models.thinking import answer_after_thinking
from workbench.models.tokens import Tokens
from workbench.models.verify import verify_model
from workbench.names import folder_name
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import judge_name
from workbench.scores.refusal_tokens import RefusalTokens
from workbench.study import names
from workbench.study.control_lines import is_current
from workbench.study.controls import measure_controls
from workbench.study.folder import check_model, check_unused, open_folder, recorded_day
from workbench.study.keeping import keep_prompts, kept_of, treatment
from workbench.study.ledger import Ledger, holds_run
from workbench.study.making import make_analyses
from workbench.study.material import Material
from workbench.study.occupied import occupied
from workbench.study.prompts import Split, reading_notes, split_prompts
from workbench.study.settings import Study
from workbench.study.stored import read_kept, read_replies
from workbench.study.texts import write_texts
from workbench.study.thoughts import tokens_after

Say = Callable[[str], None]


class Stages:
    """The stages of one run; each reads its result if it stands, else makes and saves it."""

    def __init__(self, ledger: Ledger, study: Study, model: HookedModel, prompts: Split, say: Say):
        self.folder, self.study, self.model, self.say = ledger.folder, study, model, say
        self.ledger, self.prompts = ledger, prompts
        self._kept: dict[str, Any] | None = None
        self._material: Material | None = None

    def stands(self, name: str) -> bool:
        """Whether a result can be read; says so where it is there and has to be made again."""
        fault = self.ledger.fault(name)
        if fault is not None and self.ledger.odd(name):
            self.say(f"{name} {fault}, so it is made again")
        return fault is None

    def _keep(self, name: str) -> None:
        """Takes down a result that was just written."""
        self.ledger.keep(name, names.MADE_FROM[name])

    def verification(self) -> xr.Dataset:
        """What of the wrapped model is what the model computes.

        Raises:
            ModelError: something that would be read is not.
        """
        path = self.folder / names.VERIFICATION
        stands = self.stands(names.VERIFICATION)
        found = load_dataset(path, kind="verification") if stands else None
        # Other versions may compute something else, and what was wrong may have been mended.
        if (
            found is None
            or found.attrs["verdict"] == "wrong"
            or found.attrs["environment"] != dict(environment())
        ):
            self.say("comparing the wrapped model with Hugging Face's own")
            found = verify_model(self.model)
            save_dataset(path, found, kind="verification")
            self._keep(names.VERIFICATION)
        if found.attrs["verdict"] == "wrong":
            wrong = found["note"].where(found["verdict"] == "wrong", drop=True)
            told = "; ".join(f"{row['check'].item()}: {row.item()}" for row in wrong)
            raise ModelError(
                f"what is read from {self.model.name} would not be true ({told}). "
                f"`workbench verify {self.model.name}` shows it."
            )
        return found

    def texts(self) -> None:
        """The texts of the prompts, so that looking at the run needs no source of them."""
        if not self.stands(names.TEXTS):
            write_texts(self.folder / names.TEXTS, self.prompts)
            self._keep(names.TEXTS)

    def kept(self, part: str, kind: str) -> PromptSet:
        """Training, validation or test prompts that the model treats as their label says."""
        return kept_of(self.prompts[kind][part], self._selection()["kept"][part][kind])

    def all_kept(self, part: str) -> dict[str, PromptSet]:
        """Those of either label."""
        return {kind: self.kept(part, kind) for kind in ("harmful", "harmless")}

    def treatment(self, replies: pd.DataFrame | None = None) -> dict[str, dict[str, Any]]:
        """How many test prompts are kept, and what the others do; see `keeping.treatment`."""
        tests = {kind: parts["test"] for kind, parts in self.prompts.items()}
        return treatment(self._selection(), tests, replies)

    def refusal_tokens(self) -> tuple[int, ...]:
        """Ids of the first tokens of this model's refusals."""
        return tuple(self._selection()["refusal_tokens"])

    def _selection(self) -> dict[str, Any]:
        """Refusal tokens, and the prompts that pass the filter."""
        path = self.folder / names.PROMPTS
        if self._kept is None and self.stands(names.PROMPTS):
            self._kept = read_kept(path)
            if not self._kept["kept"].get("test"):
                self.say(
                    f"{names.PROMPTS} does not say which test prompts the model treats as their "
                    "label says, as earlier versions wrote it, so it is made again"
                )
                self._kept = None
        if self._kept is None:
            self.say("answering a few prompts to see how this model refuses")
            self._kept = keep_prompts(self.model, self.study, self.prompts)
            if (tokens := RefusalTokens.from_record(self._kept)) is not None:
                self.say(f"refusals begin with {tokens.line()}")
            if typed := self._kept["typed_specials"]:
                named = ", ".join(f"{token} ({n})" for token, n in typed.items())
                self.say(f"special tokens typed inside prompts are read as tokens: {named}")
            if shared := self._kept["shared_t_inst"]:
                self.say(self._shared(shared))
            write_text(path, json.dumps(self._kept, indent=1, sort_keys=True))
            self._keep(names.PROMPTS)
            self.say(kept_line(self.treatment()))
        return self._kept

    def _shared(self, shared: Mapping[str, int]) -> str:
        """In how many prompts t_inst is the template's token, too, and which token it is."""
        n = sum(len(prompts) for parts in self.prompts.values() for prompts in parts.values())
        most = sorted(shared.items(), key=lambda own: -own[1])
        named = ", ".join(f"{token!r} ({count})" for token, count in most[:5])
        text = (
            f"the last token of the prompt's words holds characters of the template, too, in "
            f"{sum(shared.values())} of {n} prompts: {named}{', …' if len(most) > 5 else ''}; "
        )
        if self.study.t_inst == "last_token":
            return f"{text}it is t_inst (t_inst=last_whole_token takes the one before)"
        return f"{text}t_inst is the one before"

    def directions(self) -> Directions:
        """Candidates at every layer and post-instruction position."""
        self._selection()  # made from it
        path = self.folder / names.DIRECTIONS
        if self.stands(names.DIRECTIONS):
            return Directions.load(path)
        train = self.all_kept("train")
        self.say(
            f"collecting {self.study.site} on {len(train['harmful'])} harmful and "
            f"{len(train['harmless'])} harmless prompts"
        )
        positions = self.model.tokens(train["harmful"], self.study.system).post_instruction
        acts = {
            kind: collect_activations(
                self.model,
                prompts,
                site=self.study.site,  # pyright: ignore[reportArgumentType]
                positions=positions,
                per_prompt=self.study.estimator != "mean_difference",
                system=self.study.system,
            )
            for kind, prompts in train.items()
        }
        directions = getattr(estimate, self.study.estimator)(acts["harmful"], acts["harmless"])
        directions.save(path)
        self._keep(names.DIRECTIONS)
        return directions

    def scores(self, directions: Directions) -> xr.Dataset:
        """The sweep on the validation prompts."""
        path = self.folder / names.SCORES
        if self.stands(names.SCORES):
            return load_dataset(path, kind="sweep")
        harmful, harmless = (self.kept("validation", kind) for kind in ("harmful", "harmless"))
        self.say(
            f"sweeping {len(directions)} candidates on {len(harmful)} harmful and "
            f"{len(harmless)} harmless prompts"
        )
        scores = sweep_directions(
            self.model,
            directions,
            harmful=self.scored("validation", "harmful"),
            harmless=self.scored("validation", "harmless"),
            refusal_tokens=self.refusal_tokens(),
            confidence=self.study.confidence,
            seed=self.study.seed,
        )
        save_dataset(path, scores, kind="sweep")
        self._keep(names.SCORES)
        return scores

    def scored(self, part: str, label: str) -> Tokens:
        """Kept prompts, up to where answers are scored."""
        prompts = self.kept(part, label)
        if self.study.score_after == "prompt":
            return self.model.tokens(prompts, self.study.system)
        thoughts = self._selection()["thoughts"][part][label]
        return tokens_after(self.model, self.study, prompts, thoughts)

    def direction(self, directions: Directions, choice: Choice) -> Directions:
        """The selected direction, saved on its own, and the table it was selected from."""
        chosen = directions.at(layer=choice.layer, position=choice.position)
        if not self.stands(names.DIRECTION):
            chosen.save(self.folder / names.DIRECTION)
            self._keep(names.DIRECTION)
        if not self.stands(names.CANDIDATES):
            write_text(self.folder / names.CANDIDATES, choice.table.to_csv(index=False))
            self._keep(names.CANDIDATES)
        return chosen

    def replies(self, direction: Directions) -> pd.DataFrame:
        """Test prompts answered under every condition, and judged."""
        path = self.folder / names.REPLIES
        if self.stands(names.REPLIES):
            return read_replies(path)
        tests = {kind: parts["test"] for kind, parts in self.prompts.items()}
        n = sum(map(len, tests.values()))
        self.say(
            f"answering {n} test prompts plainly, with the direction ablated, added, and its "
            "projection set"
        )
        replies = collect_completions(
            self.model,
            direction,
            tests,
            judge=self.study.judge,
            max_new_tokens=self.study.max_new_tokens,
            projection=self._harmful_projection(direction),
            system=self.study.system,
        )
        if n_cut := sum(answer_after_thinking(reply) is None for reply in replies["reply"]):
            self.say(
                f"{n_cut} of {len(replies)} replies are cut off inside their thinking and judged "
                "other: raise max_new_tokens, or pass thinking=False"
            )
        lines = (json.dumps(row, ensure_ascii=False) for row in replies.to_dict("records"))
        write_text(path, "".join(line + "\n" for line in lines))
        self._keep(names.REPLIES)
        return replies

    def _harmful_projection(self, direction: Directions) -> float:
        """Mean projection of the training prompts that the model refuses."""
        acts = collect_activations(
            self.model,
            self.kept("train", "harmful"),
            site=self.study.site,  # pyright: ignore[reportArgumentType]
            layers=direction.layers,
            positions=direction.positions,
            system=self.study.system,
        )
        return mean_projection(direction, acts)

    def effects(self, direction: Directions, replies: pd.DataFrame) -> xr.Dataset:
        """Refusal rates by prompt set and condition, with binomial intervals."""
        path = self.folder / names.EFFECTS
        if self.stands(names.EFFECTS):
            return load_dataset(path, kind="effects")
        effects = refusal_rates(replies, confidence=self.study.confidence)
        effects.attrs |= {
            "model": self.model.name,
            "judge": judge_name(self.study.judge),
            "layer": direction.layers[0],
            "position": direction.positions[0],
            "coefficient": 1.0,
            "provenance": {**self.model.provenance, "seed": self.study.seed},
        }
        if "projection set" in effects["condition"].values:
            effects.attrs["projection"] = self._harmful_projection(direction)
        planted = planted_cosine(self.model.name, direction)
        if planted is not None:
            effects.attrs["planted_cosine"] = planted
        save_dataset(path, effects, kind="effects")
        self._keep(names.EFFECTS)
        return effects

    def controls(self, directions: Directions, direction: Directions, effects: xr.Dataset) -> None:
        """What vectors without signal do beside the direction; see `measure_controls`."""
        path = self.folder / names.CONTROLS
        if self.stands(names.CONTROLS):
            if is_current(load_dataset(path, kind="controls")):
                return
            self.say(
                f"{names.CONTROLS} is of an earlier version, with fewer kinds of controls, so it "
                "is made again"
            )
        self.say("measuring what random vectors and directions of shuffled labels do")
        validation = {kind: self.scored("validation", kind) for kind in ("harmful", "harmless")}
        found = measure_controls(
            self.material(directions, direction), validation, effects.attrs["projection"]
        )
        if found is None:
            self.ledger.drop(names.CONTROLS)
            return
        save_dataset(path, found, kind="controls")
        self._keep(names.CONTROLS)

    def analyses(self, directions: Directions, direction: Directions) -> None:
        """Whatever the study asks for and the folder lacks; see `make_analyses`."""
        make_analyses(self.material(directions, direction))

    def asked_heads(self) -> None:
        """Says what of the heads that were asked for by themselves does not stand any more."""
        for name in [own for own in self.ledger.entries if own.startswith(names.HEADS_FOLDER)]:
            if not (self.folder / name).exists():
                self.ledger.forget(name)
            elif fault := self.ledger.fault(name):
                self.say(f"{name} {fault}; `workbench patch-heads` makes it again")

    def material(self, directions: Directions, direction: Directions) -> Material:
        """What controls and analyses work on, once the replies stand."""
        if self._material is None:
            self._material = self._gather(directions, direction)
        return self._material

    def _gather(self, directions: Directions, direction: Directions) -> Material:
        replies = read_replies(self.folder / names.REPLIES)
        return Material(
            folder=self.folder,
            model=self.model,
            study=self.study,
            train=self.all_kept("train"),
            test={kind: parts["test"] for kind, parts in self.prompts.items()},
            kept_test=self.all_kept("test"),
            validation=self.all_kept("validation"),
            thoughts=self._selection().get("thoughts", {}).get("test", {}),
            treatment=self.treatment(replies),
            directions=directions,
            direction=direction,
            refusal_tokens=self.refusal_tokens(),
            replies=replies,
            ledger=self.ledger,
            say=self.say,
        )


@contextlib.contextmanager
def open_run(
    study: Study,
    out: str | Path | None = None,
    *,
    model: HookedModel | None = None,
    say: Say = lambda line: None,
) -> Iterator[Stages]:
    """Loads a study's prompts and model, and opens its folder; arguments as of `run_study`.

    Nobody else can write into the folder while the block runs.

    Raises:
        StudyError: the folder holds another study or something else, or another process writes
            there.
        WorkbenchError: whatever bad prompts or models raise.
    """
    folder = Path(out) if out is not None else Path("runs") / folder_name(study.model)
    prompts = split_prompts(study)  # before the model: a wrong path should not cost a download
    for label, notes in reading_notes(prompts).items():
        for note in notes:
            say(f"{label} prompts: {note}")
    check_unused(folder)
    judge_name(study.judge)  # refuses a judge that cannot be loaded before the model is
    small = study.max_bytes is None or study.max_bytes <= MAX_ARTIFACT_BYTES
    with contextlib.ExitStack() as held:
        # The study's limits are about what others wrote; a larger one also lets larger results in.
        held.enter_context(allowing(None if small else study.max_bytes))
        # A folder that is not there is made once nothing is wrong with the model.
        is_new = not holds_run(folder)
        if not is_new:
            held.enter_context(occupied(folder))
        say(f"loading {_named(study)}")
        model = _model(study, folder, model)
        if is_new:
            held.enter_context(occupied(folder))
        ledger = open_folder(folder, study, model, prompts, say)
        stages = Stages(ledger, study, model, prompts, say)
        stages.verification()
        stages.texts()
        yield stages


def _named(study: Study) -> str:
    return study.model if study.adapter is None else f"{study.model} with {study.adapter}"


def _model(study: Study, folder: Path, given: HookedModel | None) -> HookedModel:
    """The study's model, which may be loaded already."""
    if given is not None:
        check_model(given, study)
        return given
    model = load_model(
        study.model,
        adapter=study.adapter,
        device=study.device,
        dtype=study.dtype,
        revision=study.revision,
        chat_template=study.chat_template,
        thinking=study.thinking,
        date=study.date or recorded_day(folder),
    )
    model.batch_tokens = study.batch_tokens
    return model
