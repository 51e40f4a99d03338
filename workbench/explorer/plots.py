"""The widget that draws: all views of the explorer over one copy of plotly.js."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from plotly.offline import get_plotlyjs

_HERE = Path(__file__).parent
_TITLES = {
    "sweep": "What each candidate direction does",
    "pca": "Prompts on the principal components",
    "cosines": "Cosines between categories",
    "pair": "Two categories, layer by layer",
    "heads": "What patching a head does",
    "tokens": "The prompt along the direction",
}


def _script() -> str:
    """plotly.js as a module's own variable, and the code that uses it."""
    # plotly.js gives itself to whoever calls it as a CommonJS module.
    library = f"const module = {{exports: {{}}}};\n{get_plotlyjs()}\nreturn module.exports;"
    own = (_HERE / "plots.js").read_text(encoding="utf-8")
    return f"const Plotly = (function () {{\n{library}\n}})();\n{own}"


class Plots(anywidget.AnyWidget):
    """Figures side by side, each replaced by itself; clicks come back as messages.

    A widget of plotly per figure would send four megabytes of plotly.js for each.
    """

    _esm = _script()
    _css = (_HERE / "plots.css").read_text(encoding="utf-8")

    names = traitlets.Dict(_TITLES).tag(sync=True)
    sweep = traitlets.Dict().tag(sync=True)
    pca = traitlets.Dict().tag(sync=True)
    cosines = traitlets.Dict().tag(sync=True)
    pair = traitlets.Dict().tag(sync=True)
    heads = traitlets.Dict().tag(sync=True)
    tokens = traitlets.Dict().tag(sync=True)

    def on_click(self, act: Callable[[Mapping[str, Any]], None]) -> None:
        """Calls ``act`` with the view, the point and the trace of every click."""
        self.on_msg(lambda _widget, content, _buffers: act(content))
