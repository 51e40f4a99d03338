"""Analyses of what directions and refusals say: tokens, concepts, wordings."""

import xarray as xr

from workbench.analysis.meaning.concept import measure_concept
from workbench.analysis.meaning.vocabulary import logit_lens
from workbench.analysis.meaning.wording import cluster_refusals
from workbench.errors import StudyError
from workbench.models.thinking import answer_after_thinking
from workbench.scores.judges import judge_name
from workbench.study.controls import spread_of_training
from workbench.study.material import Material, together
from workbench.study.registry import Results
from workbench.written import estimated, span_of


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


def vocabulary_line(results: Results, layer: int, position: int) -> str:
    """The tokens that the chosen direction promotes most."""
    at = results["vocabulary"].isel(name=0).sel(sign="promoted")
    tokens = ", ".join(repr(str(each)) for each in at["token"].values[:5])
    z, chance = float(at["z"].values[0]), float(at["chance_z"].max())
    text = f"promotes {tokens} (z {z:.1f}; {float(at.attrs['confidence']):.0%} of directions "
    text += f"without meaning stay below {chance:.1f})"
    return text if z > chance else f"{text}: no more than chance"


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


def concept_line(results: Results, layer: int, position: int) -> str:
    """How well the categories' directions detect their own, and how much of them is words."""
    at = results["concept"].sel(layer=layer, contrast="harmful")
    areas = at["auc"].dropna("name")
    words = at["words"].dropna("name")
    if not areas.size:
        return "no category to tell from others"
    return (
        f"AUC of the own category among harmful prompts {span_of(areas, 'name', '.2f')}; "
        f"refusal words {span_of(words, 'name', '.0%')}"
    )


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
            model=material.model.name, judge=judge_name(study.judge), prompt_set="harmful"
        )
    }


def wording_line(results: Results, layer: int, position: int) -> str:
    """How many wordings there are, and whether they go with categories."""
    at = results["wording"]
    k = at.sizes["cluster"]
    text = f"{k} {'cluster' if k == 1 else 'clusters'} of {at.attrs['n']} refusals"
    if float(at["cramers_v"]) == float(at["cramers_v"]):
        text += f"; with categories Cramér's V {estimated(at, 'cramers_v', '.2f')}, "
        text += f"p = {float(at['p_value']):.2g}"
        if "residual_p" in at:
            told = int((at["residual_p"] <= 0.05).sum())
            text += f"; {told or 'no'} {'cell' if told == 1 else 'cells'} beyond chance, corrected"
    return text
