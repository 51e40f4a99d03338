"""Concept or words: what does a direction say?"""

from workbench.analysis.meaning.concept import measure_concept
from workbench.analysis.meaning.features import rank_features
from workbench.analysis.meaning.vocabulary import logit_lens
from workbench.analysis.meaning.wording import cluster_refusals
from workbench.directions.sae.autoencoder import SparseAutoencoder, load_sae

__all__ = [
    "SparseAutoencoder",
    "cluster_refusals",
    "load_sae",
    "logit_lens",
    "measure_concept",
    "rank_features",
]
