"""The texts of a run's prompts, kept with its results: looking at it needs no source of them."""

import json
from pathlib import Path

from workbench.artifact import write_text
from workbench.errors import PromptError, StudyError
from workbench.intake.limits import shortened
from workbench.prompts.prompt import Prompt
from workbench.prompts.promptset import PromptSet
from workbench.study.names import TEXTS
from workbench.study.prompts import Split
from workbench.study.results import Run
from workbench.study.stored import read_prompt_texts


def write_texts(path: Path, split: Split) -> None:
    """Writes the prompts of a run, one a line."""
    rows = (
        {"part": part, "label": label, "id": own.id, "text": own.text, "category": own.category}
        for label, parts in split.items()
        for part, prompts in parts.items()
        for own in prompts
    )
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_texts(run: Run) -> Split:
    """The prompts of a run as they were when it was made; no source of prompts is read.

    Raises:
        StudyError: the run does not keep them, or the file does not hold them.
    """
    again = "Run the same study again, which writes it and leaves the results as they are."
    if not (run.folder / TEXTS).is_file():
        raise StudyError(f"the run in {run.folder} has no {TEXTS}. {again}")
    path = run.path(TEXTS)
    recorded = run.provenance["prompts"]
    found: dict[str, dict[str, list[Prompt]]] = {
        label: {part: [] for part in parts} for label, parts in recorded.items()
    }
    rows = read_prompt_texts(path, f"Delete it. {again}")
    try:
        for row in rows:
            own = Prompt(row["id"], row["text"], row["label"], row["category"])
            found[row["label"]][row["part"]].append(own)
        split = {
            label: {part: PromptSet(tuple(own), f"{label}:{part}") for part, own in parts.items()}
            for label, parts in found.items()
        }
    except (KeyError, PromptError) as error:
        raise StudyError(
            f"{path} is broken: {shortened(repr(error))} Delete it. {again}"
        ) from error
    for label, parts in split.items():
        for part, prompts in parts.items():
            if prompts.fingerprint != recorded[label][part]:
                raise StudyError(
                    f"{path} does not hold the {label} {part} prompts of this run. Delete it. "
                    f"{again}"
                )
    return split
