"""The smallest set of heads that, patched together, turns a model's replies."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
import xarray as xr

from workbench import screen
from workbench.analysis.heads.metric import (
    Aim,
    check_positions,
    refusal_metric,
    refusal_tokens_of,
)
from workbench.analysis.heads.patches import read_source
from workbench.analysis.heads.search import Heads, HeadSearch, turned
from workbench.analysis.inputs import prompt_ids, prompts_provenance
from workbench.arguments import checked
from workbench.errors import AxisError, StudyError
from workbench.labels import head_labels
from workbench.models.forwards.packed import Method
from workbench.models.given import given_prompts
from workbench.models.hooked import HookedModel, Prompts
from workbench.models.sites import Place
from workbench.models.tokens import Tokens
from workbench.prompts.promptset import PromptSet
from workbench.scores.judges import Judge, judge_name
from workbench.scores.judges import judge as judge_replies
from workbench.statistics.intervals import MEAN_INTERVAL, binomial_interval, bootstrap_interval

_TOLERANCE = {torch.float32: 1e-2, torch.float64: 1e-2}
_COARSE = 0.5
"""Nats by which the search may differ from the joint patch, for these and for 16-bit types."""


@checked
def find_minimal_head_set(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    *,
    threshold: float = 0.9,
    candidates: Sequence[tuple[int, int]] | None = None,
    max_heads: int = 8,
    n_random: int = 20,
    positions: Sequence[int] = (-1,),
    aim: Aim = "induce",
    refusal_tokens: Sequence[int] | None = None,
    judge: Judge = "combined",
    max_new_tokens: int = 48,
    method: Method = "auto",
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
    judged: Prompts | None = None,
) -> xr.Dataset:
    """Adds one head at a time to a joint patch until enough replies turn.

    Each step patches every remaining head together with those chosen before and keeps the one that
    moves the mean refusal score of the target most; then the model answers the judged prompts under
    the joint patch and the replies are judged. Greedy: a smaller set may exist. What is reported of
    a set is always measured with that whole set patched; the sum of its heads' single effects
    stands beside it.

    Without ``judged`` the heads are judged on the prompts that they were chosen on. That flatters
    them, the more so the fewer prompts there are, while random sets were chosen on none: pass
    prompts that the search does not see where the curve is to be compared with theirs. Which size
    is enough is still read off the judged replies, so the last rate itself was looked at once.

    Args:
        model: the model.
        source: prompts whose mean ``z`` is written: to induce refusal, harmful ones that the model
            refuses. Those that it answers only dilute the mean, and no set turns the replies.
        target: prompts on which heads are chosen: to induce refusal, harmless ones that it answers.
        threshold: share of the replies to turn: refused, when inducing; not refused, when
            suppressing.
        candidates: (layer, head) pairs to choose from; all heads by default.
        max_heads: when to give up.
        n_random: random sets of the same size, drawn from the same candidates, to compare with.
        positions: negative; all of them are patched, in the prompt only.
        aim: ``"induce"``: the source is refused and the target answered; ``"suppress"``: the
            other way round.
        refusal_tokens: ids, best found on other prompts, such as training prompts, with
            `find_refusal_tokens`; by default found on these ones, which ``attrs`` say.
        judge: how replies are judged.
        max_new_tokens: longest reply.
        method: of the search; see `patch_heads`.
        confidence: of all intervals.
        seed: of the bootstraps and of the random sets.
        system: a system prompt for all of them.
        judged: prompts on which sets are scored and answered; by default the target.

    Returns:
        Dataset over ``size``, from 0, no patch, on the judged prompts: ``score`` and ``rate`` with
        ``…_interval`` (bound), ``score_by_prompt`` and ``refused_by_prompt`` (prompt), ``effect``,
        the change of the mean score, and ``sum_of_singles``, what the single effects add up to;
        ``layer`` and ``head``, which one was added; ``random_score`` (size, draw) and
        ``random_rate`` (draw) of random sets, rates of the final size only, since every other one
        would be as many replies again. In ``attrs``:
        ``heads``, the set; ``reached``, whether it reached the threshold; ``held_out``, whether it
        was judged on other prompts than it was chosen on; ``largest_difference`` of scores between
        the packed forwards of the search and the joint patch.

    Raises:
        AxisError: a head or position that is not there, or a choice that is none.
        StudyError: a threshold or numbers that make no sense, no such judge, or judged prompts of
            which some are targets.
    """
    check_search(aim, threshold, max_heads, n_random, judge)
    layers = model.layers_with("z")
    everything = [(layer, head) for layer in layers for head in range(model.n_heads)]
    pool = _candidates(candidates, everything)
    judged = None if judged is None else given_prompts(judged, "judged")
    rows, source_rows = model.tokens(target, system), model.tokens(source, system)
    judged_rows = rows if judged is None else model.tokens(judged, system)
    if judged is not None:
        _check_held_out(rows, judged_rows)
    refusal_tokens, origin = refusal_tokens_of(model, source, target, aim, system, refusal_tokens)
    metric = refusal_metric(model, refusal_tokens, origin)
    for each in (rows, judged_rows):
        check_positions(source_rows, each, [tuple(positions)], metric)
    places: list[Place] = [("z", layer) for layer in layers]
    read = read_source(model, source_rows, places, tuple(positions), metric)
    asked = given_prompts(target) if judged is None else judged
    texts = None if isinstance(asked, Tokens) else asked.texts
    search = HeadSearch(
        model, rows, judged_rows, read, metric, method, judge, max_new_tokens, texts
    )
    chosen, curve = search.grow(pool, aim, threshold, max_heads)
    gap = search.gap(chosen, curve["score"])
    if gap > _TOLERANCE.get(model.dtype, _COARSE):
        screen.warn(
            f"scores of the search and of the joint patches differ by up to {gap:.2g} nats on "
            f"{model.name}. What is reported is the joint patch; choose heads with method='plain' "
            "if candidates are as close as that.",
            stacklevel=2,
        )
    random_sets = _random_sets(pool, len(chosen), n_random, seed)
    variables = _curve(curve, search.singles(chosen), confidence, seed)
    variables |= search.random(random_sets, len(chosen))
    share = turned(curve["refused"][-1], aim)
    return xr.Dataset(
        variables,
        coords={
            "size": list(range(len(chosen) + 1)),
            "layer": ("size", [-1, *(layer for layer, _ in chosen)]),
            "head": ("size", [-1, *(head for _, head in chosen)]),
            "draw": list(range(n_random)),
            "random_heads": ("draw", [head_labels(heads) for heads in random_sets]),
            "bound": ["low", "high"],
            "prompt": prompt_ids(target if judged is None else judged, len(judged_rows)),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "n_heads": model.n_heads,
            "heads": [list(head) for head in chosen],
            "positions": list(positions),
            "aim": aim,
            "threshold": threshold,
            "reached": bool(share >= threshold),
            "largest_difference": gap,
            **{name: value for name, value in metric.attrs.items() if name.startswith("refusal")},
            "source": float(read.scores.mean()),
            "n_candidates": len(pool),
            "max_heads": max_heads,
            "random_from": "the candidates",
            "n_target": len(judged_rows),
            "n_chosen_on": len(rows),
            "held_out": judged is not None,
            "n_source": len(source_rows),
            "judge": judge_name(judge),
            "confidence": confidence,
            "interval": f"{MEAN_INTERVAL}, the source as it is; Wilson for rates",
            "seed": seed,
            "provenance": {
                **model.provenance,
                **prompts_provenance(source, target, system),
                "judged": judged.fingerprint if isinstance(judged, PromptSet) else None,
            },
        },
    )


def check_search(aim: str, threshold: float, max_heads: int, n_random: int, judge: Judge) -> None:
    """Refuses settings that make no sense, before anything is computed.

    Raises:
        AxisError: an aim that is none.
        StudyError: numbers that make no sense, or no such judge.
    """
    if aim not in get_args(Aim):
        raise AxisError(f"no aim {aim!r}: {', '.join(get_args(Aim))}.")
    for name, value, holds, rule in (
        ("threshold", threshold, 0 < threshold <= 1, "above 0 and at most 1"),
        ("max_heads", max_heads, max_heads >= 1, "at least 1"),
        ("n_random", n_random, n_random >= 0, "at least 0"),
    ):
        if not holds:
            raise StudyError(f"{name} must be {rule}, found {value}.")
    judge_replies([], judge=judge)


def _curve(
    curve: dict[str, np.ndarray], singles: Sequence[float], confidence: float, seed: int
) -> dict[str, Any]:
    """Means and intervals at every size."""
    scores, refused = curve["score"], curve["refused"]
    low, high = bootstrap_interval(scores, confidence, seed=seed)
    n = refused.shape[1]
    wilson = [binomial_interval(int(row.sum()), n, confidence) for row in refused]
    score = {"units": "nats", "long_name": "refusal score"}
    rate = {"units": "share of replies", "long_name": "refusal rate"}
    effect = {"units": "nats", "long_name": "change of the refusal score"}
    return {
        "score": ("size", scores.mean(1), score),
        "score_interval": (("size", "bound"), np.stack([low, high], -1), score),
        "score_by_prompt": (("size", "prompt"), scores, score),
        "rate": ("size", refused.mean(1), rate),
        "rate_interval": (("size", "bound"), np.array(wilson), rate),
        "refused_by_prompt": (("size", "prompt"), refused, rate),
        "effect": ("size", scores.mean(1) - scores[0].mean(), effect),
        "sum_of_singles": ("size", np.cumsum([0.0, *singles]), effect),
    }


def _candidates(
    wanted: Sequence[tuple[int, int]] | None, everything: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The heads to choose from."""
    if wanted is None:
        return list(everything)
    pool = [(int(layer), int(head)) for layer, head in wanted]
    if not pool or len(set(pool)) < len(pool) or not set(pool) <= set(everything):
        layer, head = everything[-1]
        raise AxisError(
            f"candidates must be distinct (layer, head) pairs within layers 0..{layer} and heads "
            f"0..{head}, found {pool[:10]}."
        )
    return pool


def _random_sets(pool: Sequence[tuple[int, int]], size: int, n: int, seed: int) -> list[Heads]:
    """Sets of heads drawn without replacement within each."""
    rng = np.random.default_rng(seed)
    return [
        tuple(pool[index] for index in rng.choice(len(pool), size, replace=False)) for _ in range(n)
    ]


def _check_held_out(rows: Tokens, judged: Tokens) -> None:
    """Refuses to judge heads on prompts on which they were chosen, as if they had not been."""
    known, own = (
        [tuple(ids[mask].tolist()) for ids, mask in zip(each.ids, each.mask, strict=True)]
        for each in (rows, judged)
    )
    n_both = sum(prompt in set(known) for prompt in own)
    if n_both:
        raise StudyError(
            f"{n_both} of {len(own)} judged prompts are targets too, so heads were chosen on them. "
            "Pass others, or judged=None to judge all on the target."
        )
