"""How often the intervals of the package hold the truth that they were made for.

    python benchmarks/coverage.py                       # 2000 simulations a row, some minutes
    python benchmarks/coverage.py --simulations 200 --only mean
    python benchmarks/coverage.py --patching 200        # also head patching, draws both sets

Every row draws samples of n from a population whose truth is known and counts how often the
interval holds it, among the samples that have one: with few prompts, and where one prompt carries
the spread, a mean has none. Populations are synthetic, or scores of `pocket` on all built-in
prompts, from which samples are drawn with replacement. A row is added by adding a `Case`.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

import workbench as wb
from workbench.scores.paired import paired_difference
from workbench.statistics.auc import area_under_curve, auc_interval
from workbench.statistics.intervals import (
    binomial_interval,
    bootstrap_interval,
    difference_interval,
    median_interval,
)

Covered = np.ndarray
"""One number per simulation: 1 covered, 0 missed, NaN no interval."""


@dataclass(frozen=True)
class Case:
    """One row: an interval on one population.

    Attributes:
        interval: what it is of, by which ``--only`` chooses.
        population: where samples come from.
        n: prompts of a sample.
        simulate: how often it is right, given a generator and a number of simulations.
    """

    interval: str
    population: str
    n: str
    simulate: Callable[[np.random.Generator, int], Covered]


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def synthetic() -> dict[str, tuple[Draw, float]]:
    """How to draw from each population, and its mean."""

    def mixture(share: float) -> tuple[Draw, float]:
        return lambda rng, size: rng.normal(size=size) + 8 * (rng.random(size) < share), 8 * share

    return {
        "normal": (lambda rng, size: rng.normal(size=size), 0.0),
        "mixture, 20% 8 sd away": mixture(0.2),
        "mixture, 10% 8 sd away": mixture(0.1),
        "mixture, 5% 8 sd away": mixture(0.05),
        "log-normal, sigma 1": (lambda rng, size: np.exp(rng.normal(size=size)), np.exp(0.5)),
        "log-normal, sigma 2": (lambda rng, size: np.exp(2 * rng.normal(size=size)), np.exp(2)),
    }


@cache
def pocket_scores() -> dict[str, np.ndarray]:
    """Scores of `pocket` on every built-in prompt that it treats as its label says.

    The direction is that of a run with default numbers of prompts; heads are patched from its
    harmful validation prompts, one row for each head.
    """
    model = wb.load_model("pocket")
    harmful, harmless = (wb.load_prompts(name) for name in ("harmful", "harmless"))
    train, train0 = (each.split(train=128, validation=32)[0] for each in (harmful, harmless))
    validation, validation0 = (
        each.split(train=128, validation=32)[1] for each in (harmful, harmless)
    )
    directions = wb.mean_difference(
        wb.collect_activations(model, train), wb.collect_activations(model, train0)
    )
    small = wb.sweep_directions(model, directions, harmful=validation, harmless=validation0)
    choice = wb.select_direction(small)
    direction = directions.at(layer=choice.layer, position=choice.position)
    tokens = small.attrs["refusal_tokens"]
    swept = wb.sweep_directions(
        model, direction, harmful=harmful, harmless=harmless, refusal_tokens=tokens
    )
    patched = wb.heads.patch_heads(model, validation, harmless, refusal_tokens=tokens)
    plain = {
        name: wb.refusal_score(model.logits(prompts), tokens).numpy()
        for name, prompts in (("harmful", harmful), ("harmless", harmless))
    }
    refused, answered = plain["harmful"] > 0, plain["harmless"] < 0
    bypass, induce, kl = (
        swept[f"{name}_by_prompt"].values.ravel() for name in ("bypass", "induce", "kl")
    )
    scores = {
        "plain score, harmful": plain["harmful"][refused],
        "plain score, harmless": plain["harmless"][answered],
        "bypass": bypass[refused],
        "change by ablation": (bypass - plain["harmful"])[refused],
        "induce": induce[answered],
        "KL": kl[answered],
    }
    effects = patched["effect_by_prompt"].values.reshape(-1, len(harmless))[:, answered]
    return scores | {"head effects": effects}


def of_means(draw: Draw, mean: float, n: int) -> Callable[[np.random.Generator, int], Covered]:
    """Simulates the interval of a mean."""

    def simulate(rng: np.random.Generator, times: int) -> Covered:
        return covered(bootstrap_interval(draw(rng, (times, n)), seed=times), mean)

    return simulate


def of_medians(draw: Draw, median: float, n: int) -> Callable[[np.random.Generator, int], Covered]:
    """Simulates the interval of a median."""
    return lambda rng, times: covered(median_interval(draw(rng, (times, n))), median)


def from_population(values: np.ndarray) -> Draw:
    """Draws with replacement."""
    return lambda rng, size: rng.choice(values, size=size)


def covered(ends: tuple[np.ndarray, np.ndarray], truth: float | np.ndarray) -> Covered:
    """Which intervals hold the truth; rounding at an end is no miss."""
    low, high = ends
    slack = 1e-9 * (1 + np.abs(truth))
    held = ((low <= truth + slack) & (truth <= high + slack)).astype(float)
    return np.where(np.isnan(low), np.nan, held)


def mean_cases(sizes: tuple[int, ...] = (28, 32, 64)) -> Iterator[Case]:
    """Means over prompts: synthetic populations and those of `pocket`, its KL by median too."""
    for n in sizes:
        for name, (draw, mean) in synthetic().items():
            yield Case("mean", name, str(n), of_means(draw, mean, n))
    for n in sizes:
        for name in ("plain score, harmful", "plain score, harmless", "bypass",
                     "change by ablation", "induce", "KL"):  # fmt: skip
            yield Case("mean", f"pocket: {name}", str(n), _pocket(name, n, of_means, np.mean))
        yield Case("mean", "pocket: effects of its 64 heads", str(n), _all_heads(n))
        yield Case("median", "pocket: KL", str(n), _pocket("KL", n, of_medians, np.median))


def _pocket(name: str, n: int, of: Callable, truth: Callable) -> Callable:
    """Like the others, but the model is loaded when the row is measured."""

    def simulate(rng: np.random.Generator, times: int) -> Covered:
        values = pocket_scores()[name]
        return of(from_population(values), float(truth(values)), n)(rng, times)

    return simulate


def _all_heads(n: int) -> Callable[[np.random.Generator, int], Covered]:
    """Prompts are drawn, and every head has its interval on the same ones; flattened."""

    def simulate(rng: np.random.Generator, times: int) -> Covered:
        effects = pocket_scores()["head effects"]
        chosen = rng.integers(effects.shape[1], size=(times, n))
        return covered(bootstrap_interval(effects[:, chosen]), effects.mean(1)[:, None]).ravel()

    return simulate


def difference_cases() -> Iterator[Case]:
    """Differences of the means of two labels, each with its own prompts."""
    populations = synthetic()
    for first, second in (("normal", "normal"), ("log-normal, sigma 1", "mixture, 20% 8 sd away")):

        def simulate(
            rng: np.random.Generator, times: int, pair: tuple[str, str] = (first, second)
        ) -> Covered:
            sides, truths = [], []
            for each, seed in zip(pair, (0, 1), strict=True):
                draw, mean = populations[each]
                values = draw(rng, (times, 32))
                sides.append((values.mean(1), *bootstrap_interval(values, seed=seed)))
                truths.append(mean)
            return covered(difference_interval(*sides), truths[0] - truths[1])

        yield Case("difference of means", f"{first}; {second}", "32 + 32", simulate)


def rate_cases() -> Iterator[Case]:
    """Wilson's interval, averaged over rates from 0 to 1: at a single rate it swings with n."""
    for n in (16, 32, 64):

        def simulate(rng: np.random.Generator, times: int, n: int = n) -> Covered:
            ends = np.array([binomial_interval(k, n) for k in range(n + 1)])
            rates = rng.random(times)
            found = ends[rng.binomial(n, rates)]
            return covered((found[:, 0], found[:, 1]), rates)

        yield Case("rate", "rates uniform from 0 to 1", str(n), simulate)


