"""Figures: a result in, a `plotly.graph_objects.Figure` out.

Every function here is pure: it draws what it is given, never runs a model and never imports torch.
`save_figure` and `save_pictures` are the only ones that write.
"""

from workbench.figures.concept import concept_or_words
from workbench.figures.controls import control_effects
from workbench.figures.cosine_layers import cosine_by_layer
from workbench.figures.cosine_pair import cosine_pair
from workbench.figures.cosines import cosine_map, cosine_maps_by_layer
from workbench.figures.cosmic import cosmic
from workbench.figures.effects import effects
from workbench.figures.features import sae_features
from workbench.figures.gallery import GALLERY, GalleryEntry, RunLike
from workbench.figures.head_attention import head_attention
from workbench.figures.head_board import head_board
from workbench.figures.head_maps import head_attribution, head_map
from workbench.figures.head_set import head_set
from workbench.figures.held_out import held_out
from workbench.figures.losses import losses
from workbench.figures.pca import pca
from workbench.figures.projections import projections
from workbench.figures.save import save_figure, save_pictures
from workbench.figures.selection import selection_plane
from workbench.figures.sweep import sweep
from workbench.figures.tidy import tidy, tidy_csv
from workbench.figures.tokens import token_projections
from workbench.figures.transfer import layer_bands, transfer
from workbench.figures.vocabulary import vocabulary
from workbench.figures.wording import wording

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
