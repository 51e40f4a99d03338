"""The transfer matrix: what each category's direction does to every category's refusals."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr
from jaxtyping import Bool

from workbench.activations import Activations
from workbench.analysis.inputs import own_categories, single_vectors
from workbench.analysis.selection.controls import check_random
from workbench.analysis.selection.edits import score_edits
from workbench.analysis.transfer.category_means import with_category_means, with_shape
from workbench.analysis.transfer.controls import controls_like_longest, with_controls
from workbench.arguments import checked
from workbench.directions.direction import Directions
from workbench.errors import AxisError, StudyError
from workbench.interventions import Ablate, Add, Intervention, hooks_of, intervene
from workbench.models.given import check_sides
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens, TokenSubset
from workbench.positions import position_axis
from workbench.progress import track
from workbench.prompts.inputs import as_prompt_set
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import Judge, judge_name
from workbench.scores.judges import judge as judge_replies
from workbench.scores.refusal import scored_tokens
from workbench.statistics.intervals import MEAN_INTERVAL

Mode = Literal["ablate", "add"]
Edits = Sequence[Intervention | None]
HARMFUL = "harmful"
HARMLESS = "harmless"
"""The column of the harmless prompts."""


@checked
def measure_transfer(
    model: HookedModel,
    directions: Directions | Sequence[Directions],
    prompts: Any,
    *,
    windows: int | Sequence[Sequence[int]] | None = None,
    modes: Sequence[Mode] = ("ablate", "add"),
    harmless: Any = None,
    own: Mapping[str, Collection[str]] | None = None,
    strength: float = 1.0,
    coefficient: float = 1.0,
    tokens: TokenSubset = "all",
    refusal_tokens: Sequence[int] | None = None,
    judge: Judge | None = "combined",
    max_new_tokens: int = 48,
    n_random: int = 0,
    activations: Activations | Sequence[Activations] | None = None,
    system: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Ablates and adds every direction, and measures refusal on every category.

    Two directions may point in different ways and still do the same: this is the causal side of a
    map of cosines. Every mode is measured on every category: ablating shows what a direction is
    needed for and, on harmless prompts, what it spoils; adding shows what it suffices for.

    Args:
        model: the model.
        directions: one vector per name, all at one layer and position; or several such sets, each
            at a layer and position of its own.
        prompts: prompts with the categories to measure, only those that the model refuses: of
            others there is no refusal to remove, and they pull every mean towards zero. A prompt
            set, or a data frame or data set with a column of categories; see `as_prompts`.
        windows: ablates also inside a window of layers only: a width, for every window of so many
            consecutive layers, or the layers of each window.
        modes: ``"ablate"``, everywhere, and ``"add"``, the raw vector at its own layer.
        harmless: prompts that the model answers, one more column named ``harmless``.
        own: the categories that each direction stands for; by default the one it is named after.
        strength: of the ablations.
        coefficient: of the additions, in units of each vector's length.
        tokens: which tokens the interventions touch.
        refusal_tokens: ids, best found on other prompts, such as training prompts, with
            `find_refusal_tokens`; by default found on these ones, which ``attrs`` say.
        judge: how replies are judged for the refusal rates; None writes no replies.
        max_new_tokens: longest reply.
        n_random: random vectors, by scores alone, as long as the longest of the directions: what
            any vector does to a category. At least 20: another one leaves the range of n in
            2/(n + 1) of cases, .095 of 20, which is also the least p.
        activations: per prompt, of one set of harmful and one of harmless prompts, at the places
            of the directions: with them also as many vectors drawn as activations vary, and as many
            directions of shuffled labels; see `control_directions`. One end of the latter is of
            as few prompts as the smallest group of categories that a direction stands for has
            among these.
        system: a system prompt for all of them.
        confidence: of all intervals.
        seed: of the bootstraps and of random vectors.

    Returns:
        Dataset over (name, category, mode): ``score``, the mean refusal score; ``effect``, its
        mean change, prompt by prompt; ``rate``, the judged refusal rate; each with ``…_interval``
        (bound), and ``plain_score`` and ``plain_rate`` beside them. ``window_score`` and
        ``window_effect`` over (name, category, window). All of them by prompt, too.
        ``order`` and ``block`` of directions and categories, by mode: see `profile_blocks`.
        ``asymmetry`` by mode, where each category has one direction: see `Asymmetry`. With random
        vectors: ``random_effect`` (control, category, mode), and ``outside`` and ``p_value``,
        two-sided by rank, of each effect among those of every kind; inside the range of one it is
        no finding, and of many effects some leave it by chance.

    Raises:
        AxisError: several vectors of one name, a vector that is zero or of another width, or
            windows or modes that are none.
        StudyError: a direction stands for a category that no prompt has, there is no such judge,
            fewer than 20 random vectors and not none, or activations that controls cannot be drawn
            from, or that nothing is drawn from.
    """
    check_random(n_random)
    if activations is not None and not n_random:
        raise StudyError("activations= are for controls: pass n_random=20 too, or leave them out.")
    vectors = single_vectors(directions)
    spans = _spans(model, windows)
    _check_modes(modes)
    if judge is not None:
        judge_replies([], judge=judge)  # an unknown judge is refused now, not after an hour
    prompts = as_prompt_set(prompts, "harmful")
    if harmless is not None:
        check_sides(prompts, harmless)
        harmless = as_prompt_set(harmless, HARMLESS, name=HARMLESS)
    asked, columns = _columns(prompts, harmless)
    stands_for = own_categories(vectors, set(prompts.categories), own)
    controls = controls_like_longest(
        vectors.values(), n_random, seed, activations, _smallest(activations, stands_for)
    )
    by_mode, of_controls = (
        [
            Ablate(vector, strength, tokens=tokens)
            if mode == "ablate"
            else Add(vector, coefficient=coefficient, tokens=tokens)
            for vector in some
            for mode in modes
        ]
        for some in (vectors.values(), controls)
    )
    by_window = [
        Ablate(each, strength, tokens=tokens, layers=span)
        for each in vectors.values()
        for span in spans
    ]
    hooks_of(model, *of_controls, *by_mode, *by_window)  # refuses what does not fit at once
    refusal_tokens, origin = scored_tokens(model, refusal_tokens, prompts, harmless, system)
    rows = model.tokens(asked, system)
    edits = [None, *of_controls, *by_mode, *by_window]
    plain, *changed = score_edits(model, rows, edits, tuple(refusal_tokens), "measuring transfer")
    by_control, changed = changed[: len(of_controls)], changed[len(of_controls) :]
    variables: dict[str, Any] = {
        "plain_score_by_prompt": ("prompt", plain),
        "score_by_prompt": _grid(changed[: len(by_mode)], len(vectors), "mode"),
    }
    if spans:
        in_window = changed[len(by_mode) :]
        variables["window_score_by_prompt"] = _grid(in_window, len(vectors), "window")
    if judge is not None:
        plain, *changed = _refused(
            model, rows, asked.texts, [None, *by_mode], judge, max_new_tokens
        )
        variables["plain_refused_by_prompt"] = ("prompt", plain)
        variables["refused_by_prompt"] = _grid(changed, len(vectors), "mode")
    by_prompt = xr.Dataset(
        variables,
        coords={
            **_coordinates(vectors, spans, columns),
            "mode": list(modes),
            "bound": ["low", "high"],
            "prompt": list(asked.ids),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "tokens": tokens,
            "strength": strength,
            "coefficient": coefficient,
            "judge": None if judge is None else judge_name(judge),
            "confidence": confidence,
            "interval": f"{MEAN_INTERVAL}; Wilson for rates",
            "seed": seed,
            "refusal_tokens": list(refusal_tokens),
            "refusal_tokens_from": origin,
            "refusal_token_texts": [model.tokenizer.decode([token]) for token in refusal_tokens],
            "provenance": {
                **model.provenance,
                "prompts": asked.fingerprint,
                "system": system,
                "directions": {name: dict(each.provenance) for name, each in vectors.items()},
            },
        },
    )
    categories = by_prompt["category"].values
    by_prompt["own"] = (
        ("name", "category"),
        np.array([[category in stands_for[name] for category in categories] for name in vectors]),
    )
    matrix = with_shape(with_category_means(by_prompt, confidence, seed))
    return with_controls(matrix, controls, by_control)


