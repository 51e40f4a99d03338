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

    A finding leaves their range; p is by rank, on the side of the direction.
    """
    at = controls.sel(prompt_set=prompt_set, condition=condition)
    every = at["control_effect"].values
    n = len(every)
    text = (
        f"{_DOES[condition]} a random vector moves the refusal score of {prompt_set} prompts by "
        f"{np.median(every):+.1f} [{every.min():+.1f}, {every.max():+.1f}] nats, the direction by "
        f"{float(at['effect']):+.1f}"
    )
    if bool(at["outside"]):
        return f"{text}, outside the range of {n} controls (one-sided p = {_p(at)})"
    return f"{text}, within the range of {n} controls (one-sided p = {_p(at)}): no finding"


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
    n, kinds = controls.sizes["control"], controls.attrs["kinds"]
    drawn = f"{n} random vectors of the direction's length ({controls.attrs['norm']:.1f})"
    if "covariance" in kinds:
        drawn += ", half of them drawn as activations vary within a label"
    counts = ", ".join(
        f"{int(count)} {kind}"
        for kind, count in zip(controls["prompt_set"].values, controls["n"].values, strict=True)
    )
    return (
        f"controls are {drawn}, scored on {counts} test prompts, the direction on the same; "
        f"{n} of them give a one-sided p of {1 / (n + 1):.2g} at least, and a vector without "
        f"meaning leaves their range in {2 / (n + 1):.0%} of cases"
    )


def judged(controls: xr.Dataset) -> str:
    """How many controls were answered with, on how many prompts."""
    n = controls.sizes["judged"]
    counts = sorted({*controls["n_judged"].values.tolist()})
    span = " to ".join(str(int(count)) for count in dict.fromkeys([counts[0], counts[-1]]))
    return f"refusal rates of {n} controls and of the direction on the same {span} prompts"


def _p(at: xr.Dataset) -> str:
    return f"{float(at['p_value']):.2g}".removeprefix("0")
