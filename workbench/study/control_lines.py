"""What a run's controls say, in words: which effects leave their range and which do not."""

from collections.abc import Iterator

import numpy as np
import xarray as xr

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
    every = at["control_effect"].values
    n, n_kinds = _drawn(controls)
    text = (
        f"{_DOES[condition]} a random vector moves the refusal score of {prompt_set} prompts by "
        f"{np.median(every):+.1f} [{every.min():+.1f}, {every.max():+.1f}] nats, the direction by "
        f"{float(at['effect']):+.1f}"
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
    """Whether ranks are among controls of one kind, and two-sided; earlier ones were not."""
    return "scored_on" in controls.attrs


def rows(controls: xr.Dataset) -> Iterator[tuple[str, ...]]:
    """Rows of a table: prompts, what was done, change by controls and direction, p, rates."""
    for kind in controls["prompt_set"].values:
        for condition in controls["condition"].values:
            at = controls.sel(prompt_set=kind, condition=condition)
            every, rates = at["control_effect"].values, 100 * at["control_rate"].values
            ends = dict.fromkeys(f"{rate:.0f}" for rate in (rates.min(), rates.max()))
            yield (
                f"{kind}, {condition}",
                f"{np.median(every):+.1f} [{every.min():+.1f}, {every.max():+.1f}]",
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
            "activations vary within a label"
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


def _drawn(controls: xr.Dataset) -> tuple[int, int]:
    """How many controls of each kind there are, and how many kinds."""
    counts = np.unique(controls["control_kind"].values, return_counts=True)[1]
    return int(counts.min()), len(counts)


def _p(at: xr.Dataset) -> str:
    return f"{float(at['p_value']):.2g}".removeprefix("0")
