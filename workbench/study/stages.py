"""The stages of a run: each reads its result where it is there, else makes and saves it."""

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from workbench import __version__
from workbench.activations import collect_activations
from workbench.analysis.effects import answer_with_and_without, planted_cosine, refusal_rates
from workbench.analysis.selection import Choice
from workbench.analysis.sweep import sweep_directions
from workbench.artifact import environment, load_dataset, save_dataset, write_text
from workbench.directions import estimate
from workbench.directions.direction import Directions
from workbench.errors import ModelError, StudyError, WorkbenchError
from workbench.interventions import mean_projection
from workbench.models.hooked import HookedModel
from workbench.models.load import load_model
from workbench.models.thinking import answer_after_thinking
from workbench.models.tokens import Tokens
from workbench.models.verify import verify_model
from workbench.prompts.promptset import PromptSet
from workbench.study import results
from workbench.study.analyses import Analysis, chosen_analyses
from workbench.study.folder import check_model, open_folder, recorded_day
from workbench.study.material import Material
from workbench.study.prompts import Split, keep_prompts, reading_notes, split_prompts
from workbench.study.results import result_path, skipped_path
from workbench.study.settings import Study
from workbench.study.stored import read_kept, read_note, read_replies
from workbench.study.thoughts import tokens_after

Say = Callable[[str], None]


