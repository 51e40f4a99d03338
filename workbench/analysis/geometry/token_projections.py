"""One prompt, token by token: how far the stream reaches along a direction at every layer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from workbench.activations import Activations, collect_activations
from workbench.directions.direction import Directions
from workbench.errors import AxisError
from workbench.models.hooked import HookedModel
from workbench.models.sites import Site


@dataclass(frozen=True, eq=False)
class ReadPrompt:
    """What a model has in its stream while it reads one prompt.

    Attributes:
        text: the prompt.
        activations: of all its tokens, template included.
        tokens: the tokens as text.
        n_pre: template tokens before the user's words.
        n_post: template tokens after them.
        t_inst: position of the last token of the user's words.
    """

    text: str
    activations: Activations
    tokens: tuple[str, ...]
    n_pre: int
    n_post: int
    t_inst: int


def read_prompt(
    model: HookedModel, text: str, site: Site = "resid_pre", system: str | None = None
) -> ReadPrompt:
    """Reads every layer at every token of a prompt, in one forward.

    Raises:
        PromptError: the prompt is empty or too long.
        ModelError: the activations are not finite.
    """
    tokens = model.tokens([text], system)
    ids = tokens.ids[0].tolist()
    positions = tuple(range(-len(ids), 0))
    read = collect_activations(
        model, [text], site=site, layers=None, positions=positions, per_prompt=True, system=system
    )
    words = tuple(model.tokenizer.decode([token]) for token in ids)
    return ReadPrompt(text, read, words, tokens.n_pre, tokens.n_post, tokens.t_inst)


def token_projections(read: ReadPrompt, direction: Directions) -> xr.Dataset:
    """The projection ``r̂·x`` of every token at every layer on one direction.

    Args:
        read: a prompt.
        direction: one vector, estimated at whatever layer and position.

    Returns:
        Dataset with ``projection`` (layer, position) in units of the activations, and ``cosine``,
        the same over ``‖x‖``, which can be compared between layers. Positions carry ``token``.

    Raises:
        AxisError: several directions, one of another width or site, or one that is zero.
    """
    values = read.activations.values[0].double().cpu()
    unit = direction.unit().vector.double().cpu()
    if direction.site != read.activations.site or len(unit) != values.shape[-1]:
        raise AxisError(
            f"a direction of width {len(unit)} at {direction.site} does not go with activations of "
            f"width {values.shape[-1]} at {read.activations.site}."
        )
    projection = (values @ unit).numpy()
    lengths = values.norm(dim=-1).numpy()
    cells = ("layer", "position")
    attrs: dict[str, Any] = {
        "model": read.activations.provenance.get("model", ""),
        "site": direction.site,
        "name": direction.names[0],
        "direction_layer": direction.layers[0],
        "direction_position": direction.positions[0],
        "n_pre": read.n_pre,
        "n_post": read.n_post,
        "t_inst": read.t_inst,
        "text": read.text,
        "provenance": dict(read.activations.provenance),
    }
    return xr.Dataset(
        {
            "projection": (cells, projection, {"units": "activation"}),
            "cosine": (
                cells,
                np.divide(projection, lengths, np.full_like(projection, np.nan), where=lengths > 0),
                {"units": "cosine"},
            ),
        },
        coords={
            "layer": list(read.activations.layers),
            "position": list(read.activations.positions),
            "token": ("position", list(read.tokens)),
        },
        attrs=attrs,
    )
