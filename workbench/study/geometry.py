"""Analyses of where prompts and directions lie: components, projections, cosines, angles."""

from collections.abc import Mapping
from typing import Literal

import xarray as xr

from workbench.activations import Activations
from workbench.analysis.pca import pca_projection
from workbench.analysis.projections import project_prompts
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.directions.subspaces import subspace_overlaps
from workbench.study.material import N_RESAMPLES, Material, in_categories


def pca(material: Material) -> dict[str, xr.Dataset]:
    """Principal components of the test prompts."""
    study = material.study
    return {
        "pca": pca_projection(
            list(material.test_activations.values()), confidence=study.confidence, seed=study.seed
        )
    }


def projections(material: Material) -> dict[str, xr.Dataset]:
    """Test prompts on the candidates of the chosen position, which training prompts gave."""
    candidates = material.directions.at(position=material.position)
    return {
        "projections": project_prompts(
            candidates,
            list(material.test_activations.values()),
            confidence=material.study.confidence,
        )
    }


def cosines(material: Material) -> dict[str, xr.Dataset]:
    """Cosines between categories at all layers, and of one direction between layers and positions.

    Each map holds the resampled vectors of its own place only: all of them together would take
    hundreds of times the room of the directions.
    """
    study, confidence = material.study, material.study.confidence
    categories, whole = material.categories, material.train_activations

    def resampled(
        pair: Mapping[str, Activations], by: Literal["category"] | None = None
    ) -> Directions:
        drawn = {name: own.with_resamples(N_RESAMPLES, study.seed) for name, own in pair.items()}
        return mean_difference(drawn["harmful"], drawn["harmless"], by=by)

    sorted_out = {**whole, "harmful": in_categories(whole["harmful"], categories)}
    everywhere = {
        label: material.read(
            prompts, layers=[material.layer], positions=material.positions, per_prompt=True
        )
        for label, prompts in material.train.items()
    }
    return {
        "cosines": cosine_similarity_map(
            resampled(sorted_out, "category"), confidence=confidence
        ).assign_attrs(categories_left_out=material.left_out),
        "cosines_between_layers": cosine_similarity_map(
            resampled(whole), over="layer", confidence=confidence
        ),
        "cosines_between_positions": cosine_similarity_map(
            resampled(everywhere), over="position", confidence=confidence
        ),
    }


def angles(material: Material) -> dict[str, xr.Dataset]:
    """Overlaps of the subspaces in which the categories' training prompts lie."""
    harmful = in_categories(material.train_activations["harmful"], material.categories)
    found = subspace_overlaps(
        harmful, material.train_activations["harmless"], seed=material.study.seed
    )
    return {"angles": found.assign_attrs(categories_left_out=material.left_out)}
