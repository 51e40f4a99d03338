"""What patching each head does, at one position."""

import numpy as np
import plotly.graph_objects as go
import xarray as xr

from workbench.errors import StudyError
from workbench.figures.heat import ROW, cells, labels, printed
from workbench.figures.theme import model_of, number, require, themed

_PRINTED = 20
"""Most heads whose values are still legible in their cells."""


def head_map(heads: xr.Dataset, position: int) -> go.Figure:
    """Layers by heads, the effect of patching each as colour.

    Args:
        heads: ``effect`` over (layer, head, position), and perhaps prompts, which are averaged.
        position: which.

    Raises:
        StudyError: not such a dataset, or a position that was not patched.
    """
    require(heads, "patching of heads", ["effect"], ("layer", "head"))
    at = heads["effect"]
    if "prompt" in at.dims:
        at = at.mean("prompt")
    if "position" in at.dims:
        known = at["position"].values.tolist()
        if position not in known:
            raise StudyError(f"heads were patched at positions {known} only, not {position}.")
        at = at.sel(position=position)
    at = at.transpose("layer", "head").sortby(["layer", "head"])
    units = str(heads["effect"].attrs.get("units", "nats"))
    layers, columns = at["layer"].values.tolist(), at["head"].values.tolist()
    texts = [
        [printed(value) if len(columns) <= _PRINTED else "" for value in row]
        for row in at.values.tolist()
    ]
    hover = [
        [
            f"head {layer}.{head}<br>effect {number(value)} {units}"
            for head, value in zip(columns, row, strict=True)
        ]
        for layer, row in zip(layers, at.values.tolist(), strict=True)
    ]
    figure = go.Figure(cells(np.asarray(at.values), texts, hover, f"effect ({units})"))
    figure.update_xaxes(**labels([str(head) for head in columns]), title_text="head")
    figure.update_yaxes(**labels([str(layer) for layer in layers]), title_text="layer")
    parts = [model_of(heads.attrs), f"position {number(position)}"]
    if heads.attrs.get("n") is not None:
        parts.append(f"n = {heads.attrs['n']} prompts")
    return themed(figure, "What patching a head does", parts, height=ROW * len(layers) + 70)
