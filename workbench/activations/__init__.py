"""Activations: what a model holds at its sites, by prompt or as streamed means."""

from workbench.activations.activations import Activations
from workbench.activations.collect import collect_activations

__all__ = ["Activations", "collect_activations"]
