"""Labels of positions: numbers counted from the end of a prompt, and ``"t_inst"`` by its name.

The last token of the instruction stands at one number in all prompts of most templates. Where a
tokenizer joins the end of some instructions with the template's first token it does not, and only
its name says where it is. Both stand on one axis.
"""

from collections.abc import Sequence
from typing import Any, Literal

T_INST = "t_inst"
"""The last token of the instruction, wherever it stands in each prompt."""

Position = int | Literal["t_inst"]
"""A negative number, counted from the end of the rendered prompt, or `T_INST`."""

InstructionEnd = Literal["last_token", "last_whole_token"]
"""Which token is t_inst.

``last_token``: the last one that holds a character of the instruction, even where it holds
characters of the template too. ``last_whole_token``: the last one that holds nothing else.
"""


def position_axis(positions: Sequence[Position]) -> Any:
    """Positions as the labels of an axis: numbers stay numbers beside a name.

    >>> position_axis(["t_inst", -1]).tolist()
    ['t_inst', -1]
    """
    if T_INST not in positions:
        return list(positions)
    import numpy as np  # not needed by commands that only print what they take

    axis = np.empty(len(positions), dtype=object)
    axis[:] = positions
    return axis


def position_order(position: Position) -> float:
    """What positions are sorted by: t_inst stands before all numbers, as it does in a prompt.

    >>> sorted([-1, "t_inst", -2], key=position_order)
    ['t_inst', -2, -1]
    """
    return float("-inf") if position == T_INST else float(position)
