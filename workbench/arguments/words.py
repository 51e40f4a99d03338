"""What a wrong argument is told: what was expected, what was found, and what to do."""

import contextlib
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from workbench.arguments.kinds import Misfit, Unfit, fitted
from workbench.errors import ArtifactError, AxisError, ModelError, StudyError, WorkbenchError

_VECTORS = "Make directions of it with wb.Directions.from_vector(vector, layer=…)."
_LOADED = "Load it first: wb.load_model(name)."
_WRAPPED = "Wrap it first: wb.load_model(model, tokenizer=tokenizer)."
_COLLECT = "Run wb.collect_activations(model, prompts) first."
_SWEEP = "Run wb.sweep_directions(model, directions, harmful=…, harmless=…) first."
_READ = "Read it first: wb.Directions.load(path), or wb.load_published(path).directions."
_TAKE_DIRECTION = "Pass its .direction (the chosen one) or its .directions (all candidates)."

_HINTS: dict[tuple[str, str], str] = {
    ("Activations", "Prompts"): _COLLECT,
    ("Activations", "Tensor"): "Collect them with wb.collect_activations(model, prompts).",
    ("Activations", "path"): "Read them first: wb.Activations.load(path).",
    ("Activations", "HookedModel"): _COLLECT,
    ("Directions", "Tensor"): _VECTORS,
    ("Directions", "path"): _READ,
    ("Directions", "Activations"): "Run wb.mean_difference(positive, negative) first.",
    ("Directions", "Prompts"): _COLLECT.replace(" first", ", then wb.mean_difference"),
    ("Directions", "Run"): _TAKE_DIRECTION,
    ("Directions", "Published"): "Pass its .directions.",
    ("Directions", "Choice"): "Pass directions.at(layer=choice.layer, position=choice.position).",
    ("Directions", "Intervention"): "Pass its .direction.",
    ("Directions", "HookedModel"): "The model comes first, where one is taken.",
    ("HookedModel", "path"): _LOADED,
    ("HookedModel", "network"): _WRAPPED,
    ("HookedModel", "Run"): "Load it: wb.load_model(run.study.model).",
    ("HookedModel", "None"): _LOADED,
    ("HookedModel", "Prompts"): "The model comes first, then the prompts.",
    ("Dataset", "Directions"): _SWEEP,
    ("Dataset", "DataArray"): "Pass the Dataset that it was taken from.",
    ("Dataset", "DataFrame"): "Pass the Dataset that the table was made from.",
    ("Dataset", "Run"): "Pass one of its results: run.scores, run.effects or run.results[name].",
    ("Dataset", "Choice"): "Pass the scores that were chosen from.",
    ("Dataset", "Published"): "Pass its .scores.",
    ("Dataset", "path"): "Load the run, wb.load_run(folder), and pass one of its results.",
    ("DataFrame", "Run"): "Pass its .replies.",
    ("DataFrame", "Dataset"): "Pass the table of replies, such as run.replies.",
    ("DataFrame", "path"): "Load the run, wb.load_run(folder), and pass its .replies.",
    ("Study", "path"): "Pass wb.Study(model=…).",
    ("Study", "Run"): "Pass its .study.",
    ("Study", "HookedModel"): "Pass wb.Study(), and the model as model=.",
    ("Run", "path"): "Load it first: wb.load_run(folder).",
    ("Run", "Study"): "Run it first: wb.run_study(study).",
    ("Intervention", "Directions"): "Say what to do with them: wb.Ablate(direction), or wb.Add.",
    ("Intervention", "Tensor"): "Pass wb.Ablate(wb.Directions.from_vector(vector, layer=…)).",
    ("path", "Directions"): "Directions are used as they are; nothing is read.",
    ("path", "Run"): "Pass its .folder.",
    ("Figure", "Dataset"): "Draw it first, with one of wb.figures.",
}

_INTERVENTIONS = ("Ablate", "Add", "SetProjection", "PatchHeads")
_TRAITS = ("Prompt", "PromptSet", "Tokens")

_CALLED = {"over": "axis {!r} to compare", "tokens": "token subset {!r}"}
"""What an argument with a few choices is called, where that is not its name."""

_CLASSES: tuple[tuple[tuple[str, ...], type[WorkbenchError]], ...] = (
    (("HookedModel",), ModelError),
    (("Directions", "Activations", "Tensor", "Intervention"), AxisError),
    (("path",), ArtifactError),
)
_AXES = (
    "layer",
    "layers",
    "position",
    "positions",
    "site",
    "tokens",
    "heads",
    "over",
    "by",
    "modes",
    "axes",
)


def complaint(
    owner: str, name: str, value: Any, kind: Any, error: Misfit | Unfit
) -> WorkbenchError:
    """The error for an argument that is not what it should be."""
    wanted = _names(kind)
    made = next((own for names, own in _CLASSES if wanted and wanted[0] in names), StudyError)
    if name in _AXES:
        made = AxisError
    if isinstance(error, Unfit):
        return made(f"{owner}: {error}")
    choices = _choices(kind)
    if choices and isinstance(value, str):
        what = _CALLED.get(name, name + " {!r}").format(value)
        text = f"{owner}: no {what}: {', '.join(choices)}. {meant(value, choices)}"
        return AxisError(text.strip())
    verb = "expected" if name.startswith("*") else f"{name} must be"
    text = f"{owner}: {verb} {expected(kind)}, found {found(value)}."
    return made(f"{text} {_hint(name, value, kind, wanted)}".strip())


