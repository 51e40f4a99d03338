"""Which directions of a map of cosines have too few prompts for more than the cosines."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


def too_few(cosines: "xr.Dataset") -> str:
    """The names that have too few prompts for intervals, in words; "" where there are none."""
    attrs = cosines.attrs
    few = {**(attrs.get("too_few_other") or {}), **(attrs.get("too_few") or {})}
    if not few:
        return ""
    told = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in few.items())
    return (
        f"fewer than {attrs['fewest']} prompts, too few for intervals, reliability and cosines "
        f"without noise: {told}"
    )


def n_averaged(cosines: "xr.Dataset") -> int:
    """How many names the means over pairs are over: those with prompts enough, if there are two."""
    enough = cosines.sizes["name"] - len(cosines.attrs.get("too_few") or {})
    return enough if enough > 1 else cosines.sizes["name"]
