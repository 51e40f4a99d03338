"""Results that are tables, too: one way to get at their numbers, and to look at them."""

import html
from abc import ABC, abstractmethod
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_ROWS = 12
"""Rows that a notebook shows."""


class Tabled(ABC):
    """A result with `to_dataframe`; a notebook shows its line and the first rows of its table."""

    @abstractmethod
    def to_dataframe(self) -> "pd.DataFrame":
        """The result as a table."""

    def _repr_html_(self) -> str:
        table = self.to_dataframe()
        shown = table.head(_ROWS).to_html(index=False, border=0, float_format="{:.3g}".format)
        rest = len(table) - _ROWS
        more = f"<p>… and {rest} rows more in to_dataframe().</p>" if rest > 0 else ""
        return f"<p>{html.escape(repr(self))}</p>{shown}{more}"


class Estimate(Tabled):
    """A dataclass of a few numbers, intervals as pairs: one row, and one line to read."""

    def to_dataframe(self) -> "pd.DataFrame":
        """One row: a column for each number, ``…_low`` and ``…_high`` for each interval."""
        import pandas as pd

        row: dict[str, Any] = {}
        for name, value in self._numbers():
            if isinstance(value, tuple):
                base = name.removesuffix("interval")  # with the line that parts the two words
                row[f"{base}low"], row[f"{base}high"] = value
            else:
                row[name] = value
        return pd.DataFrame([row])

    def __repr__(self) -> str:
        parts = []
        for name, value in self._numbers():
            if isinstance(value, tuple):
                told = f"[{', '.join(map(_short, value))}]"
            else:
                told = _short(value)
            parts.append(f"{name}={told}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def _numbers(self) -> list[tuple[str, Any]]:
        assert is_dataclass(self)
        return [(each.name, getattr(self, each.name)) for each in fields(self)]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