def paired_cases() -> Iterator[Case]:
    """Differences of two rates on the same prompts, averaged over how many prompts change."""
    for n in (16, 32, 64):
        for most in (0.1, 0.5):

            def simulate(
                rng: np.random.Generator, times: int, n: int = n, most: float = most
            ) -> Covered:
                gain, lose = rng.uniform(0, most, times), rng.uniform(0, most, times)
                both = (1 - gain - lose) * rng.random(times)
                shares = np.stack([both, gain, lose, 1 - both - gain - lose], 1)
                counts = rng.multinomial(n, np.maximum(shares, 0))
                ends = np.array([_paired(tuple(each)) for each in counts.tolist()])
                return covered((ends[:, 0], ends[:, 1]), gain - lose)

            name = f"up to {most:.0%} of prompts change either way"
            yield Case("paired difference of rates", name, str(n), simulate)


@cache
def _paired(counts: tuple[int, int, int, int]) -> tuple[float, float]:
    both, gained, lost, neither = counts
    before = ["refused"] * both + ["other"] * gained + ["refused"] * lost + ["other"] * neither
    after = ["refused"] * (both + gained) + ["other"] * (lost + neither)
    return paired_difference(before, after).interval


def area_cases() -> Iterator[Case]:
    """Areas under the ROC curve, of two normal labels so far apart."""
    from scipy.stats import norm

    for n in (8, 16, 32, 64):
        for truth in (0.5, 0.8, 0.95):

            def simulate(
                rng: np.random.Generator, times: int, n: int = n, truth: float = truth
            ) -> Covered:
                apart = np.sqrt(2) * norm.ppf(truth)
                label = np.arange(2 * n) < n
                ends = np.array([
                    auc_interval(area_under_curve(scores + apart * label, label), n, n)
                    for scores in rng.normal(size=(times, 2 * n))
                ])  # fmt: skip
                return covered((ends[:, 0], ends[:, 1]), truth)

            yield Case("AUC", f"two normal labels, area {truth}", f"{n} + {n}", simulate)


