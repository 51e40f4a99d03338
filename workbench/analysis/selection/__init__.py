"""Which direction? Candidates are swept, one is chosen, and what it does is measured."""

from workbench.analysis.selection.controls import control_directions
from workbench.analysis.selection.cosmic import sweep_cosmic
from workbench.analysis.selection.cosmic_selection import select_by_cosmic
from workbench.analysis.selection.effects import refusal_rates
from workbench.analysis.selection.held_out import measure_held_out
from workbench.analysis.selection.losses import measure_cross_entropy
from workbench.analysis.selection.selection import Choice

__all__ = [
    "Choice",
    "control_directions",
    "measure_cross_entropy",
    "measure_held_out",
    "refusal_rates",
    "select_by_cosmic",
    "sweep_cosmic",
]
