"""JSON, checked against types before anything is made of it.

The check is that of pydantic, which comes with the command line's library anyway: it reads the
annotations of the dataclasses and dicts that are there, and names the place of what does not fit.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from workbench.errors import ArtifactError, WorkbenchError
from workbench.intake.limits import check_elements, read_bytes
from workbench.intake.parsing import parsing


def read_text(path: Path, error: type[WorkbenchError] = ArtifactError) -> str:
    """The text of a regular file in UTF-8.

    Raises:
        WorkbenchError: of the given class: see `regular_file`; or it is not UTF-8.
    """
    content = read_bytes(path, error)
    with parsing(path, "text in UTF-8", error):
        return content.decode("utf-8")


def parsed_json(text: str, path: Path | str, error: type[WorkbenchError] = ArtifactError) -> Any:
    """What JSON text holds, once its number of values is known to be bearable.

    Raises:
        WorkbenchError: of the given class: no JSON, nested too deep, or too many values.
    """
    check_json(text, path, error)
    with parsing(path, "JSON", error):
        return json.loads(text)


def check_json(text: str, path: Path | str, error: type[WorkbenchError] = ArtifactError) -> None:
    """Refuses JSON of more values than are allowed; marks inside of texts count as well.

    Raises:
        WorkbenchError: of the given class.
    """
    check_elements(path, sum(map(text.count, ",[{")), error, "values")


def read_record(
    path: Path, kind: Any, error: type[WorkbenchError] = ArtifactError, advice: str = ""
) -> Any:
    """What a JSON file holds, made into a type, such as a dataclass.

    Raises:
        WorkbenchError: of the given class: see `read_text`; no JSON; or not of that type, with the
            place that is not.
    """
    return as_record(read_text(path, error), path, kind, error, advice)


def read_checked(
    path: Path, kind: Any, error: type[WorkbenchError] = ArtifactError, advice: str = ""
) -> Any:
    """What a JSON file holds, as it stands there, once it is known to be of a type.

    Keys that the type does not name are kept.

    Raises:
        WorkbenchError: as `read_record`.
    """
    text = read_text(path, error)
    as_record(text, path, kind, error, advice)
    return json.loads(text)


def read_lines(
    path: Path, kind: Any, error: type[WorkbenchError] = ArtifactError, advice: str = ""
) -> list[Any]:
    """What each line of a file holds, as it stands there, once it is known to be of a type.

    Raises:
        WorkbenchError: as `read_record`, with the number of the line; or too many lines.
    """
    # Not splitlines(): a text may hold any Unicode line separator.
    text = read_text(path, error)
    check_elements(path, text.count("\n"), error, "lines")
    lines = [line for line in text.split("\n") if line]
    for number, line in enumerate(lines, start=1):
        as_record(line, f"{path}, line {number},", kind, error, advice)
    return [json.loads(line) for line in lines]


def as_record(
    text: str,
    path: Path | str,
    kind: Any,
    error: type[WorkbenchError] = ArtifactError,
    advice: str = "",
) -> Any:
    """As `read_record`, of text that was read already."""
    from pydantic import ValidationError

    check_json(text, path, error)
    end = f" {advice}" if advice else ""
    with parsing(path, "JSON", error, advice):
        try:
            return _adapter(kind).validate_json(text, strict=True)
        except ValidationError as cause:
            raise error(f"{path} is broken: {_first(cause)}{end}") from cause


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _first(cause: Any) -> str:
    """The first thing that does not fit, with its place."""
    found = cause.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, found["loc"]))[:200]
    if found["type"] == "missing":
        return f"it has no {place}."
    shown = "" if found["type"] == "json_invalid" else f", found {_shown(found)}"
    return f"{place}{': ' if place else ''}{found['msg'][:200]}{shown}."


def _shown(found: Any) -> str:
    value = found["input"]
    if isinstance(value, dict | list):
        return f"a {type(value).__name__}"
    return repr(value)[:80]