def _smallest(
    activations: Activations | Sequence[Activations] | None,
    stands_for: Mapping[str, Collection[str]],
) -> int | None:
    """The fewest harmful prompts that a direction was estimated from; None if none are known."""
    if activations is None:
        return None
    sets = [activations] if isinstance(activations, Activations) else list(activations)
    present = [
        category
        for each in sets
        for label, category in zip(each.labels, each.categories, strict=True)
        if label == HARMFUL
    ]
    counts = [sum(each in own for each in present) for own in stands_for.values()]
    return min(filter(None, counts), default=None)


def window_label(span: Sequence[int]) -> str:
    """The layers of a window for tables and axes.

    >>> window_label((3,)), window_label((3, 4, 5)), window_label((0, 7))
    ('3', '3..5', '0, 7')
    """
    consecutive = list(span) == list(range(span[0], span[0] + len(span)))
    return f"{span[0]}..{span[-1]}" if consecutive and len(span) > 1 else ", ".join(map(str, span))


def _columns(prompts: PromptSet, harmless: PromptSet | None) -> tuple[PromptSet, list[str]]:
    """All prompts, and the column that each belongs to."""
    if harmless is None:
        return prompts, list(prompts.categories)
    asked = prompts + harmless
    if len(asked) < len(prompts) + len(harmless) or HARMLESS in prompts.categories:
        raise StudyError(
            f"{prompts.name!r} and {harmless.name!r} overlap: a prompt is in both, or a category "
            f"is named {HARMLESS!r}. Pass harmless= prompts that are not among the others."
        )
    return asked, [*prompts.categories, *([HARMLESS] * len(harmless))]


