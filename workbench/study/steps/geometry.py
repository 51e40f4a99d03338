"""Analyses of where prompts and directions lie: components, projections, cosines, angles."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import xarray as xr

from workbench.activations import Activations
from workbench.analysis.geometry.pca import pca_projection
from workbench.analysis.geometry.projections import project_prompts
from workbench.directions.cosines import cosine_similarity_map
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.directions.subspaces import subspace_overlaps
from workbench.few import n_averaged, too_few
from workbench.study import names
from workbench.study.material import N_RESAMPLES, RESAMPLING_SEED, Material, in_categories
from workbench.study.registry import Results
from workbench.written import as_cosine, estimated


def pca(material: Material) -> dict[str, xr.Dataset]:
    """Principal components of the test prompts."""
    study = material.study
    return {
        "pca": pca_projection(
            list(material.test_activations.values()), confidence=study.confidence, seed=study.seed
        )
    }


def pca_line(results: Results, layer: int, position: int) -> str:
    """How well the labels separate, and along which axis."""
    at = results["pca"].sel(layer=layer, position=position)
    share = float(at["explained_variance"].sel(component=1))
    text = f"first component {share:.0%} of variance"
    if "auc" not in at:
        return text
    cosine = float(at["cosine_with_mean_difference"])
    kinds = f"{at.attrs['positive']} against {at.attrs['negative']}"
    text += f", cosine {cosine:.2f} with the mean difference"
    if "cosine_chance" in at and float(at["cosine_chance"]) == float(at["cosine_chance"]):
        text += f", below {float(at['cosine_chance']):.2f} in 95% of shuffled labels"
    return f"{kinds}: AUC {estimated(at, 'auc', '.2f')}; {text}"


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


def projections_line(results: Results, layer: int, position: int) -> str:
    """How well the chosen direction tells prompts apart that it was not estimated on."""
    at = results["projections"].sel(layer=layer)
    told = [
        f"{label} {estimated(at.sel(group=label), 'auc', '.2f')}" for label in at["group"].values
    ]
    return f"AUC against {at.attrs['reference']} test prompts: {', '.join(told)}"


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


def cosines_line(results: Results, layer: int, position: int) -> str:
    """How alike the categories' directions are, and whether they are told from one."""
    at = results["cosines"].sel(layer=layer, position=position)
    text = f"mean over {n_averaged(at)} categories {estimated(at, 'mean_cosine', '.2f')}"
    if "mean_disattenuated" in at:
        text += f", without noise {estimated(at, 'mean_disattenuated', as_cosine)}"
        p = float(at["mean_p_one_direction"])
        text += f", all one direction p = {p:.2g}" if p == p else ", too noisy to test for one"
    if "mean_null" in at:
        low, high = at["mean_null"].values[[0, -1]]
        text += f"; categories permuted {low:.2f} to {high:.2f}"
    return f"{text}; {few}" if (few := too_few(at)) else text


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


def angles_line(results: Results, layer: int, position: int) -> str:
    """How far the categories' subspaces overlap, against their own and random ones."""
    at = results["angles"].sel(layer=layer, position=position)
    return overlap_line(at)


def overlap_line(at: xr.Dataset) -> str:
    """Overlaps across halves between and within categories, at one layer and position.

    A category with fewer independent prompts than its subspace has dimensions has no overlap.
    """
    values = at["half_overlap"].transpose("name", "name_other").values
    own = at["name"].values[:, None] == at["name_other"].values
    known = np.isfinite(values)
    means = [
        f"{values[cells & known].mean():.2f}" if (cells & known).any() else "not measured"
        for cells in (~own, own)
    ]
    text = (
        f"overlap of {int(at.attrs['n_components'])}-dimensional subspaces across halves "
        f"{means[0]} between categories, {means[1]} within; random "
        f"{float(at['random_overlap']):.2f}"
    )
    lacking = at["name"].values[(own & ~known).any(axis=1)]
    return f"{text}; not measured: {', '.join(map(str, lacking))}" if len(lacking) else text
