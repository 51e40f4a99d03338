"""Find, compare and causally test the directions that make a chat model refuse.

>>> import workbench as wb
>>> wb.load_prompts("harmful").sample(2).labels
('harmful', 'harmful')

Names are loaded on first use, so that importing the package is cheap.
"""

from importlib import import_module as _import_module
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
    "load_model": "models.load",
    "HookedModel": "models.load",
    "verify_model": "models.verify",
    "Tokens": "models.tokens",
    "Activations": "activations",
    "collect_activations": "activations",
    "Directions": "directions.direction",
    "mean_difference": "directions.estimate",
    "pca_direction": "directions.estimate",
    "probe_direction": "directions.estimate",
    "orthogonalize": "directions.geometry",
    "cosine_similarity_map": "directions.cosines",
    "principal_angles": "directions.subspaces",
    "subspace_overlaps": "directions.subspaces",
    "load_published": "directions.published",
    "load_sae": "directions.sae",
    "SparseAutoencoder": "directions.sae",
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
    "refusal_rate": "scores.judges",
    "pca_projection": "analysis.pca",
    "sweep_directions": "analysis.sweep",
    "select_direction": "analysis.selection",
    "answer_with_and_without": "analysis.effects",
    "refusal_rates": "analysis.effects",
    "search_direction": "analysis.search",
    "patch_heads": "analysis.head_patching",
    "patch_sites": "analysis.head_patching",
    "minimal_head_set": "analysis.head_sets",
    "Choice": "analysis.selection",
    "rank_features": "analysis.features",
    "project_prompts": "analysis.projections",
    "transfer_matrix": "analysis.transfer",
    "attribute_heads": "analysis.head_attribution",
    "screen_heads": "analysis.head_screen",
    "head_attention": "analysis.head_attention",
    "read_vocabulary": "analysis.vocabulary",
    "concept_or_words": "analysis.concept",
    "cluster_refusals": "analysis.wording",
    "Study": "study.settings",
    "run_study": "study.run",
    "load_run": "study.results",
    "Run": "study.results",
    "write_report": "report.page",
    "explore": "explorer.open",
    "compare_directions": "study.compare",
}
_MODULES = ("figures",)

__all__ = sorted([*_HOMES, *_MODULES, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


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
