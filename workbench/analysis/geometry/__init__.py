"""How do directions and activations lie?"""

from workbench.analysis.geometry.pca import pca_projection
from workbench.analysis.geometry.projections import project_prompts
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.subspaces import principal_angles, subspace_overlaps

__all__ = [
    "cosine_similarity_map",
    "pca_projection",
    "principal_angles",
    "project_prompts",
    "subspace_overlaps",
]
