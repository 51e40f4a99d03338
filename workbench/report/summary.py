"""What a run found, in plain words, with every number from its results."""

import html
from collections.abc import Iterator

import numpy as np
import xarray as xr

from workbench.figures.parts.theme import position_label, position_text
from workbench.models.organisms import organism_names
from workbench.names import file_only
from workbench.scores.refusal_tokens import RefusalTokens
from workbench.study import control_lines
from workbench.study.names import PROMPTS
from workbench.study.registry import ANALYSES
from workbench.study.results import Run
from workbench.study.stored import read_kept
from workbench.written import estimated, number, p_value

_DID = {
    "ablated": "With the direction ablated from every layer",
    "added": "With the direction added at its layer",
    "projection set": "With the projection set to the mean of harmful prompts at that layer",
}
_MOST = 0.5
"""Of fewer refusals than this the report says that scores see a part only."""


def summary(run: Run) -> list[str]:
    """Sentences, the most important first.

    A rate is said to fall or to rise where McNemar's test tells it from the plain one on the same
    prompts, corrected for the number of comparisons; else the two are not told apart.
    """
    return [
        *_plain(run),
        *_tokens(run),
        *_selection(run),
        *_effects(run),
        *_controls(run),
        *_costs(run),
        *_limits(run),
    ]


def findings(run: Run) -> list[tuple[str, str, str]]:
    """Name of every analysis that was made, what it is, and what it found in one line."""
    found = run.found
    return [(each.name, each.what, found[each.name]) for each in ANALYSES if each.name in found]


def _plain(run: Run) -> Iterator[str]:
    """What the model does without intervention."""
    said = [
        f"{_rate(run, kind, 'plain')} of {_n(run, kind)} {kind}" for kind in _measured(run, "plain")
    ]
    if said:
        yield (
            f"{file_only(run.study.model)} refuses {_listed(said)} test prompts "
            f"(judge: {run.effects.attrs.get('judge', run.study.judge)}; {_intervals(run)})."
        )


def _tokens(run: Run) -> Iterator[str]:
    """What refusals begin with, and whether the score sees most of them."""
    tokens = RefusalTokens.from_record(read_kept(run.path(PROMPTS)))
    if tokens is None:
        return
    text = f"Scores are log-odds of the first tokens {_listed([*map(repr, tokens.texts)])}, with "
    text += f"which {tokens.coverage:.0%} of {tokens.n_refused} refusals of training prompts begin."
    if tokens.coverage < _MOST:
        text += (
            " That is less than half of them: the scores look at a part of what the model does. "
            "Name the words that its refusals begin with, or go by judged rates."
        )
    yield text


def _selection(run: Run) -> Iterator[str]:
    """Which candidate was chosen, and out of how many."""
    table = run.choice.table
    eligible = table["dropped"].tolist().count("")
    token = ""
    if "position_label" in run.scores:
        at = run.scores["position_label"].sel(position=run.choice.position)
        token = f" (the token {html.unescape(position_label(0, str(at.item())))[2:]})"
    yield (
        f"Of {len(table)} candidate directions {_count(eligible)} the selection; the one chosen "
        f"was read at layer {run.choice.layer}, position "
        f"{position_text(run.choice.position)}{token}."
    )


def _effects(run: Run) -> Iterator[str]:
    """What each intervention does to each set of prompts."""
    for condition, words in _DID.items():
        said = [
            f"{_moved(run, kind, condition)} on {kind} prompts"
            for kind in _measured(run, condition)
        ]
        if said:
            yield f"{words}, the refusal rate {_listed(said)}."
    n = int(run.effects.attrs.get("n_compared", 0))
    if n:
        yield (
            f"A rate is compared with the plain one on the same prompts: p is McNemar's, exact, "
            f"corrected for {n} {'comparison' if n == 1 else 'comparisons'} after Holm. The "
            "intervals of changes are Tango's, each for itself: one may leave 0 where p does not."
        )


def _controls(run: Run) -> Iterator[str]:
    """What random vectors do beside the direction: an effect within their range is none of its."""
    if run.controls is not None:
        yield from control_lines.sentences(run.controls)


