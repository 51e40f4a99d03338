"""Find, compare and causally test the directions that make a chat model refuse.

>>> import workbench as wb
>>> wb.load_prompts("harmful").sample(2).labels
('harmful', 'harmful')

Names are loaded on first use, so that importing the package is cheap.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

__version__ = "0.1.0"

_HOMES = {
    "WorkbenchError": "errors",
    "PromptError": "errors",
    "ModelError": "errors",
    "AxisError": "errors",
    "ArtifactError": "errors",
    "StudyError": "errors",
    "Prompt": "prompts.promptset",
    "PromptSet": "prompts.promptset",
    "load_prompts": "prompts.sources",
    "load_model": "models.loading.load",
    "HookedModel": "models.loading.load",
    "verify_model": "models.verify",
    "Tokens": "models.tokens",
    "Activations": "activations",
    "collect_activations": "activations",
    "Directions": "directions.direction",
    "mean_difference": "directions.estimate",
    "pca_direction": "directions.estimate",
    "probe_direction": "directions.estimate",
    "orthogonalize": "directions.orthogonalize",
    "cosine_similarity_map": "directions.cosines",
    "principal_angles": "directions.subspaces",
    "subspace_overlaps": "directions.subspaces",
    "load_published": "directions.published",
    "load_sae": "directions.sae.autoencoder",
    "SparseAutoencoder": "directions.sae.autoencoder",
    "Ablate": "interventions",
    "Add": "interventions",
    "SetProjection": "interventions",
    "PatchHeads": "interventions",
    "intervene": "interventions",
    "mean_projection": "interventions",
    "refusal_score": "scores.refusal",
    "refusal_tokens": "scores.refusal",
    "judge": "scores.judges",
    "judge_agreement": "scores.agreement",
    "paired_difference": "scores.paired",
    "PairedDifference": "scores.paired",
    "refusal_rate": "scores.judges",
    "pca_projection": "analysis.geometry.pca",
    "sweep_directions": "analysis.selection.sweep",
    "select_direction": "analysis.selection.selection",
    "control_directions": "analysis.selection.controls",
    "answer_with_and_without": "analysis.selection.effects",
    "refusal_rates": "analysis.selection.effects",
    "search_direction": "analysis.selection.search",
    "measure_held_out": "analysis.selection.held_out",
    "cosmic_scores": "analysis.selection.cosmic",
    "select_by_cosmic": "analysis.selection.cosmic_selection",
    "patch_heads": "analysis.heads.patching",
    "patch_sites": "analysis.heads.patching",
    "minimal_head_set": "analysis.heads.sets",
    "Choice": "analysis.selection.selection",
    "rank_features": "analysis.meaning.features",
    "project_prompts": "analysis.geometry.projections",
    "transfer_matrix": "analysis.transfer.matrix",
    "attribute_heads": "analysis.heads.attribution",
    "screen_heads": "analysis.heads.screen",
    "head_attention": "analysis.heads.attention",
    "read_vocabulary": "analysis.meaning.vocabulary",
    "concept_or_words": "analysis.meaning.concept",
    "cluster_refusals": "analysis.meaning.wording",
    "cross_entropy": "analysis.selection.losses",
    "Study": "study.settings",
    "run_study": "study.run",
    "load_run": "study.results",
    "Run": "study.results",
    "write_report": "report.page",
    "explore": "explorer.open",
    "compare_directions": "compare.runs",
}
_MODULES = ("figures",)

if TYPE_CHECKING:
    # The same names, for editors and type checkers; a test keeps the two in step.
    from workbench import figures as figures
    from workbench.activations import Activations as Activations
    from workbench.activations import collect_activations as collect_activations
    from workbench.analysis.geometry.pca import pca_projection as pca_projection
    from workbench.analysis.geometry.projections import project_prompts as project_prompts
    from workbench.analysis.heads.attention import head_attention as head_attention
    from workbench.analysis.heads.attribution import attribute_heads as attribute_heads
    from workbench.analysis.heads.patching import patch_heads as patch_heads
    from workbench.analysis.heads.patching import patch_sites as patch_sites
    from workbench.analysis.heads.screen import screen_heads as screen_heads
    from workbench.analysis.heads.sets import minimal_head_set as minimal_head_set
    from workbench.analysis.meaning.concept import concept_or_words as concept_or_words
    from workbench.analysis.meaning.features import rank_features as rank_features
    from workbench.analysis.meaning.vocabulary import read_vocabulary as read_vocabulary
    from workbench.analysis.meaning.wording import cluster_refusals as cluster_refusals
    from workbench.analysis.selection.controls import control_directions as control_directions
    from workbench.analysis.selection.cosmic import cosmic_scores as cosmic_scores
    from workbench.analysis.selection.cosmic_selection import select_by_cosmic as select_by_cosmic
    from workbench.analysis.selection.effects import (
        answer_with_and_without as answer_with_and_without,
    )
    from workbench.analysis.selection.effects import refusal_rates as refusal_rates
    from workbench.analysis.selection.held_out import measure_held_out as measure_held_out
    from workbench.analysis.selection.losses import cross_entropy as cross_entropy
    from workbench.analysis.selection.search import search_direction as search_direction
    from workbench.analysis.selection.selection import Choice as Choice
    from workbench.analysis.selection.selection import select_direction as select_direction
    from workbench.analysis.selection.sweep import sweep_directions as sweep_directions
    from workbench.analysis.transfer.matrix import transfer_matrix as transfer_matrix
    from workbench.compare.runs import compare_directions as compare_directions
    from workbench.directions.cosines import cosine_similarity_map as cosine_similarity_map
    from workbench.directions.direction import Directions as Directions
    from workbench.directions.estimate import mean_difference as mean_difference
    from workbench.directions.estimate import pca_direction as pca_direction
    from workbench.directions.estimate import probe_direction as probe_direction
    from workbench.directions.orthogonalize import orthogonalize as orthogonalize
    from workbench.directions.published import load_published as load_published
    from workbench.directions.sae.autoencoder import SparseAutoencoder as SparseAutoencoder
    from workbench.directions.sae.autoencoder import load_sae as load_sae
    from workbench.directions.subspaces import principal_angles as principal_angles
    from workbench.directions.subspaces import subspace_overlaps as subspace_overlaps
    from workbench.errors import ArtifactError as ArtifactError
    from workbench.errors import AxisError as AxisError
    from workbench.errors import ModelError as ModelError
    from workbench.errors import PromptError as PromptError
    from workbench.errors import StudyError as StudyError
    from workbench.errors import WorkbenchError as WorkbenchError
    from workbench.explorer.open import explore as explore
    from workbench.interventions import Ablate as Ablate
    from workbench.interventions import Add as Add
    from workbench.interventions import PatchHeads as PatchHeads
    from workbench.interventions import SetProjection as SetProjection
    from workbench.interventions import intervene as intervene
    from workbench.interventions import mean_projection as mean_projection
    from workbench.models.loading.load import HookedModel as HookedModel
    from workbench.models.loading.load import load_model as load_model
    from workbench.models.tokens import Tokens as Tokens
    from workbench.models.verify import verify_model as verify_model
    from workbench.prompts.promptset import Prompt as Prompt
    from workbench.prompts.promptset import PromptSet as PromptSet
    from workbench.prompts.sources import load_prompts as load_prompts
    from workbench.report.page import write_report as write_report
    from workbench.scores.agreement import judge_agreement as judge_agreement
    from workbench.scores.judges import judge as judge
    from workbench.scores.judges import refusal_rate as refusal_rate
    from workbench.scores.paired import PairedDifference as PairedDifference
    from workbench.scores.paired import paired_difference as paired_difference
    from workbench.scores.refusal import refusal_score as refusal_score
    from workbench.scores.refusal import refusal_tokens as refusal_tokens
    from workbench.study.results import Run as Run
    from workbench.study.results import load_run as load_run
    from workbench.study.run import run_study as run_study
    from workbench.study.settings import Study as Study

__all__ = sorted([*_HOMES, *_MODULES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


if not TYPE_CHECKING:  # which would take every name for one that is there

    def __getattr__(name: str) -> _Any:
        if name in _HOMES:
            value = getattr(_import_module(f"workbench.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return _import_module(f"workbench.{name}")
        raise AttributeError(f"module 'workbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
