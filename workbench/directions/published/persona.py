"""Persona vectors of Chen et al. 2025: one vector per layer, in files named by trait and tokens.

Row l is the difference of ``hidden_states[l]``, which is `resid_pre` of layer l; the last row
follows the last block, in most models after the final norm. Two of the three kinds are means over
many tokens, so their position is only a label.

Source: github.com/safety-research/persona_vectors (``generate_vec.py``).
"""

import re
from pathlib import Path

from torch import Tensor

from workbench.directions.direction import Directions
from workbench.directions.published.asked import Asked
from workbench.directions.published.files import Published

FILE_NAME = re.compile(r"^(?P<trait>.+)_(?P<kind>prompt_avg|response_avg|prompt_last)_diff$")

_POSITIONS = {
    "prompt_avg": "none: a mean over the tokens of the prompt; {} is only a label",
    "response_avg": "none: a mean over the tokens of the reply; {} is only a label",
    "prompt_last": "the last token of the prompt, {}",
}


def from_layers(path: Path, vectors: Tensor, asked: Asked) -> Published:
    """Directions over layers, named by their trait."""
    asked.only(path, "position")
    name = FILE_NAME.match(path.stem)
    assert name is not None
    position = asked.one_position(path, -1)
    last = len(vectors) - 1
    provenance = {
        "source": "persona vectors, github.com/safety-research/persona_vectors, by the file's name",
        "layer": "row l is hidden_states[l], which is resid_pre of layer l",
        "last_layer": f"row {last} follows the last block, in most models after the final norm",
        "position": _POSITIONS[name["kind"]].format(position),
    }
    directions = Directions(
        values=vectors.float()[None, :, None],
        names=(name["trait"],),
        layers=tuple(range(len(vectors))),
        positions=(position,),
        provenance=provenance,
    )
    return Published(directions=directions, provenance=provenance)
