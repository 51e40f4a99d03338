"""The day that a chat template is told: the same one in every rendering of a model."""

import datetime
from typing import Any

from workbench.errors import ModelError

ASKS = "strftime_now"
"""The function by which Hugging Face tells a template the time."""
FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set clock = namespace(text=format) -%}"
    "{%- for code, value in workbench_clock -%}"
    "{%- set clock.text = clock.text | replace(code, value) -%}{%- endfor -%}"
    "{{ clock.text }}{%- endmacro %}\n"
)
"""Stands before a template that asks, and answers from ``workbench_clock`` (see `clock_at`).

Templates are only given plain data, no functions, so the answer is a macro. The line break at its
end is taken away by Hugging Face's own setting for blocks, and the template begins its own line.
"""

_CODES = (
    *"aAwdbBmyYHIpMSfzZjUWcxXGuVeFTDRhkls",
    *(f"-{code}" for code in "dmyHIMSj"),
)


def day(text: str) -> datetime.date:
    """A day from text such as ``2026-01-31``.

    Raises:
        ModelError: it is none.
    """
    try:
        found = datetime.date.fromisoformat(text)
    except (TypeError, ValueError):
        found = None
    if found is None or found.isoformat() != text:  # other ways to write a day are no other days
        raise ModelError(f"date must be a day such as 2026-01-31, found {text!r}.")
    return found


def today(tokenizer: Any) -> datetime.date:
    """The day that Hugging Face's own clock shows."""
    shown = tokenizer.apply_chat_template(
        [{"role": "user", "content": "the day"}],
        chat_template="{{ strftime_now('%Y-%m-%d') }}",
        tokenize=False,
    )
    return datetime.date.fromisoformat(shown)


def clock_at(date: datetime.date) -> list[list[str]]:
    """What each directive of ``strftime`` stands for at midnight of a day, in order."""
    moment = datetime.datetime.combine(date, datetime.time())
    pairs = [["%%", "\0"]]
    for code in _CODES:
        try:
            pairs.append([f"%{code}", moment.strftime(f"%{code}")])
        except ValueError:  # not every platform knows every directive
            continue
    return [*pairs, ["\0", "%"]]
