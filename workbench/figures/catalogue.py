"""The catalogue: every figure that a run can have, in the order in which they are read.

A new figure is a file in its question's folder, which ends with its entry, and one line here. An
entry draws from anything that has ``.scores``, ``.choice``, ``.effects`` and ``.results`` as a run
has them, and gives None where the result that it needs was not made.
"""

from workbench.figures.geometry.cosine_layers import COSINE_BY_LAYER
from workbench.figures.geometry.cosines import (
    COSINE_BETWEEN_LAYERS,
    COSINE_BETWEEN_POSITIONS,
    COSINE_MAP,
    COSINE_MAPS_BY_LAYER,
)
from workbench.figures.geometry.pca import PCA
from workbench.figures.geometry.projections import PROJECTIONS
from workbench.figures.heads.attention import HEAD_ATTENTION
from workbench.figures.heads.board import HEAD_BOARD
from workbench.figures.heads.maps import HEAD_ATTRIBUTION, HEAD_MAP
from workbench.figures.heads.set import HEAD_SET
from workbench.figures.meaning.concept import CONCEPT_OR_WORDS
from workbench.figures.meaning.vocabulary import VOCABULARY
from workbench.figures.meaning.wording import WORDING
from workbench.figures.selection.controls import CONTROLS
from workbench.figures.selection.cosmic import COSMIC
from workbench.figures.selection.effects import EFFECTS
from workbench.figures.selection.held_out import HELD_OUT
from workbench.figures.selection.losses import LOSSES
from workbench.figures.selection.plane import SELECTION_PLANE
from workbench.figures.selection.sweep import SWEEP
from workbench.figures.transfer.matrix import (
    LAYER_BANDS,
    TRANSFER_ABLATE,
    TRANSFER_ADD,
    TRANSFER_RATES,
)

GALLERY = (
    SWEEP,
    SELECTION_PLANE,
    HELD_OUT,
    EFFECTS,
    CONTROLS,
    LOSSES,
    COSMIC,
    PROJECTIONS,
    PCA,
    COSINE_MAP,
    COSINE_MAPS_BY_LAYER,
    COSINE_BY_LAYER,
    COSINE_BETWEEN_LAYERS,
    COSINE_BETWEEN_POSITIONS,
    TRANSFER_ABLATE,
    TRANSFER_RATES,
    TRANSFER_ADD,
    LAYER_BANDS,
    VOCABULARY,
    CONCEPT_OR_WORDS,
    WORDING,
    HEAD_MAP,
    HEAD_SET,
    HEAD_ATTRIBUTION,
    HEAD_BOARD,
    HEAD_ATTENTION,
)
"""Every figure of a run, in the order in which they are read."""
