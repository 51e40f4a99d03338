"""What a run's controls say, in words: which effects leave their range and which do not."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

from workbench.analysis.selection.controls import KINDS
from workbench.control_kinds import RANDOM, SHUFFLED, kinds_of, sorts
from workbench.written import p_among_controls

_DOES = {
    "ablated": "ablating",
    "added": "adding",
    "projection set": "setting the projection on",
}


def told(controls: xr.Dataset, prompt_set: str, condition: str) -> str:
    """One effect beside those of its controls, as a sentence without its end.

    A finding leaves the range of every kind; p is two-sided, by rank, the largest over kinds.
    """
    at = controls.sel(prompt_set=prompt_set, condition=condition)
    n, n_kinds = _drawn(controls)
    random, shuffled = _spans(at)
    text = (
        f"{_DOES[condition]} a random vector moves the refusal score of {prompt_set} prompts by "
        f"{random} nats, "
        + (f"a direction of shuffled labels by {shuffled}, " if shuffled else "")
        + f"the direction by {float(at['effect']):+.1f}"
    )
    if bool(at["outside"]):
        which = f"{n} controls" if n_kinds == 1 else f"{n} controls of each kind"
        return f"{text}, outside the range of {which} (two-sided p = {_p(at)})"
    which = f"{n} controls" if n_kinds == 1 else f"{n} controls of a kind"
    return f"{text}, within the range of {which} (two-sided p = {_p(at)}): no finding"


def sentences(controls: xr.Dataset) -> Iterator[str]:
    """All of them, one for each set of prompts, and what the controls are."""
    for kind in controls["prompt_set"].values:
        parts = [told(controls, str(kind), str(each)) for each in controls["condition"].values]
        text = "; ".join(parts)
        yield f"{text[0].upper()}{text[1:]}."
    text = about(controls)
    yield f"{text[0].upper()}{text[1:]}."


def check(controls: xr.Dataset) -> xr.Dataset:
    """The same, after a look at all that is said of it: what is missing shows where it is read."""
    for _ in (*sentences(controls), *rows(controls), judged(controls)):
        pass
    return controls


def is_current(controls: xr.Dataset) -> bool:
    """Whether they have the kinds that are drawn today; those of earlier versions had fewer."""
    kinds = list(dict.fromkeys(controls["control_kind"].values.tolist()))
    # Those that were swept on the first prompts alone had no units, either.
    known = "scored_on" in controls.attrs and "units" in controls["effect"].attrs
    return known and kinds in (["isotropic"], [*KINDS])


def rows(controls: xr.Dataset) -> Iterator[tuple[str, ...]]:
    """Rows of a table: prompts and edit, change by controls and by the direction, p, rates."""
    for kind in controls["prompt_set"].values:
        for condition in controls["condition"].values:
            at = controls.sel(prompt_set=kind, condition=condition)
            rates = 100 * at["control_rate"].values
            ends = dict.fromkeys(f"{rate:.0f}" for rate in (rates.min(), rates.max()))
            yield (
                f"{kind}, {condition}",
                "\n".join(filter(None, _spans(at))),
                f"{float(at['effect']):+.1f}",
                "outside" if bool(at["outside"]) else "within",
                _p(at),
                " to ".join(ends),
                f"{100 * float(at['judged_rate']):.0f}",
            )


def about(controls: xr.Dataset) -> str:
    """What the controls are, and on how many prompts they were measured."""
    n, n_kinds = _drawn(controls)
    length = f"of the direction's length ({controls.attrs['norm']:.1f})"
    drawn = f"{n} random vectors {length}"
    if n_kinds > 1:
        drawn = (
            f"{n} random vectors of each of two kinds {length}, of any orientation and drawn as "
            f"activations vary within a label, and {n} directions of shuffled labels, as short as "
            "these are"
        )
    where = controls.attrs["scored_on"]
    counts = ", ".join(
        f"{int(count)} {kind} {where[str(kind)]}"
        for kind, count in zip(controls["prompt_set"].values, controls["n"].values, strict=True)
    )
    outside, chance = controls["outside"], 2 / (n + 1)
    least = f"{chance:.2g}".removeprefix("0")
    return (
        f"controls are {drawn}, scored on {counts}, the direction on the same; a vector without "
        f"meaning leaves the range of its kind in {chance:.0%} of cases, so a two-sided p is "
        f"{least} at least; {int(outside.sum())} of {outside.size} effects are outside, up to "
        f"{chance * outside.size:.1f} would be by chance"
    )


def judged(controls: xr.Dataset) -> str:
    """How many controls were answered with, on how many prompts."""
    n = controls.sizes["judged"]
    counts = sorted({*controls["n_judged"].values.tolist()})
    span = " to ".join(str(int(count)) for count in dict.fromkeys([counts[0], counts[-1]]))
    return f"refusal rates of {n} controls and of the direction on the same {span} prompts"


def _spans(at: xr.Dataset) -> tuple[str, str]:
    """Median and range of what random vectors do, and directions of shuffled labels, if any.

    Apart, since the latter are short.
    """
    every, rows = at["control_effect"].values, sorts(kinds_of(at))
    spans = {
        sort: f"{np.median(every[own]):+.1f} [{every[own].min():+.1f}, {every[own].max():+.1f}]"
        for sort, own in rows.items()
    }
    return spans.get(RANDOM, ""), spans.get(SHUFFLED, "")


def _drawn(controls: xr.Dataset) -> tuple[int, int]:
    """How many controls of each kind there are, and how many kinds."""
    counts = np.unique(controls["control_kind"].values, return_counts=True)[1]
    return int(counts.min()), len(counts)


def _p(at: xr.Dataset) -> str:
    return p_among_controls(float(at["p_value"]))
