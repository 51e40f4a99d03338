"""Scores and replies of a model under joint patches of heads."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from workbench.analysis.heads.metric import Aim, Metric, Positions
from workbench.analysis.heads.patches import Source
from workbench.interventions import PatchHeads, intervene
from workbench.models.forwards.packed import Method
from workbench.models.forwards.shortcuts import run_variants
from workbench.models.hooked import HookedModel
from workbench.models.tokens import Tokens
from workbench.progress import track
from workbench.scores.judges import Judge
from workbench.scores.judges import judge as judge_replies

Heads = tuple[tuple[int, int], ...]


class HeadSearch:
    """Under joint patches: scores of the prompts heads are chosen on, replies to judged ones."""

    def __init__(
        self,
        model: HookedModel,
        rows: Tokens,
        judged: Tokens,
        source: Source,
        metric: Metric,
        method: Method,
        judge: Judge,
        max_new_tokens: int,
        texts: Sequence[str] | None = None,
    ):
        self.model, self.rows, self.judged = model, rows, judged
        self.source, self.metric = source, metric
        self.method: Method = method
        self.judge, self.max_new_tokens = judge, max_new_tokens
        self.texts = None if texts is None else list(texts)

    @cached_property
    def plain(self) -> tuple[np.ndarray, Bool[np.ndarray, " prompt"]]:
        """Scores and refusals of the judged prompts without a patch."""
        return self.answered(())

    def patch(self, heads: Heads) -> PatchHeads:
        """The joint patch of some heads."""
        values = torch.stack([self.source.values["z", layer][0, :, head] for layer, head in heads])
        return PatchHeads(heads, values, self.source.positions)

    def scores(self, sets: Sequence[Heads], rows: Tokens) -> Float[np.ndarray, "set prompt"]:
        """Refusal scores under each joint patch, all sets packed where the model allows it."""
        positions: Positions = self.source.positions
        variants = [self.patch(heads).hooks(self.model) for heads in sets]
        found = np.zeros((len(sets), len(rows)))
        for chosen, batch in self.model.batches(rows):
            read = run_variants(self.model, batch, variants, -min(positions), method=self.method)
            for index, logits in enumerate(read):
                found[index, chosen] = self.metric.score(logits).cpu().numpy()
        return found

    def answered(self, heads: Heads) -> tuple[np.ndarray, Bool[np.ndarray, " prompt"]]:
        """Scores and refusals under one joint patch, as anybody would measure them."""
        with intervene(self.model, *([self.patch(heads)] if heads else [])):
            scores = self.metric.score(self.model.logits(self.judged)).numpy()
            replies = self.model.generate(self.judged, max_new_tokens=self.max_new_tokens)
        verdicts = judge_replies(replies, judge=self.judge, prompts=self.texts)
        return scores, np.array([verdict == "refused" for verdict in verdicts])

    def grow(
        self, pool: Sequence[tuple[int, int]], aim: Aim, threshold: float, max_heads: int
    ) -> tuple[Heads, dict[str, np.ndarray]]:
        """The set, and scores and refusals at every size."""
        chosen: Heads = ()
        steps = [self.plain]
        limit = min(max_heads, len(pool))
        for _ in track(range(limit), "adding heads", limit):
            rest = [head for head in pool if head not in chosen]
            means = self.scores([(*chosen, head) for head in rest], self.rows).mean(1)
            best = int(means.argmax() if aim == "induce" else means.argmin())
            chosen = (*chosen, rest[best])
            steps.append(self.answered(chosen))
            if turned(steps[-1][1], aim) >= threshold:
                break
        curve = {
            name: np.stack([step[index] for step in steps])
            for index, name in enumerate(("score", "refused"))
        }
        return chosen, curve

    def gap(self, chosen: Heads, joint: Float[np.ndarray, "size prompt"]) -> float:
        """Largest difference of scores between what the search reads and the joint patches."""
        sets = [chosen[:size] for size in range(1, len(chosen) + 1)]
        return float(np.abs(self.scores(sets, self.judged) - joint[1:]).max())

    def singles(self, chosen: Heads) -> list[float]:
        """Mean effect of each chosen head patched alone, on the judged prompts."""
        alone = self.scores([(head,) for head in chosen], self.judged)
        return (alone - self.plain[0]).mean(1).tolist()

    def random(self, sets: Sequence[Heads], size: int) -> dict[str, Any]:
        """Scores of random sets at every size, and refusal rates at the last."""
        scores = np.zeros((size + 1, len(sets)))
        scores[0] = self.plain[0].mean()
        nested = [heads[:k] for k in range(1, size + 1) for heads in sets]
        if nested:
            scores[1:] = self.scores(nested, self.judged).mean(1).reshape(size, len(sets))
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


def turned(refused: Bool[np.ndarray, " prompt"], aim: Aim) -> float:
    """Share of the replies that are as the patch should make them."""
    return float(refused.mean() if aim == "induce" else 1 - refused.mean())