def expected(kind: Any) -> str:
    """What an annotation asks for, in words."""
    kinds = [each for each in _alternatives(kind) if each not in (None, NoneType)]
    names = _names(kind)
    if "path" in names:
        words = ["a path", *(_article(each) for each in names if each not in ("path", "str"))]
    elif set(names) == {"Intervention"}:
        words = ["Ablate, Add, SetProjection or PatchHeads"]
    else:
        words = list(dict.fromkeys(_word(each) for each in kinds))
    return " or ".join(words)


def found(value: Any) -> str:
    """What was passed, in words."""
    shape = getattr(value, "shape", None)
    name = type(value).__name__
    if isinstance(shape, tuple):
        return f"{_article(name)} of shape {tuple(shape)}"
    if value is None or isinstance(value, str | int | float | Path):
        return _shown(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, list | tuple) and value:
        inside = sorted({type(each).__name__ for each in value})
        return f"{_article(name)} of {' and '.join(inside[:3])}"
    return _article(name)


def _hint(name: str, value: Any, kind: Any, wanted: list[str]) -> str:
    is_one = _shape_of(value)
    for each in wanted:
        if each == "Prompts":
            continue
        if (hint := _HINTS.get((each, is_one))) is not None:
            return (
                hint.replace("load_model(name)", f"load_model({_shown(value)})")
                if (is_one == "path")
                else hint
            )
    kinds = _alternatives(kind)
    if isinstance(value, str) and int in kinds and value.strip().lstrip("-").isdigit():
        return f"Pass {name}={value.strip()}."
    if isinstance(value, float) and int in kinds and value.is_integer():
        return f"Pass {name}={int(value)}."
    # One where several are wanted, if it is one of them.
    for several in filter(_is_several, kinds):
        with contextlib.suppress(Misfit, Unfit):
            fitted([value], several)
            return f"Pass {name}=[{_shown(value)}]."
    return ""


def _choices(kind: Any) -> list[str]:
    """The words of which an argument is one, if it is."""
    words = [get_args(own) for own in _alternatives(kind) if get_origin(own) is Literal]
    return [each for own in words for each in own]


def meant(value: str, choices: Sequence[str]) -> str:
    """What a word that is none of the choices was probably meant to be."""
    if value == "resid_post":
        return "The output of block l is resid_pre of layer l + 1."
    near = difflib.get_close_matches(value.lower(), choices, 1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _alternatives(kind: Any) -> list[Any]:
    if get_origin(kind) in (Union, UnionType):
        return [each for own in get_args(kind) for each in _alternatives(own)]
    return [kind]


def _names(kind: Any) -> list[str]:
    """The kinds of things that an annotation asks for, as the table of hints calls them."""
    found: list[str] = []
    alternatives = _alternatives(kind)
    for each in alternatives:
        inner = get_args(each)
        if _is_several(each) and inner:
            found += _names(inner[0])
        elif (each is str and Path in alternatives) or each is Path:
            found.append("path")
        elif hasattr(each, "array_type"):
            found.append("Tensor")
        elif isinstance(each, type) and each is not NoneType:
            own = each.__name__
            found.append("Intervention" if own in _INTERVENTIONS else own)
    return list(dict.fromkeys(found))


def _shape_of(value: Any) -> str:
    """What a value is, as the table of hints calls it."""
    names = [each.__name__ for each in type(value).__mro__]
    own = names[0]
    if own in _TRAITS:
        return "Prompts"
    if own in _INTERVENTIONS:
        return "Intervention"
    if isinstance(value, str | Path):
        return "path"
    if value is None:
        return "None"
    if own == "TransformerBridge" or ("Module" in names and hasattr(value, "config")):
        return "network"
    if own in ("Tensor", "Parameter", "ndarray") or (
        isinstance(value, list) and value and isinstance(value[0], float)
    ):
        return "Tensor"
    return own


def _is_several(kind: Any) -> bool:
    origin = get_origin(kind)
    return (isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset)) or (
        getattr(origin, "__name__", "") in ("Collection", "Iterable")
    )


def _word(kind: Any) -> str:
    """One alternative, in words."""
    plain = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
    if kind in plain:
        return plain[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inner))
    if _is_several(kind):
        if origin is tuple and inner[-1:] != (...,):
            return f"{len(inner)} values ({', '.join(_word(each) for each in inner)})"
        return _several(inner[0]) if inner else "several values"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a dict"
    if hasattr(kind, "array_type"):
        axes = ", ".join(kind.dim_str.split())
        return f"{_article(kind.array_type.__name__)} with the axes ({axes})"
    own = getattr(origin or kind, "__name__", str(kind)).removesuffix("Like")
    if own == "Callable":
        return "a function"
    # These are plural already.
    return own if own in ("Activations", "Directions") else _article(own)


def _several(kind: Any) -> str:
    """Several of a kind, in words."""
    if get_origin(kind) is tuple:
        return "pairs of " + _several(get_args(kind)[0])
    plural = {int: "whole numbers", float: "numbers", str: "a list of strings"}
    return plural.get(kind) or f"a list of {expected(kind)}"


def _article(name: str) -> str:
    if name in ("Activations", "Directions", "Tokens"):
        return name
    return f"an {name}" if name[:1] in "AEIOUaeio" or name[:2] == "nd" else f"a {name}"


def _shown(value: Any) -> str:
    text = repr(value if not isinstance(value, Path) else str(value))
    return text if len(text) <= 60 else f"{text[:56]}…{text[-1]}"
