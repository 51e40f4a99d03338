"""The smallest set of heads that, patched together, turns a model's replies."""

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
import xarray as xr
from jaxtyping import Bool, Float

from workbench.analysis.patch_effects import Source, read_source
from workbench.analysis.patch_metric import (
    Aim,
    Metric,
    Positions,
    check_positions,
    prompt_ids,
    prompts_provenance,
    refusal_metric,
    refusal_tokens_of,
)
from workbench.errors import AxisError, StudyError
from workbench.interventions import PatchHeads, intervene
from workbench.models.hooked import HookedModel, Prompts, Site
from workbench.models.packed import Method
from workbench.models.shortcuts import run_variants
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.scores.intervals import binomial_interval, bootstrap_interval
from workbench.scores.judges import judge as judge_replies

Heads = tuple[tuple[int, int], ...]


def minimal_head_set(
    model: HookedModel,
    source: Prompts,
    target: Prompts,
    *,
    threshold: float = 0.9,
    candidates: Sequence[tuple[int, int]] | None = None,
    max_heads: int = 8,
    n_random: int = 20,
    positions: Sequence[int] = (-1,),
    direction: Aim = "induce",
    refusal_tokens: Sequence[int] | None = None,
    judge: str = "rules",
    max_new_tokens: int = 48,
    method: Method = "auto",
    confidence: float = 0.95,
    seed: int = 0,
    system: str | None = None,
) -> xr.Dataset:
    """Adds one head at a time to a joint patch until enough replies turn.

    Each step patches every remaining head together with those chosen before and keeps the one that
    moves the mean refusal score most; then the model answers under the joint patch and the replies
    are judged. Greedy: a smaller set may exist. What is reported of a set is always measured with
    that whole set patched; the sum of its heads' single effects stands beside it.

    Args:
        model: the model.
        source: prompts whose mean ``z`` is written: harmful ones, to induce refusal.
        target: prompts that are patched and answered: harmless ones, to induce refusal.
        threshold: share of the replies to turn: refused, when inducing; not refused, when
            suppressing.
        candidates: (layer, head) pairs to choose from; all heads by default.
        max_heads: when to give up.
        n_random: random sets of the same size, drawn from all heads, to compare with.
        positions: negative; all of them are patched, in the prompt only.
        direction: ``"induce"``: the source is refused and the target answered; ``"suppress"``: the
            other way round.
        refusal_tokens: ids; by default found on these prompts.
        judge: how replies are judged.
        max_new_tokens: longest reply.
        method: of the search; see `patch_heads`.
        confidence: of all intervals.
        seed: of the bootstraps and of the random sets.
        system: a system prompt for all of them.

    Returns:
        Dataset over ``size``, from 0, no patch: ``score`` and ``rate`` with ``…_interval`` (bound),
        ``score_by_prompt`` and ``refused_by_prompt`` (prompt), ``effect``, the change of the mean
        score, and ``sum_of_singles``, what the single effects add up to; ``layer`` and ``head``,
        which one was added; ``random_score`` (size, draw), and ``random_rate`` (draw) of random
        sets of the final size. In ``attrs``: ``heads``, the set; ``reached``, whether it reached
        the threshold; ``largest_difference`` of scores between the search and the joint patch.

    Raises:
        AxisError: a head or position that is not there, or a choice that is none.
        StudyError: a threshold or numbers that make no sense, or no such judge.
    """
    if direction not in get_args(Aim):
        raise AxisError(f"no direction {direction!r}: {', '.join(get_args(Aim))}.")
    if not 0 < threshold <= 1 or max_heads < 1 or n_random < 0:
        raise StudyError(
            f"expected 0 < threshold <= 1, max_heads >= 1 and n_random >= 0, found {threshold}, "
            f"{max_heads} and {n_random}."
        )
    judge_replies([], judge)  # an unknown judge is refused now, not after the search
    everything = [(layer, head) for layer in range(model.n_layers) for head in range(model.n_heads)]
    pool = _candidates(candidates, everything)
    rows, source_rows = model.tokens(target, system), model.tokens(source, system)
    if refusal_tokens is None:
        refusal_tokens = refusal_tokens_of(model, source, target, direction, system)
    metric = refusal_metric(model, refusal_tokens)
    check_positions(source_rows, rows, [tuple(positions)], metric)
    places: list[tuple[Site, int]] = [("z", layer) for layer in range(model.n_layers)]
    read = read_source(model, source_rows, places, tuple(positions), metric)
    search = _Search(model, rows, read, metric, method, judge, max_new_tokens)
    chosen, curve, gap = search.grow(pool, direction, threshold, max_heads)
    random_sets = _random_sets(everything, len(chosen), n_random, seed)
    variables = _curve(curve, search.singles(pool, chosen), confidence, seed)
    variables |= search.random(random_sets, len(chosen))
    turned = _turned(curve["refused"][-1], direction)
    return xr.Dataset(
        variables,
        coords={
            "size": list(range(len(chosen) + 1)),
            "layer": ("size", [-1, *(layer for layer, _ in chosen)]),
            "head": ("size", [-1, *(head for _, head in chosen)]),
            "draw": list(range(n_random)),
            "random_heads": ("draw", [head_label(heads) for heads in random_sets]),
            "bound": ["low", "high"],
            "prompt": prompt_ids(target, len(rows)),
        },
        attrs={
            "model": model.name,
            "n_layers": model.n_layers,
            "n_heads": model.n_heads,
            "heads": [list(head) for head in chosen],
            "positions": list(positions),
            "direction": direction,
            "threshold": threshold,
            "reached": bool(turned >= threshold),
            "largest_difference": gap,
            **{name: value for name, value in metric.attrs.items() if name.startswith("refusal")},
            "source": float(read.scores.mean()),
            "n_candidates": len(pool),
            "n_target": len(rows),
            "n_source": len(source_rows),
            "judge": judge,
            "confidence": confidence,
            "interval": "bootstrap over target prompts; Wilson for rates",
            "seed": seed,
            "provenance": {**model.provenance, **prompts_provenance(source, target, system)},
        },
    )