class Stages:
    """The stages of one run; each reads its result if it is there, else makes and saves it."""

    def __init__(
        self,
        folder: Path,
        study: Study,
        model: HookedModel,
        prompts: Split,
        say: Say,
    ):
        self.folder, self.study, self.model, self.say = folder, study, model, say
        self.prompts = prompts
        self._kept: dict[str, Any] | None = None

    def verification(self) -> xr.Dataset:
        """What of the wrapped model is what the model computes.

        Raises:
            ModelError: something that would be read is not.
        """
        path = self.folder / results.VERIFICATION
        found = load_dataset(path, kind="verification") if path.is_file() else None
        # Other versions may compute something else, and what was wrong may have been mended.
        if (
            found is None
            or found.attrs["verdict"] == "wrong"
            or found.attrs["environment"] != dict(environment())
        ):
            self.say("comparing the wrapped model with Hugging Face's own")
            found = verify_model(self.model)
            save_dataset(path, found, kind="verification")
        if found.attrs["verdict"] == "wrong":
            wrong = found["note"].where(found["verdict"] == "wrong", drop=True)
            told = "; ".join(f"{row['check'].item()}: {row.item()}" for row in wrong)
            raise ModelError(
                f"what is read from {self.model.name} would not be true ({told}). "
                f"`workbench verify {self.model.name}` shows it."
            )
        return found

    def kept(self, part: str, kind: str) -> PromptSet:
        """Training or validation prompts that the model treats as their label says."""
        chosen = set(self._selection()["kept"][part][kind])
        prompts = self.prompts[kind][part]
        ids = [row for row, own in enumerate(prompts.ids) if own in chosen]
        return PromptSet(tuple(prompts[row] for row in ids), name=prompts.name)

    def refusal_tokens(self) -> tuple[int, ...]:
        """Ids of the first tokens of this model's refusals."""
        return tuple(self._selection()["refusal_tokens"])

    def _selection(self) -> dict[str, Any]:
        """Refusal tokens, and the prompts that pass the filter."""
        path = self.folder / results.PROMPTS
        if self._kept is None and path.is_file():
            self._kept = read_kept(path)
        if self._kept is None:
            self.say("answering a few prompts to see how this model refuses")
            self._kept = keep_prompts(self.model, self.study, self.prompts)
            if typed := self._kept["typed_specials"]:
                named = ", ".join(f"{token} ({n})" for token, n in typed.items())
                self.say(f"special tokens typed inside prompts are read as tokens: {named}")
            write_text(path, json.dumps(self._kept, indent=1, sort_keys=True))
        return self._kept

    def directions(self) -> Directions:
        """Candidates at every layer and post-instruction position."""
        path = self.folder / results.DIRECTIONS
        if path.is_file():
            return Directions.load(path)
        train = {kind: self.kept("train", kind) for kind in ("harmful", "harmless")}
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
        return directions

    def scores(self, directions: Directions) -> xr.Dataset:
        """The sweep on the validation prompts."""
        path = self.folder / results.SCORES
        if path.is_file():
            return load_dataset(path, kind="sweep")
        harmful, harmless = (self.kept("validation", kind) for kind in ("harmful", "harmless"))
        self.say(
            f"sweeping {len(directions)} candidates on {len(harmful)} harmful and "
            f"{len(harmless)} harmless prompts"
        )
        scores = sweep_directions(
            self.model,
            directions,
            harmful=self._scored(harmful, "harmful"),
            harmless=self._scored(harmless, "harmless"),
            refusal_tokens=self.refusal_tokens(),
            confidence=self.study.confidence,
            seed=self.study.seed,
        )
        save_dataset(path, scores, kind="sweep")
        return scores

    def _scored(self, prompts: PromptSet, label: str) -> Tokens:
        """Validation prompts, up to where answers are scored."""
        if self.study.score_after == "prompt":
            return self.model.tokens(prompts, self.study.system)
        thoughts = self._selection()["thoughts"]["validation"][label]
        return tokens_after(self.model, self.study, prompts, thoughts)

    def direction(self, directions: Directions, choice: Choice) -> Directions:
        """The selected direction, saved on its own, and the table it was selected from."""
        chosen = directions.at(layer=choice.layer, position=choice.position)
        chosen.save(self.folder / results.DIRECTION)
        write_text(self.folder / results.CANDIDATES, choice.table.to_csv(index=False))
        return chosen

    def replies(self, direction: Directions) -> pd.DataFrame:
        """Test prompts answered under every condition, and judged."""
        path = self.folder / results.REPLIES
        if path.is_file():
            return read_replies(path)
        tests = {kind: parts["test"] for kind, parts in self.prompts.items()}
        n = sum(map(len, tests.values()))
        self.say(
            f"answering {n} test prompts plainly, with the direction ablated, added, and its "
            "projection set"
        )
        replies = answer_with_and_without(
            self.model,
            direction,
            tests,
            judge_method=self.study.judge,
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
        return mean_projection(acts, direction)

    def effects(self, direction: Directions, replies: pd.DataFrame) -> xr.Dataset:
        """Refusal rates by prompt set and condition, with binomial intervals."""
        path = self.folder / results.EFFECTS
        if path.is_file():
            return load_dataset(path, kind="effects")
        effects = refusal_rates(replies, self.study.confidence)
        effects.attrs |= {
            "model": self.model.name,
            "judge": self.study.judge,
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
        return effects

    def analyses(self, directions: Directions, direction: Directions) -> None:
        """Whatever the study asks for and the folder lacks; what cannot be made is said and noted.

        The main results stand by now, and no analysis takes them away: one that lacks what it needs
        is skipped for as long as the version of the package is the same, one that fails for any
        other reason is tried again by the next run.
        """
        material = self.material(directions, direction)
        for analysis in chosen_analyses(self.study.analyses):
            paths = {name: result_path(self.folder, name) for name in analysis.results}
            if not all(path.is_file() for path in paths.values()) and not self._settled(analysis):
                self.say(f"{analysis.name}: {analysis.what}")
                self._analyse(analysis, material, paths)

    def material(self, directions: Directions, direction: Directions) -> Material:
        """What the analyses work on, once the replies stand."""
        return Material(
            folder=self.folder,
            model=self.model,
            study=self.study,
            train={kind: self.kept("train", kind) for kind in ("harmful", "harmless")},
            test={kind: parts["test"] for kind, parts in self.prompts.items()},
            validation={kind: self.prompts[kind]["validation"] for kind in ("harmful", "harmless")},
            directions=directions,
            direction=direction,
            refusal_tokens=self.refusal_tokens(),
            replies=read_replies(self.folder / results.REPLIES),
            say=self.say,
        )

    def _analyse(self, analysis: Analysis, material: Material, paths: dict[str, Path]) -> None:
        """Makes one analysis and saves its results, or notes why there are none."""
        record = skipped_path(self.folder, analysis)
        try:
            found = analysis.compute(material)
        except StudyError as error:
            note = {"reason": str(error), "needs": analysis.needs, "again": False}
        # A broken file or a place that is not there is no property of the run: it can be mended.
        except WorkbenchError as error:
            note = {"reason": f"failed with {type(error).__name__}: {error}", "again": True}
        # A bug in one analysis must not cost the user the others; its traceback is kept.
        except Exception as error:
            note = {
                "reason": f"failed with {type(error).__name__}: {error}",
                "traceback": traceback.format_exc(),
                "again": True,
            }
        else:
            for name, dataset in found.results.items():
                save_dataset(paths[name], dataset, kind=name)
            if not found.reason:
                record.unlink(missing_ok=True)
                return
            note = {"reason": found.reason, "needs": analysis.needs, "again": False}
        note["version"] = __version__
        write_text(record, json.dumps(note, indent=1, sort_keys=True))
        self.say(f"{analysis.name} skipped: {note['reason']}")

    def _settled(self, analysis: Analysis) -> bool:
        """Whether it is known that this run lacks what an analysis needs.

        What another version of the package found lacking may suffice for this one.
        """
        record = skipped_path(self.folder, analysis)
        if not record.is_file():
            return False
        note = read_note(record)
        return note.version == __version__ and not note.again


def open_run(
    study: Study,
    out: str | Path | None = None,
    *,
    model: HookedModel | None = None,
    say: Say = lambda line: None,
) -> Stages:
    """Loads a study's prompts and model, and opens its folder; arguments as of `run_study`.

    Raises:
        StudyError: the folder holds another study.
        WorkbenchError: whatever bad prompts or models raise.
    """
    folder = Path(out) if out is not None else Path("runs") / Path(study.model).name
    prompts = split_prompts(study)  # before the model: a wrong path should not cost a download
    for label, notes in reading_notes(prompts).items():
        for note in notes:
            say(f"{label} prompts: {note}")
    say(f"loading {study.model}")
    if model is not None:
        check_model(model, study)
    else:
        model = load_model(
            study.model,
            device=study.device,
            dtype=study.dtype,
            revision=study.revision,
            chat_template=study.chat_template,
            thinking=study.thinking,
            date=study.date or recorded_day(folder),
        )
        model.batch_tokens = study.batch_tokens
    open_folder(folder, study, model, prompts)
    stages = Stages(folder, study, model, prompts, say)
    stages.verification()
    return stages
