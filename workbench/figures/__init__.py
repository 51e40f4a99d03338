"""Figures: a result in, a `plotly.graph_objects.Figure` out.

Every function here is pure: it draws what it is given, never runs a model and never imports torch.
`save_figure` and `save_pictures` are the only ones that write.
"""

from workbench.figures.catalogue import GALLERY
from workbench.figures.geometry.cosine_layers import cosine_by_layer
from workbench.figures.geometry.cosine_pair import cosine_pair
from workbench.figures.geometry.cosines import cosine_map, cosine_maps_by_layer
from workbench.figures.geometry.pca import pca
from workbench.figures.geometry.projections import projections
from workbench.figures.geometry.tokens import token_projections
from workbench.figures.heads.attention import head_attention
from workbench.figures.heads.board import head_board
from workbench.figures.heads.maps import head_attribution, head_map
from workbench.figures.heads.set import head_set
from workbench.figures.meaning.concept import concept_or_words
from workbench.figures.meaning.features import sae_features
from workbench.figures.meaning.vocabulary import vocabulary
from workbench.figures.meaning.wording import wording
from workbench.figures.parts.entry import GalleryEntry, RunLike
from workbench.figures.save import save_figure, save_pictures
from workbench.figures.selection.controls import control_effects
from workbench.figures.selection.cosmic import cosmic
from workbench.figures.selection.effects import effects
from workbench.figures.selection.held_out import held_out
from workbench.figures.selection.losses import losses
from workbench.figures.selection.plane import selection_plane
from workbench.figures.selection.sweep import sweep
from workbench.figures.tidy import tidy, tidy_csv
from workbench.figures.transfer.matrix import layer_bands, transfer

__all__ = [
    "GALLERY",
    "GalleryEntry",
    "RunLike",
    "concept_or_words",
    "control_effects",
    "cosine_by_layer",
    "cosine_map",
    "cosine_maps_by_layer",
    "cosine_pair",
    "cosmic",
    "effects",
    "head_attention",
    "head_attribution",
    "head_board",
    "head_map",
    "head_set",
    "held_out",
    "layer_bands",
    "losses",
    "pca",
    "projections",
    "sae_features",
    "save_figure",
    "save_pictures",
    "selection_plane",
    "sweep",
    "tidy",
    "tidy_csv",
    "token_projections",
    "transfer",
    "vocabulary",
    "wording",
]