def head_label(heads: Sequence[tuple[int, int]]) -> str:
    """A set of heads for tables and axes.

    >>> head_label([(3, 2), (4, 5)])
    '3.2, 4.5'
    """
    return ", ".join(f"{layer}.{head}" for layer, head in heads)


class _Search:
    """Scores and replies of one set of target prompts under joint patches."""

    def __init__(
        self,
        model: HookedModel,
        rows: Tokens,
        source: Source,
        metric: Metric,
        method: Method,
        judge: str,
        max_new_tokens: int,
    ):
        self.model, self.rows, self.source, self.metric = model, rows, source, metric
        self.method: Method = method
        self.judge, self.max_new_tokens = judge, max_new_tokens
        self._first = np.empty((0, len(rows)))
        self._plain = np.empty(len(rows))

    def patch(self, heads: Heads) -> PatchHeads:
        """The joint patch of some heads."""
        values = torch.stack([self.source.values["z", layer][0, :, head] for layer, head in heads])
        return PatchHeads(heads, values, self.source.positions)

    def scores(self, sets: Sequence[Heads]) -> Float[np.ndarray, "set prompt"]:
        """Refusal scores under each joint patch, all sets packed where the model allows it."""
        positions: Positions = self.source.positions
        variants = [self.patch(heads).hooks(self.model) for heads in sets]
        found = np.zeros((len(sets), len(self.rows)))
        for chosen, batch in self.rows.batches(self.model.batch_tokens):
            scores = run_variants(
                self.model, batch, variants, -min(positions), self.metric.read, method=self.method
            )
            found[:, chosen] = scores.cpu().numpy()
        return found

    def answered(self, heads: Heads) -> tuple[np.ndarray, Bool[np.ndarray, " prompt"]]:
        """Scores and refusals under one joint patch, as anybody would measure them."""
        with intervene(self.model, *([self.patch(heads)] if heads else [])):
            scores = self.metric.read(self.model.logits(self.rows)).numpy()
            replies = self.model.generate(self.rows, max_new_tokens=self.max_new_tokens)
        verdicts = judge_replies(replies, self.judge)
        return scores, np.array([verdict == "refused" for verdict in verdicts])

    def grow(
        self, pool: Sequence[tuple[int, int]], aim: Aim, threshold: float, max_heads: int
    ) -> tuple[Heads, dict[str, np.ndarray], float]:
        """The set, scores and refusals at every size, and how far search and joint patch differ."""
        chosen: Heads = ()
        steps = [self.answered(chosen)]
        self._plain, gap = steps[0][0], 0.0
        limit = min(max_heads, len(pool))
        for size in track(range(limit), "adding heads", limit):
            rest = [head for head in pool if head not in chosen]
            scores = self.scores([(*chosen, head) for head in rest])
            if not size:
                self._first = scores
            means = scores.mean(1)
            best = int(means.argmax() if aim == "induce" else means.argmin())
            chosen = (*chosen, rest[best])
            steps.append(self.answered(chosen))
            gap = max(gap, float(np.abs(steps[-1][0] - scores[best]).max()))
            if _turned(steps[-1][1], aim) >= threshold:
                break
        curve = {
            name: np.stack([step[index] for step in steps])
            for index, name in enumerate(("score", "refused"))
        }
        return chosen, curve, gap

    def singles(self, pool: Sequence[tuple[int, int]], chosen: Heads) -> list[float]:
        """Mean effect of each chosen head patched alone."""
        effects = (self._first - self._plain).mean(1)
        return [float(effects[list(pool).index(head)]) for head in chosen]

    def random(self, sets: Sequence[Heads], size: int) -> dict[str, Any]:
        """Scores of random sets at every size, and refusal rates at the last."""
        scores = np.zeros((size + 1, len(sets)))
        scores[0] = self._plain.mean()
        nested = [heads[:k] for k in range(1, size + 1) for heads in sets]
        if nested:
            scores[1:] = self.scores(nested).mean(1).reshape(size, len(sets))
        rates = [
            float(self.answered(heads)[1].mean())
            for heads in track(sets, "answering under random sets", len(sets))
        ]
        name = "random sets of heads"
        return {
            "random_score": (
                ("size", "draw"),
                scores,
                {"units": "nats", "long_name": f"refusal score, {name}"},
            ),
            "random_rate": (
                "draw",
                np.array(rates, dtype=np.float64),
                {"units": "share of replies", "long_name": f"refusal rate, {name}"},
            ),
        }


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


def _turned(refused: Bool[np.ndarray, " prompt"], aim: Aim) -> float:
    """Share of the replies that are as the patch should make them."""
    return float(refused.mean() if aim == "induce" else 1 - refused.mean())


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


def _random_sets(
    everything: Sequence[tuple[int, int]], size: int, n: int, seed: int
) -> list[Heads]:
    """Sets of heads drawn without replacement within each."""
    rng = np.random.default_rng(seed)
    return [
        tuple(everything[index] for index in rng.choice(len(everything), size, replace=False))
        for _ in range(n)
    ]
