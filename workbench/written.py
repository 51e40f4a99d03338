"""How numbers are written in texts, tables and figures, and what stands behind an estimate."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

Form = str | Callable[[float], str]
"""How one number is written: a format, or a function."""

NOT_MEASURED = "not measured"


def formatted(value: float, form: Form) -> str:
    """One number in a form."""
    return form(value) if callable(form) else format(value, form)


def number(value: float | int) -> str:
    r"""Three significant digits and a real minus sign.

    >>> number(0.06593), number(1234.5), number(-3) == "\N{MINUS SIGN}3"
    ('0.0659', '1234', True)
    """
    if not np.isfinite(value):
        return NOT_MEASURED
    text = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def as_cosine(value: float, form: Form = number) -> str:
    r"""A cosine: an estimate beyond 1 is not told from 1, and says so.

    >>> as_cosine(0.5), as_cosine(1.09) == "\N{GREATER-THAN OR EQUAL TO}1"
    ('0.5', True)
    """
    if not beyond(value):
        return formatted(value, form)
    return (
        "\N{GREATER-THAN OR EQUAL TO}1" if value > 0 else "\N{LESS-THAN OR EQUAL TO}\N{MINUS SIGN}1"
    )


def beyond(values: Any) -> Any:
    """Where an estimate of a cosine lies beyond -1 or 1, by more than its printed digits."""
    return np.abs(values) > 1.0005  # NaN is not


def p_value(p: float) -> str:
    """A p value after its letter.

    >>> p_value(0.0412), p_value(1e-9)
    ('p = 0.041', 'p < .001')
    """
    return "p < .001" if p < 1e-3 else f"p = {p:.2g}"


def p_among_controls(p: float) -> str:
    """A p value by rank, in the few steps that so many controls allow.

    >>> p_among_controls(2 / 21)
    '.095'
    """
    return f"{p:.2g}".removeprefix("0")


def with_interval(
    value: float,
    ends: Any = None,
    form: Form = number,
    lacking: str = " (no interval)",
    unit: str = "",
) -> str:
    """An estimate and its interval, the one way in which both are written.

    Args:
        value: the estimate; NaN is not measured.
        ends: low and high; None where intervals were never asked for.
        form: of all three.
        lacking: what follows the estimate where its interval is NaN, for want of prompts.
        unit: behind the estimate, before the interval.

    >>> with_interval(2.5, (2, 3), unit=" nats"), with_interval(2.5, unit=" nats")
    ('2.5 nats [2, 3]', '2.5 nats')
    >>> with_interval(0.5, (0.25, 0.75), ".0%"), with_interval(2.5, (float("nan"),) * 2)
    ('50% [25%, 75%]', '2.5 (no interval)')
    """
    if not np.isfinite(value):
        return NOT_MEASURED
    text = formatted(value, form) + unit
    if ends is None:
        return text
    low, high = map(float, ends)
    if not np.isfinite([low, high]).all():
        return f"{text}{lacking}"
    return f"{text} [{formatted(low, form)}, {formatted(high, form)}]"


def estimated(
    at: "xr.Dataset",
    name: str,
    form: Form = number,
    lacking: str = " (no interval)",
    unit: str = "",
) -> str:
    """One estimate of a result, with the interval that is kept as ``<name>_interval``.

    Args:
        at: where ``name`` is one number.
        name: of the variable.
        form: see `with_interval`, as are the next two.
        lacking: what follows an estimate without interval.
        unit: behind the estimate.
    """
    ends = at.get(f"{name}_interval")
    if ends is None:
        return with_interval(float(at[name]), None, form, lacking, unit)
    found = dict(zip(ends["bound"].values.tolist(), ends.values.tolist(), strict=True))
    return with_interval(float(at[name]), (found["low"], found["high"]), form, lacking, unit)


def span_of(values: "xr.DataArray", axis: str, form: Form) -> str:
    """The smallest and the largest value, and whose: a mean would hide how they differ."""
    low, high = int(values.values.argmin()), int(values.values.argmax())
    ends = [(formatted(float(values[at]), form), values[axis].values[at]) for at in (low, high)]
    if float(values[low]) == float(values[high]):
        return f"{ends[0][0]} (all)"
    return " to ".join(f"{text} ({label})" for text, label in ends)
