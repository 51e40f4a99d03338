"""Advice of the package in the words of its command line."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What stands in quotes is a name, a path or a prompt, and nothing of it is ours to change.
_QUOTED = r"""(?<!\w)'[^']*'(?!\w) | (?<!\w)"[^"]*"(?!\w)"""
_PATTERN = re.compile(
    rf"""{_QUOTED} |
    # A call is Python, and stays that.
    \w\([^()]*\) |
    # An argument as errors name it, with its value if it has one.
    (?<![^\s(])(?P<name>[a-z][a-z_]*)=(?!\[)(?:torch\.)?(?P<value>'[^']*'|"[^"]*"|-?\w[\w-]*|…)? |
    # A setting that a rule is about.
    ^(?P<subject>[a-z_]+)(?=\ must\ be\ ) |
    # A name of several words is no word of the language.
    (?<![\w./=-])(?P<bare>[a-z]+(?:_[a-z]+)+)(?![\w(=/-]|\.\w)""",
    re.VERBOSE,
)
_OWNER = re.compile(r"^(?:Study|load_model|verify_model|load_prompts): ")
_CALLS = re.compile(r" to load_(model|prompts)\b")
OTHER_NAMES = {"words": "refusal_words", "after": "score_after", "layer": "layers"}
"""Arguments that a command has only under another name, where it passes them on."""


def in_options(message: str, options: Mapping[str, str]) -> str:
    """A message's advice in the words of the command that it came from.

    Errors name the arguments of functions; where a command has an option for one, that is what its
    user can pass.

    Args:
        message: of an error, a warning or a note, on one line.
        options: the command's options, as of `options_of`.

    >>> in_options("Pass text_column=. Choose split='train'.", {"text_column": "--text-column"})
    "Pass --text-column. Choose split='train'."
    """

    def worded(found: re.Match[str]) -> str:
        name = found["name"] or found["subject"] or found["bare"] or ""
        if found["name"] and name not in options:
            name = OTHER_NAMES.get(name, name)
        switch = options.get(f"{name}={found['value']}")
        option = switch or options.get(name)
        if option is None:
            return found[0]
        return option if switch or not found["value"] else f"{option} {found['value']}"

    if not options:
        return message
    return _CALLS.sub("", _PATTERN.sub(worded, _OWNER.sub("", message)))


def options_of(parameters: Iterable[Any], typed: Sequence[str] = ()) -> dict[str, str]:
    """A command's options, as they are typed, by the name of their argument.

    A switch also stands under its name with a value, ``thinking=False``; under the name alone as it
    was typed.

    Args:
        parameters: of the command, as click has them.
        typed: the command line.
    """
    found: dict[str, str] = {}
    for own in parameters:
        option = own.opts[-1]
        if not option.startswith("--"):
            continue  # an argument without a name
        found[own.name] = option
        if not getattr(own, "is_flag", False):
            continue
        found[f"{own.name}=True"] = option
        for other in own.secondary_opts:
            found[f"{own.name}=False"] = other
            if other in typed:
                found[own.name] = other
    return found
