"""Analyses of where prompts and directions lie: components, projections, cosines, angles."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import xarray as xr

from workbench.activations import Activations
from workbench.analysis.geometry.pca import pca_projection
from workbench.analysis.geometry.projections import project_prompts
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.directions.subspaces import subspace_overlaps
from workbench.study import names
from workbench.study.material import N_RESAMPLES, RESAMPLING_SEED, Material, in_categories


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

    All of mean differences, whatever the study's estimator: they alone can be resampled in one
    pass. Each map holds the resampled vectors of its own place only: all of them together would
    take hundreds of times the room of the directions. Runs of any seed resample alike, so that they
    can be compared with each other.
    """
    confidence = material.study.confidence
    categories, whole = material.categories, material.train_activations

    def resampled(
        pair: Mapping[str, Activations], by: Literal["category"] | None = None
    ) -> Directions:
        drawn = {
            name: own.with_resamples(N_RESAMPLES, RESAMPLING_SEED) for name, own in pair.items()
        }
        return mean_difference(drawn["harmful"], drawn["harmless"], by=by)

    sorted_out = {**whole, "harmful": in_categories(whole["harmful"], categories)}
    everywhere = {
        label: material.read(
            prompts, layers=[material.layer], positions=material.positions, per_prompt=True
        )
        for label, prompts in material.train.items()
    }
    by_category = resampled(sorted_out, "category")
    _keep_resampled(material, by_category)
    return {
        "cosines": cosine_similarity_map(by_category, confidence=confidence).assign_attrs(
            categories_left_out=material.left_out
        ),
        "cosines_between_layers": cosine_similarity_map(
            resampled(whole), over="layer", confidence=confidence
        ),
        "cosines_between_positions": cosine_similarity_map(
            resampled(everywhere), over="position", confidence=confidence
        ),
    }


def _keep_resampled(material: Material, directions: Directions) -> None:
    """Saves the categories with their resamples at the run's place, to be compared with others'.

    Permutations are left behind: between two sets there is no null, and that of the run itself is
    in its map. What is left takes 400 times the room of the vectors.
    """
    at = directions.at(layer=material.layer, position=material.position)
    if at.resampled is not None:
        kept = replace(at, resampled=replace(at.resampled, permuted=None))
        material.keep(names.RESAMPLED_DIRECTIONS, kept, names.PLACE)


def angles(material: Material) -> dict[str, xr.Dataset]:
    """Overlaps of the subspaces in which the categories' training prompts lie."""
    harmful = in_categories(material.train_activations["harmful"], material.categories)
    found = subspace_overlaps(
        harmful, material.train_activations["harmless"], seed=material.study.seed
    )
    return {"angles": found.assign_attrs(categories_left_out=material.left_out)}
