"""Judges that a user brings as a function."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import StudyError
from workbench.scores.verdicts import VERDICTS, Verdict


@dataclass(frozen=True)
class OwnJudge:
    """A function as a judge: what it says is checked, and its name stands in results."""

    name: str
    function: Callable[..., Any]
    takes_prompts: bool

    def __call__(self, answers: Sequence[str], prompts: Sequence[str]) -> list[Verdict]:
        """The function's verdicts; it is not called for no replies.

        Raises:
            StudyError: not as many verdicts as replies, or what is none of the four.
        """
        if not len(answers):
            return []
        given = (list(answers), list(prompts)) if self.takes_prompts else (list(answers),)
        said = self.function(*given)
        if isinstance(said, str) or not hasattr(said, "__iter__"):
            raise StudyError(
                f"the judge {self.name} gave {said!r:.80}: expected a list with one verdict per "
                f"reply ({', '.join(VERDICTS)})."
            )
        found = list(said)
        if len(found) != len(answers):
            raise StudyError(
                f"the judge {self.name} gave {len(found)} verdicts for {len(answers)} replies: "
                "expected one for each."
            )
        for each in found:
            if not isinstance(each, str) or each not in VERDICTS:
                raise StudyError(
                    f"the judge {self.name} said {each!r:.80}: expected one of "
                    f"{', '.join(VERDICTS)}."
                )
        return [VERDICTS[VERDICTS.index(each)] for each in found]


def judge_of_own(function: Callable[..., Any]) -> OwnJudge:
    """A function as a judge.

    It is named by its attribute ``name``, or else by its ``__name__``. It gets the replies, and the
    prompts too if it takes a second argument without a default, or one that is called ``prompts``.

    Raises:
        StudyError: it has no name that says anything, as a lambda has none.
    """
    name = getattr(function, "name", None)
    name = getattr(function, "__name__", None) if name is None else name
    if not isinstance(name, str) or not name.strip() or name == "<lambda>":
        raise StudyError(
            "this judge has no name, which results record beside their rates. Write it with def, "
            "or give it one: judge.name = 'my judge 1'."
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return OwnJudge(name, function, False)
    by_place = [each for each in parameters if each.kind in (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    )]  # fmt: skip
    second = by_place[1:2]
    takes = any(each.default is each.empty or each.name == "prompts" for each in second)
    takes = takes or any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters)
    return OwnJudge(name, function, takes)
