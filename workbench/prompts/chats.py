"""Conversations: which of their words are the prompt.

A prompt is one request, so of a conversation it is the **first turn of the user**: later turns
answer a reply that another model gave, and turns that are glued together are a request that nobody
made. What is not taken (later turns, a system prompt) is counted, never dropped without a word.
"""

import ast
import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from workbench.errors import PromptError

ROLES = ("role", "from", "speaker")
_CONTENTS = ("content", "value", "text")
_USER = {"user", "human", "prompter"}
_SYSTEM = {"system", "developer"}
_ASSISTANT = {"assistant", "gpt", "chatgpt", "bot", "model"}
_LOOKS_LIKE_TURNS = re.compile(r"""\s*\[\s*\{\s*['"](role|from|speaker|content|value)['"]\s*:""")


class Opening(NamedTuple):
    """What a conversation begins with.

    ``text`` is the user's first turn, which may turn out to be no text; ``n_turns`` the number of
    the user's turns; ``system`` whether there is a system prompt.
    """

    text: Any
    n_turns: int
    system: bool


def check_no_turns(column: str, values: Iterable[object]) -> None:
    """Refuses a table of which every row is one turn, the replies among them.

    Raises:
        PromptError: some values of a column of speakers are an assistant.
    """
    spoken = {str(value).strip().lower() for value in values}
    if spoken & _ASSISTANT:
        raise PromptError(
            f"every row is one turn of a conversation, replies too: {column} holds "
            f"{', '.join(sorted(spoken & _ASSISTANT))}. Keep the rows of the user's first turns, "
            "or put each conversation into one row."
        )


def is_turn(value: object) -> bool:
    """Whether a value is one turn of a conversation: who speaks, and what they say."""
    # What is said may be nothing: an assistant that calls a tool says null.
    return (
        isinstance(value, Mapping)
        and _key(value, ROLES) is not None
        and any(name in value for name in _CONTENTS)
    )


def conversation(value: object) -> list[Mapping[str, Any]] | None:
    """The turns that a cell holds, or None where it holds something else.

    Turns that were written out as text, in JSON or as Python prints them, are turns as well: so a
    table comes out of CSV.

    Raises:
        PromptError: a list of something else, or text that begins like turns and is none.
    """
    if isinstance(value, str) and _LOOKS_LIKE_TURNS.match(value):
        value = _parsed(value)
    if isinstance(value, Mapping) and isinstance(value.get("messages"), list | tuple):
        value = value["messages"]
    if hasattr(value, "tolist") and not isinstance(value, str):
        value = value.tolist()  # pyright: ignore[reportAttributeAccessIssue]
    if not isinstance(value, list | tuple):
        return None
    if not value or not all(map(is_turn, value)):
        raise PromptError(
            f"{reprlib.repr(value)} is not text, and no conversation either: expected turns with "
            "role and content, or from and value."
        )
    return list(value)


def opening(turns: Sequence[Mapping[str, Any]]) -> Opening:
    """What a conversation begins with.

    Raises:
        PromptError: the user says nothing in it, or shows something that is not text.

    >>> opening([{"from": "human", "value": "Bake bread"}, {"from": "gpt", "value": "Gladly."}])
    Opening(text='Bake bread', n_turns=1, system=False)
    """
    roles = [str(_value(turn, ROLES)).strip().lower() for turn in turns]
    own = [turn for turn, role in zip(turns, roles, strict=True) if role in _USER]
    if not own:
        raise PromptError(
            f"the conversation has no turn of the user (found {', '.join(dict.fromkeys(roles))}; "
            f"looked for {', '.join(sorted(_USER))})."
        )
    return Opening(_words(own[0]), len(own), any(role in _SYSTEM for role in roles))


def _words(turn: Mapping[str, Any]) -> Any:
    """What a turn says: its content, or the text parts of it, one below the other."""
    content: Any = _value(turn, _CONTENTS)
    if hasattr(content, "tolist") and not isinstance(content, str):
        content = content.tolist()
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, list | tuple):
        return content
    words = []
    for part in content:
        if isinstance(part, str):
            words.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            words.append(part["text"])
        else:
            kind = part.get("type", "part") if isinstance(part, Mapping) else type(part).__name__
            raise PromptError(
                f"the user's turn has a part that is not text ({kind}). Only text can be a prompt."
            )
    return "\n".join(words)


def _key(turn: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if turn.get(name) is not None), None)


def _value(turn: Mapping[str, Any], names: Sequence[str]) -> Any:
    key = _key(turn, names)
    return None if key is None else turn[key]


def _parsed(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    raise PromptError(
        f"{reprlib.repr(text)} begins like a conversation that was written out as text, and cannot "
        "be read as one. Save the data as .jsonl or .parquet, which keep lists."
    )
