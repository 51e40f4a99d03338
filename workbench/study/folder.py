"""The folder of a run: opened for one study only, and checked against the model at hand."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workbench.artifact import environment, write_text
from workbench.errors import ArtifactError, StudyError
from workbench.models.hooked import HookedModel
from workbench.study import names
from workbench.study.ledger import (
    IDENTITY,
    Ledger,
    hangs_on,
    holds_run,
    result_files,
    study_record,
)
from workbench.study.occupied import is_unused
from workbench.study.prompts import Split, reading_notes
from workbench.study.settings import Study

_SHOWN = 3
"""Files that an error names."""


def open_folder(
    folder: Path,
    study: Study,
    model: HookedModel,
    prompts: Split,
    say: Callable[[str], None] = lambda line: None,
) -> Ledger:
    """Starts a run folder, or checks that the one that is there is this very study.

    The study is written down in the ledger first and then in ``study.json``, which is written again
    where it says something else.

    Returns:
        The run's ledger.

    Raises:
        StudyError: the folder holds another study, or something else than a run.
    """
    now = _record(study, model, prompts)
    ledger = _there(folder, say)
    if ledger is None:
        check_unused(folder)
        ledger = Ledger(folder, now)
    else:
        before = ledger.record
        _check_same(folder, before, now)
        kept = {own: before["provenance"].get(own, now["provenance"].get(own)) for own in _KEPT}
        now["provenance"] |= {own: value for own, value in kept.items() if value is not None}
        ledger.go_on_with(now)
    ledger.save()
    if not ledger.study_stands:
        write_text(folder / names.STUDY, ledger.study_text)
    return ledger


def check_unused(folder: Path) -> None:
    """Refuses a folder that holds anything but a run.

    Raises:
        StudyError: it does.
    """
    if not holds_run(folder) and not is_unused(folder):
        raise StudyError(f"{folder} is not empty and holds no run. Choose another out=.")


_KEPT = ("revision",)
"""Of the provenance: what the run's beginning says, whatever is found later."""


def _record(study: Study, model: HookedModel, prompts: Split) -> dict[str, Any]:
    """What is written down of a study: its settings, and what they mean here and now."""
    notes = reading_notes(prompts)
    provenance = {
        "weights": model.weights_fingerprint,
        "dtype": model.provenance["dtype"],
        "prompts": {
            kind: {part: own.fingerprint for part, own in parts.items()}
            for kind, parts in prompts.items()
        },
        **model.template.provenance,
        "revision": model.revision,
        **model.form,
        "environment": environment(),
        **({"reading": notes} if notes else {}),
    }
    return {"settings": json.loads(study.to_json()), "provenance": json.loads(_plain(provenance))}


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _there(folder: Path, say: Callable[[str], None]) -> Ledger | None:
    """The ledger of the run that is in a folder, or one that knows no result; None without a run.

    Raises:
        StudyError: neither the ledger nor ``study.json`` can be read.
    """
    try:
        ledger = Ledger.read(folder)
    except (StudyError, ArtifactError) as error:
        if not holds_run(folder):
            return None
        try:
            record = study_record(folder)
        except StudyError as other:
            raise StudyError(
                f"{error} And {other} Nothing says which study is in {folder}: choose another "
                "out=, or delete the folder."
            ) from other
        say(f"{error} What was made there is made again")
        return Ledger(folder, record)
    if not ledger.study_stands:
        say(f"{names.STUDY} is not what was written: it is written again, as the ledger has it")
    return ledger


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses another study than the one in the folder, as far as results hang on it.

    Raises:
        StudyError: it is another one; the message says what hangs on what differs.
    """
    there = result_files(folder)
    settings = asdict(Study(**before["settings"]))
    hanging: dict[str, list[str]] = {}
    for name, value in now["settings"].items():
        if value != settings[name] and name not in names.FREE:
            own = [each for each in there if hangs_on(each, name) and each not in names.SELECTED]
            if own or name not in names.UNTOUCHED_BY:
                hanging[name] = own
    mine, theirs = before["provenance"], now["provenance"]
    for name in IDENTITY:
        # Runs of earlier versions know of their template only.
        if (name in mine or name in _ALWAYS) and theirs.get(name) != mine.get(name):
            own = [each for each in there if hangs_on(each, name) and each not in names.SELECTED]
            if own or name not in names.UNTOUCHED_BY:
                hanging[name] = own
    if hanging:
        files = dict.fromkeys(each for own in hanging.values() for each in own)
        raise StudyError(
            f"{folder} holds another study: {', '.join(hanging)} "
            f"{'differ' if len(hanging) > 1 else 'differs'}. "
            + _about_the_dtype(mine, theirs)
            + _about_the_day(mine, theirs)
            + _hanging(list(files))
            + "Choose another out=, or delete the folder."
        )


_ALWAYS = ("weights", "prompts", "template")
"""Of the provenance: what every version wrote down."""


def _hanging(files: list[str]) -> str:
    """The sentence that names results."""
    if not files:
        return ""
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    verb = "hangs" if len(files) == 1 else "hang"
    return f"On that {verb} {', '.join(files[:_SHOWN])}{more}. "


def _about_the_dtype(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to do where the weights are of another type than they were in the run."""
    if before.get("dtype") in (None, now["dtype"]):
        return ""
    return (
        f"The run was made in {before['dtype']}, and the model at hand is in {now['dtype']}: pass "
        f"dtype={before['dtype']!r} where it is loaded. "
    )


def _about_the_day(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What to do where the chat template writes another day than it did in the run."""
    if now.get("date") is None or now["date"] == before.get("date"):
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
    return study_record(folder)["provenance"].get("date") if holds_run(folder) else None


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
    if model.adapter != study.adapter:
        raise StudyError(
            f"the study asks for adapter={study.adapter!r}, the model at hand was loaded with "
            f"{model.adapter!r}. Set adapter={model.adapter!r}, or let run_study load it."
        )
    for name, asked in (("thinking", study.thinking), ("date", study.date)):
        found = getattr(model.template, name)
        if name == "date" and asked is not None and found is None:
            raise StudyError(
                f"date={asked!r} does nothing: the chat template of {model.name} writes no day. "
                "Leave date= out."
            )
        if asked is not None and asked != found:
            raise StudyError(
                f"the study asks for {name}={asked!r}, the model at hand was loaded with "
                f"{found!r}. Pass {name}={asked!r} to load_model, or let run_study load it."
            )
