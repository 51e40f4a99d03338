"""The numbers that each figure of a run draws, for its table: one function per figure."""

from typing import Any

import xarray as xr

from workbench.figures.candidates import SCORES
from workbench.figures.head_attention import shown_prompts
from workbench.figures.head_maps import attribution_group
from workbench.figures.tidy import drawn

_SCORES = (*SCORES, "kl_median", "kl_max")
_PAIRS = ("cosine", "disattenuated", "ceiling", "p_one_direction", "p_permuted", "reliability")


def candidates(run: Any) -> xr.Dataset:
    """The sweep with what it is read against: no intervention, the thresholds, the choice."""
    against = {
        name: run.scores.attrs[name]
        for name in ("harmful_baseline", "harmless_baseline")
        if name in run.scores.attrs
    }
    against |= getattr(run.choice, "settings", None) or {}
    against |= {"chosen_layer": run.choice.layer, "chosen_position": run.choice.position}
    singles = {name: value for name, value in against.items() if isinstance(value, int | float)}
    return drawn(run.scores, *_SCORES).assign(singles)


def held_out(run: Any) -> xr.Dataset:
    """The chosen candidate and its runners-up on test prompts, and what chose them."""
    return drawn(run.held_out, *_SCORES, *(f"chosen_by_{name}" for name in SCORES))


def cosmic(run: Any) -> xr.Dataset:
    """COSMIC's scores of every candidate."""
    return drawn(run.results["cosmic"], "score", "refuse", "comply", "kl")


def rates(run: Any) -> xr.Dataset:
    """Refusal rates by condition."""
    return drawn(
        run.effects, "refusal_rate", "n", "difference", "gained", "lost", "p_value", "p_holm"
    )


def controls(run: Any) -> xr.Dataset:
    """What controls and the direction do to refusal scores and rates."""
    names = ("effect", "control_effect", "outside", "p_value", "plain_score")
    return drawn(run.controls, *names, "judged_rate", "control_rate")


def losses(run: Any) -> xr.Dataset:
    """Losses and their changes by condition."""
    return drawn(run.results["losses"], "change", "loss", "perplexity", "n")


def projections(run: Any) -> xr.Dataset:
    """Single prompts, from which the histograms are counted."""
    return _without_text(drawn(run.results["projections"], "projection", "auc"))


def components(run: Any) -> xr.Dataset:
    """Single prompts on the components."""
    return _without_text(drawn(run.results["pca"], "score", "explained_variance", "auc"))


def pairs_at_choice(run: Any) -> xr.Dataset:
    """Cosines between categories where the run chose."""
    return drawn(at_choice(run, "cosines"), *_PAIRS)


def pairs_by_layer(run: Any) -> xr.Dataset:
    """Cosines between categories at every layer."""
    return drawn(run.results["cosines"], "cosine", "mean_cosine")


def mean_pairs(run: Any) -> xr.Dataset:
    """Means over pairs of categories, with what they are read against."""
    names = (
        "mean_cosine",
        "mean_disattenuated",
        "mean_ceiling",
        "mean_null",
        "mean_p_one_direction",
    )
    return drawn(run.results["cosines"], *names)


def between_layers(run: Any) -> xr.Dataset:
    """Cosines between layers."""
    return drawn(run.results["cosines_between_layers"], *_PAIRS)


def between_positions(run: Any) -> xr.Dataset:
    """Cosines between positions."""
    return drawn(run.results["cosines_between_positions"], *_PAIRS)


def transfer(run: Any, mode: str) -> xr.Dataset:
    """What one mode does to every category."""
    at = run.results["transfer"].sel(mode=mode, drop=True)
    names = ("effect", "plain_score", "n", "block", "category_block")
    return drawn(at, *names, "random_effect", "outside", "p_value")


def transfer_rates(run: Any, mode: str) -> xr.Dataset:
    """How much of every category is judged refused under one mode."""
    at = run.results["transfer_rates"].sel(mode=mode, drop=True)
    return drawn(at, "rate", "plain_rate", "n", "block", "category_block")


def own_windows(run: Any) -> xr.Dataset:
    """What each direction does inside windows to the categories that it stands for."""
    found = run.results["transfer"]
    windows = drawn(found, "window_effect").where(found["own"].astype(bool))
    return windows.assign(drawn(found, "plain_score", "n"))


def vocabulary(run: Any) -> xr.Dataset:
    """The ten strongest tokens of either sign."""
    return drawn(run.results["vocabulary"].sel(rank=slice(None, 10)), "z", "token", "chance_z")


def concept(run: Any) -> xr.Dataset:
    """Detection against all others, and the share of words."""
    return drawn(run.results["concept"].sel(contrast="all", drop=True), "auc", "words")


def wording(run: Any) -> xr.Dataset:
    """Clusters by category, and how well their number is chosen."""
    names = ("count", "residual", "residual_p", "wording", "silhouette", "stability")
    return drawn(run.results["wording"], *names)


def head_effects(run: Any) -> xr.Dataset:
    """Every head patched alone."""
    return drawn(run.results["head_patching"], "effect")


def head_set(run: Any) -> xr.Dataset:
    """Sets of heads by size."""
    names = ("score", "rate", "effect", "sum_of_singles", "random_score", "random_rate")
    return drawn(run.results["head_set"], *names, "layer", "head")


def head_writes(run: Any) -> xr.Dataset:
    """What components write along the direction, of the group that is drawn."""
    at, _ = attribution_group(run.results["head_attribution"], None)
    names = ("contribution", "mlp_contribution", "bias_contribution", "embed_contribution")
    return drawn(at, *names)


def head_board(run: Any) -> xr.Dataset:
    """Effects and writes of heads side by side."""
    both = [head_effects(run), drawn(head_writes(run), "contribution")]
    return xr.merge(both, join="outer", compat="override")


def head_attention(run: Any) -> xr.Dataset:
    """Shares of attention by label, and the single prompts that are drawn below them."""
    view = run.results["head_attention"]
    single = drawn(view, "attention", "token_text").sel(prompt=shown_prompts(view))
    labels = view.sel(group=view["group"] != "difference")
    return drawn(labels, "mass", "first_token").assign(single)


def at_choice(run: Any, result: str) -> xr.Dataset:
    """A map of cosines at the chosen layer and position, whichever of them it still has."""
    cosines = run.results[result]
    place = {"layer": run.choice.layer, "position": run.choice.position}
    return cosines.sel({axis: [at] for axis, at in place.items() if axis in cosines["cosine"].dims})


def _without_text(dataset: xr.Dataset) -> xr.Dataset:
    """A prompt is named by its id: tables are passed around, and prompts are not all harmless."""
    return dataset.drop_vars(["text", "category"], errors="ignore")
