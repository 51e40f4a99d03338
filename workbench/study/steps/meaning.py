"""Analyses of what directions and refusals say: tokens, concepts, wordings."""

import xarray as xr

from workbench.analysis.meaning.concept import measure_concept
from workbench.analysis.meaning.vocabulary import logit_lens
from workbench.analysis.meaning.wording import cluster_refusals
from workbench.errors import StudyError
from workbench.models.thinking import answer_after_thinking
from workbench.study.controls import spread_of_training
from workbench.study.material import Material, together


def vocabulary(material: Material) -> dict[str, xr.Dataset]:
    """Tokens of the chosen direction, and of the categories' there where there are any."""
    read = [material.direction]
    try:
        read.append(
            material.category_directions.at(layer=material.layer, position=material.position)
        )
    except StudyError:
        pass  # prompts without categories have one direction only, and it has its tokens
    return {
        "vocabulary": logit_lens(
            material.model,
            read,
            activations=spread_of_training(material),
            confidence=material.study.confidence,
            seed=material.study.seed,
        )
    }


def concept(material: Material) -> dict[str, xr.Dataset]:
    """Detection of each category among test prompts, against refusal words."""
    return {
        "concept": measure_concept(
            material.model,
            material.directions_of(material.test["harmful"]),
            together(material.test_activations),
            refusal_tokens=material.refusal_tokens,
            confidence=material.study.confidence,
            seed=material.study.seed,
        )
    }


def wording(material: Material) -> dict[str, xr.Dataset]:
    """Clusters of the harmful prompts' replies that were refused without an intervention.

    Borderline prompts have categories of the same names, and would be counted among them.
    """
    study, every = material.study, material.replies
    rows = (every["prompt_set"] == "harmful") & (every["condition"] == "plain")
    replies = every.loc[rows].reset_index(drop=True)
    first_tokens = None
    # Where the model thinks, the first token of a reply is not that of its answer.
    if all(answer_after_thinking(reply) == reply for reply in replies["reply"]):
        logits = material.model.logits(replies["prompt"].tolist(), study.system)
        first_tokens = logits.double().softmax(-1).numpy()
    found = cluster_refusals(
        replies,
        first_tokens=first_tokens,
        confidence=study.confidence,
        seed=study.seed,
    )
    return {
        "wording": found.assign_attrs(
            model=material.model.name, judge=study.judge, prompt_set="harmful"
        )
    }
