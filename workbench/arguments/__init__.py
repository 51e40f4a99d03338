"""Arguments are checked where they are passed, against the annotations that say what they are.

`checked` wraps a public function, `check_fields` stands in the ``__post_init__`` of a record. What
does not fit is an error of the workbench that says what was expected, what was found and what to
do; what means the same is turned into what was expected, so that a layer out of a NumPy array or an
xarray coordinate is an ``int`` and an array of them a tuple. Prompts are not checked here: they
have their own reader, which takes many forms.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from functools import cache, wraps
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar, get_type_hints

from workbench.arguments.kinds import Misfit, Unfit, fitted, ranged
from workbench.arguments.words import complaint

P = ParamSpec("P")
R = TypeVar("R")

PROMPTS = frozenset(
    {"prompts", "harmful", "harmless", "borderline", "source", "target", "judged", "prompt_sets"}
)
"""Arguments that hold prompts, unless they are annotated as text: the name of a source."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Checks the arguments of every call.

    >>> @checked
    ... def halved(layer: int) -> float:
    ...     return layer / 2
    >>> halved("5")
    Traceback (most recent call last):
    workbench.errors.AxisError: halved: layer must be a whole number, found '5'. Pass layer=5.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        signature = _signature(function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # Python's own error names the function
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            kind = parameter.annotation
            # A default is ours; whether it is the same object tells it from what was passed.
            if value is parameter.default or name in PROMPTS or kind is inspect.Parameter.empty:
                continue
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                fit = tuple(_fit(function.__name__, f"*{name}", each, kind) for each in value)
            else:
                fit = _fit(function.__name__, name, value, kind)
            bound.arguments[name] = fit
        return function(*bound.args, **bound.kwargs)

    return call


def check_fields(record: Any) -> None:
    """Checks the fields of a frozen record that is being made, and turns them into their type."""
    owner, hints = type(record).__name__, _hints(type(record))
    for field in fields(record):
        value = getattr(record, field.name)
        of_prompts = field.name in PROMPTS and hints[field.name] is not str
        if value is field.default or of_prompts:
            continue
        fit = _fit(owner, field.name, value, hints[field.name], of_record=True)
        if fit is not value:
            object.__setattr__(record, field.name, fit)


def _fit(owner: str, name: str, value: Any, kind: Any, of_record: bool = False) -> Any:
    try:
        return ranged(name, fitted(value, kind), of_record)
    except (Misfit, Unfit) as error:
        raise complaint(owner, name, value, kind, error) from None


@cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature with annotations as types, wherever they can be found."""
    signature = inspect.signature(function)
    known = _hints(inspect.unwrap(function))
    return signature.replace(
        parameters=[
            each.replace(annotation=known.get(name, each.annotation))
            for name, each in signature.parameters.items()
        ]
    )


@cache
def _hints(owner: Any) -> dict[str, Any]:
    if isinstance(owner, type):
        return get_type_hints(owner)
    # What a function gives may be named for type checkers alone.
    plain = {name: kind for name, kind in owner.__annotations__.items() if name != "return"}
    return get_type_hints(SimpleNamespace(__annotations__=plain), owner.__globals__)