def _coordinates(
    vectors: Mapping[str, Directions], spans: Sequence[tuple[int, ...]], columns: Sequence[str]
) -> dict[str, Any]:
    """Labels of everything but modes and prompts; categories in the order of their directions."""
    present = dict.fromkeys(columns)
    first = [name for name in vectors if name in present]
    labels: dict[str, Any] = {
        "name": list(vectors),
        "layer": ("name", [each.layers[0] for each in vectors.values()]),
        "position": ("name", position_axis([each.positions[0] for each in vectors.values()])),
        "category": list(dict.fromkeys([*first, *present])),
        "prompt_category": ("prompt", list(columns)),
    }
    if spans:
        labels["window"] = [window_label(span) for span in spans]
        labels["window_first"] = ("window", [span[0] for span in spans])
        labels["window_last"] = ("window", [span[-1] for span in spans])
    return labels


def _spans(
    model: HookedModel, windows: int | Sequence[Sequence[int]] | None
) -> list[tuple[int, ...]]:
    """The layers of every window, ascending."""
    if windows is None:
        return []
    n_layers = model.n_layers
    if isinstance(windows, int):
        if not 1 <= windows <= n_layers:
            raise AxisError(f"no window of {windows} layers in {n_layers}: expected 1..{n_layers}.")
        return [tuple(range(first, first + windows)) for first in range(n_layers - windows + 1)]
    spans = [tuple(sorted(span)) for span in windows]
    if not spans or not all(spans) or len({*spans}) < len(spans):
        raise AxisError("windows must hold at least one layer each, and each window once.")
    for span in spans:
        if len({*span}) < len(span):
            raise AxisError(f"a layer appears twice in the window {list(span)}.")
    return spans


def _check_modes(modes: Sequence[str]) -> None:
    known = {"ablate", "add"}
    if isinstance(modes, str) or not modes or not known >= {*modes} or len({*modes}) < len(modes):
        raise AxisError(f"modes are 'ablate' and 'add', each at most once, found {modes!r}.")


def _refused(
    model: HookedModel,
    rows: Tokens,
    texts: Sequence[str],
    edits: Edits,
    judge: Judge,
    max_new_tokens: int,
) -> Bool[np.ndarray, "edit prompt"]:
    """Whether each reply under each edit is judged refused."""
    refused = np.zeros((len(edits), len(rows)), dtype=bool)
    for index, edit in enumerate(track(edits, "answering under each edit", len(edits))):
        with intervene(model, *([] if edit is None else [edit])):
            replies = model.generate(rows, max_new_tokens=max_new_tokens)
        verdicts = judge_replies(replies, judge=judge, prompts=list(texts))
        refused[index] = [verdict == "refused" for verdict in verdicts]
    return refused


def _grid(
    values: Sequence[np.ndarray], n_directions: int, dim: str
) -> tuple[tuple[str, ...], np.ndarray]:
    """Rows that run over directions, and within each over ``dim``, as a labelled array."""
    stacked = np.stack(values)
    shaped = stacked.reshape(n_directions, len(values) // n_directions, -1)
    return ("name", dim, "prompt"), shaped