def patching_case() -> Case:
    """Head patching with both sets of prompts drawn; the truth is the effect of all on all."""

    def simulate(rng: np.random.Generator, times: int) -> Covered:
        model = wb.load_model("pocket")
        sets = [wb.load_prompts(name) for name in ("harmful", "harmless")]
        tokens = wb.find_refusal_tokens(model, *sets)
        rows = [model.tokens(each) for each in sets]
        truth = wb.heads.patch_heads(model, *rows, refusal_tokens=tokens)["effect"].values
        found = []
        for _ in range(times):
            own = [each.rows(rng.choice(len(each), 32, replace=True).tolist()) for each in rows]
            patched = wb.heads.patch_heads(model, *own, refusal_tokens=tokens)["effect_interval"]
            low, high = (patched.sel(bound=bound).values for bound in ("low", "high"))
            found.append(covered((low, high), truth).ravel())
        return np.concatenate(found)

    return Case("head effect", "pocket: 64 heads, source and targets drawn", "32 + 32", simulate)


CASES: tuple[Callable[[], Iterator[Case]], ...] = (
    mean_cases,
    difference_cases,
    rate_cases,
    paired_cases,
    area_cases,
)
"""Every table of rows; intervals of other quantities are added here."""


def measured(case: Case, simulations: int, seed: int = 0) -> tuple[float, float]:
    """Share of intervals that hold the truth, and share of samples that have an interval."""
    found = case.simulate(np.random.default_rng(seed), simulations)
    shown = np.isfinite(found)
    return (float(found[shown].mean()) if shown.any() else np.nan), float(shown.mean())


def main() -> None:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--simulations", type=int, default=2000, help="samples a row")
    parser.add_argument("--only", default="", help="rows of this interval only, such as mean")
    parser.add_argument("--patching", type=int, default=0, help="runs of head patching; slow")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = [(each, chosen.simulations) for make in CASES for each in make()]
    if chosen.patching:
        rows.append((patching_case(), chosen.patching))
    print("| interval of | population | n | covers | has an interval |\n|---|---|---|---|---|")
    for case, times in rows:
        if chosen.only in ("", case.interval):
            share, shown = measured(case, times, chosen.seed)
            print(
                f"| {case.interval} | {case.population} | {case.n} | {share:.3f} | {shown:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
