"""Which directions of a map of cosines have too few prompts for more than the cosines."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr

HARMLESS = "harmless prompts"
"""What names the set that all directions are set against, where its prompts are too few."""


def too_few(cosines: "xr.Dataset") -> str:
    """The names that have too few prompts for intervals, in words; "" where there are none."""
    attrs = cosines.attrs
    few = {**(attrs.get("too_few_other") or {}), **(attrs.get("too_few") or {})}
    if not few:
        return ""
    told = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in few.items())
    means = attrs.get("averaged") and set(attrs["averaged"]) & set(few_names(cosines))
    return (
        f"fewer than {attrs['fewest']} prompts, too few for intervals, reliability and cosines "
        f"without noise: {told}"
    ) + ("; means are over all pairs, since no pair has enough" if means else "")


def few_names(cosines: "xr.Dataset") -> list[str]:
    """The names of a map that have too few prompts, themselves or in what they are set against."""
    few = cosines.attrs.get("too_few") or {}
    names = [str(name) for name in cosines["name"].values.reshape(-1)]
    return names if HARMLESS in few else [name for name in names if name in few]


def averaged_names(cosines: "xr.Dataset") -> list[str]:
    """The names that the means over pairs are over: those with prompts enough, if there are two."""
    names = [str(name) for name in cosines["name"].values.reshape(-1)]
    few = few_names(cosines)
    enough = [name for name in names if name not in few]
    return enough if len(enough) > 1 else names


def n_averaged(cosines: "xr.Dataset") -> int:
    """How many names the means over pairs are over."""
    return len(averaged_names(cosines))


def few_resamples(cosines: "xr.Dataset") -> str:
    """That there are fewer replicates than the bounds of an interval take, in words, or ""."""
    n, confidence = (cosines.attrs.get(key) for key in ("n_resamples", "confidence"))
    if n is None or confidence is None or n * (1 - confidence) / 2 >= 1 - 1e-9:
        return ""
    return f"{n} resamples are too few for {confidence:.0%} intervals"
