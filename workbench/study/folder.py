"""The folder of a run: opened for one study only, and checked against the model at hand."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.artifact import environment, write_text
from workbench.errors import StudyError
from workbench.models.hooked import HookedModel
from workbench.study import results
from workbench.study.prompts import Split, reading_notes
from workbench.study.results import read_study
from workbench.study.settings import Study

_FREE_UNTIL = {
    "device": None,
    "batch_tokens": None,
    "max_bytes": None,
    "max_rows": None,
    "top_k": None,
    "analyses": None,
    "refusal_words": results.PROMPTS,
    "kl_cap": results.REPLIES,
    "induce_floor": results.REPLIES,
    "skip_last": results.REPLIES,
}
"""Settings that may change while the first result that hangs on them is not there yet."""


def open_folder(folder: Path, study: Study, model: HookedModel, prompts: Split) -> None:
    """Starts a run folder, or checks that the one that is there is this very study."""
    identity = {
        "weights": model.weights_fingerprint,
        "prompts": {
            kind: {part: own.fingerprint for part, own in parts.items()}
            for kind, parts in prompts.items()
        },
    }
    prompted = model.template.provenance
    path = folder / results.STUDY
    if path.is_file():
        before, provenance = read_study(folder)
        changed = [
            name
            for name, value in asdict(study).items()
            if value != asdict(before)[name] and not _may_change(folder, name)
        ] + [name for name, value in identity.items() if value != provenance.get(name)]
        # Runs of earlier versions know of their template only.
        changed += [
            name
            for name, value in prompted.items()
            if (name == "template" or name in provenance) and value != provenance.get(name)
        ]
        if changed:
            raise StudyError(
                f"{folder} holds another study: {', '.join(changed)} differ. "
                + _about_the_day(provenance, prompted)
                + "Choose another out=, or delete the folder."
            )
        provenance = {**provenance, "environment": environment()}
        record = {"settings": json.loads(study.to_json()), "provenance": provenance}
        write_text(path, json.dumps(record, indent=2, sort_keys=True))
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise StudyError(f"{folder} is not empty and holds no run. Choose another out=.")
    record = {
        "settings": json.loads(study.to_json()),
        "provenance": {
            **identity,
            **prompted,
            "revision": model.revision,
            "environment": environment(),
            **({"reading": notes} if (notes := reading_notes(prompts)) else {}),
        },
    }
    write_text(path, json.dumps(record, indent=2, sort_keys=True))


def _about_the_day(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to do where the chat template writes another day than it did in the run."""
    if now["date"] is None or now["date"] == before.get("date"):
        return ""
    if before.get("date") is None:
        return (
            "The chat template writes the day, and this run does not know which one it was made "
            "with. "
        )
    return (
        f"The chat template writes the day, {before['date']} in the run and {now['date']} in the "
        f"model at hand: load it with date={before['date']!r}, or let run_study load it. "
    )


def recorded_day(folder: Path) -> str | None:
    """The day that the chat template wrote in the run of a folder, where there is one.

    Raises:
        StudyError: the folder's study cannot be read.
    """
    return read_study(folder)[1].get("date") if (folder / results.STUDY).is_file() else None


def _may_change(folder: Path, name: str) -> bool:
    """Whether no result in the folder hangs on a setting yet."""
    if name not in _FREE_UNTIL:
        return False
    result = _FREE_UNTIL[name]
    return result is None or not (folder / result).is_file()


def check_model(model: HookedModel, study: Study) -> None:
    """Refuses a loaded model that is not the one the study describes."""
    given = [
        name
        for name in ("device", "dtype", "revision", "chat_template")
        if getattr(study, name) is not None
    ]
    if model.name != study.model or given:
        raise StudyError(
            f"the study is about {study.model!r}"
            + (f" with {', '.join(given)}" if given else "")
            + f", the model at hand is {model.name!r} as it was loaded. Set model={model.name!r} "
            "and leave loading settings out, or let run_study load it."
        )
    for name, asked in (("thinking", study.thinking), ("date", study.date)):
        found = getattr(model.template, name)
        if asked is not None and asked != found and not (name == "date" and found is None):
            raise StudyError(
                f"the study asks for {name}={asked!r}, the model at hand was loaded with "
                f"{found!r}. Pass {name}={asked!r} to load_model, or let run_study load it."
            )
