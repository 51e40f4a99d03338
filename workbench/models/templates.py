"""Which chat template is meant: Jinja text, a file of it, or one of a tokenizer's own."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import ModelError
from workbench.intake.limits import lies_there
from workbench.intake.records import read_text

OWN = "this model's chat template"
"""What a tokenizer's own template is called in errors."""


def template_text(chat_template: str | Path | None) -> str | None:
    """Jinja text from text or from a file; one bare word is the name of a tokenizer's own."""
    if chat_template is None:
        return None
    if not str(chat_template).strip():
        raise ModelError("chat_template is empty: pass Jinja text, a file, or the name of one.")
    if re.fullmatch(r"[\w-]+", str(chat_template)) and not lies_there(Path(chat_template)):
        return str(chat_template)
    if isinstance(chat_template, Path) or "{" not in chat_template:
        try:
            return read_text(Path(chat_template), ModelError)
        except ModelError as error:
            raise ModelError(f"cannot read the chat template: {error}") from error
    return chat_template


def template_origin(chat_template: str | Path | None) -> str:
    """What a template is called in an error."""
    if chat_template is None:
        return OWN
    text = str(chat_template)
    if "{" in text or "\n" in text:
        return "the chat template that was given"
    return f"the chat template {text!r}"


def chosen_template(own: Any, given: str | None) -> str | None:
    """The template's text: the one given, the named one, or the tokenizer's own."""
    named: Mapping[str, str] = {}
    text: str | None = None
    if isinstance(own, Mapping):
        named = own
    elif isinstance(own, list | tuple):
        named = {each["name"]: each["template"] for each in own}
    else:
        text = own or None
    if given is not None and ("{" in given or "\n" in given):
        return given
    if given is None and not named:
        return text
    wanted = "default" if given is None else given
    if wanted in named:
        return named[wanted]
    names = ", ".join(sorted(named))
    if given is not None:
        raise ModelError(
            f"no chat template {given!r}: "
            + (f"this tokenizer has {names}." if named else "this tokenizer names none.")
            + " Pass one of its names, Jinja text or a file."
        )
    raise ModelError(
        f"this tokenizer has several chat templates and none called default: {names}. Pass the "
        f"name of one, such as chat_template={min(named)!r}."
    )