def _costs(run: Run) -> Iterator[str]:
    """What the ablation does to harmless prompts, and how strong the direction is before a reply.

    In nats, of the chosen candidate, on test prompts where it was measured on them.
    """
    if run.held_out is not None:
        cell, attrs = run.held_out.sel(candidate=0), run.held_out.attrs
        where = f"On {attrs['n_harmful']} harmful and {attrs['n_harmless']} harmless test prompts"
        chose = (
            f" The validation prompts, which chose it, had a KL of {number(_seen(cell, 'kl'))} and "
            f"scores of {number(_seen(cell, 'bypass'))} and {number(_seen(cell, 'induce'))} nats."
        )
    else:
        cell = run.scores.sel(layer=run.choice.layer, position=run.choice.position)
        attrs = run.scores.attrs
        where = "On the validation prompts, which chose it and so flatter it"
        chose = (
            " It was not measured again: too few test prompts were kept, or the run is of an "
            "earlier version; `workbench run` tells which."
        )

    def score(name: str) -> str:
        return estimated(cell, name, lacking="", unit=" nats")

    spread = ""
    if "kl_median" in cell:
        spread = f", median {number(float(cell['kl_median']))}, largest of any prompt "
        spread += number(float(cell["kl_max"]))
    yield (
        f"{where}, ablating it moves the next-token distribution of harmless ones by a mean KL of "
        f"{score('kl')}{spread} (a mean of at most {number(run.study.kl_cap)} was allowed)."
    )
    if "harmful_baseline" in attrs and "harmless_baseline" in attrs:
        yield (
            f"The refusal score of harmful prompts goes from "
            f"{number(attrs['harmful_baseline'])} nats to {score('bypass')} when it is ablated, "
            f"that of harmless prompts from {number(attrs['harmless_baseline'])} nats to "
            f"{score('induce')} when it is added.{chose}"
        )
    if run.planted_cosine is not None:
        yield (
            f"Its cosine with the direction that was planted in this model is "
            f"{number(run.planted_cosine)}."
        )


def _seen(cell: xr.Dataset, name: str) -> float:
    """What the selection saw."""
    return float(cell[f"chosen_by_{name}"])


def _limits(run: Run) -> Iterator[str]:
    """What the reader must not conclude."""
    if run.study.model in organism_names():
        yield (
            f"{run.study.model} is a model organism, trained for this project with its refusal "
            "planted: nothing here is evidence about a real chat model."
        )
    yield "That ablating a direction stops refusals does not show that nothing else could."


def _measured(run: Run, condition: str) -> list[str]:
    """Sets of prompts whose rate is known under a condition."""
    rates = run.effects["refusal_rate"]
    if condition not in rates["condition"].values:
        return []
    known = np.isfinite(rates.sel(condition=condition).values)
    return [str(kind) for kind in rates["prompt_set"].values[known]]


def _moved(run: Run, kind: str, condition: str) -> str:
    """How a rate compares with the plain one on the same prompts."""
    at = run.effects.sel(prompt_set=kind, condition=condition)
    rate, plain = _rate(run, kind, condition), f"{float(_cell(run, kind, 'plain')):.0%}"
    if not np.isfinite(float(at.get("p_holm", np.nan))):
        return f"is {rate} (plain {plain}, not compared prompt by prompt)"
    low, high = 100 * at["difference_interval"].sel(bound=["low", "high"]).values
    change, p = 100 * float(at["difference"]), float(at["p_holm"])
    told = f"{change:+.0f} points [{low:+.0f}, {high:+.0f}], {p_value(p)}"
    if p >= 1 - float(run.effects.attrs["confidence"]):
        return f"is not told apart from the plain one ({plain} plain, {rate} now, {told})"
    return f"{'rises' if change > 0 else 'falls'} from {plain} to {rate} ({told})"


def _rate(run: Run, kind: str, condition: str) -> str:
    at = run.effects.sel(prompt_set=kind, condition=condition)
    return estimated(at, "refusal_rate", ".0%")


def _cell(run: Run, kind: str, condition: str) -> float:
    return float(run.effects["refusal_rate"].sel(prompt_set=kind, condition=condition))


def _n(run: Run, kind: str) -> int:
    return int(run.effects["n"].sel(prompt_set=kind))


def _intervals(run: Run) -> str:
    attrs = run.effects.attrs
    return f"brackets are {float(attrs['confidence']):.0%} {attrs['interval']} intervals"


def _count(n: int) -> str:
    return f"{n} passes" if n == 1 else f"{n} pass"


def _listed(parts: list[str]) -> str:
    """Parts with commas and an "and".

    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
