"""What each analysis found, in one line: the number that matters, with its interval."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from workbench.control_kinds import range_in_words
from workbench.few import n_averaged, too_few
from workbench.kept import kept_line
from workbench.labels import head_labels
from workbench.statistics.ranks import is_outside, rank_p_value

if TYPE_CHECKING:
    import xarray as xr

Results = Mapping[str, "xr.Dataset"]


def pca(results: Results, layer: int, position: int) -> str:
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
    return f"{kinds}: AUC {_value(at, 'auc')}; {text}"


def projections(results: Results, layer: int, position: int) -> str:
    """How well the chosen direction tells prompts apart that it was not estimated on."""
    at = results["projections"].sel(layer=layer)
    told = [f"{label} {_value(at.sel(group=label), 'auc')}" for label in at["group"].values]
    return f"AUC against {at.attrs['reference']} test prompts: {', '.join(told)}"


def cosines(results: Results, layer: int, position: int) -> str:
    """How alike the categories' directions are, and whether they are told from one."""
    from workbench.figures.geometry.pairs import (
        with_interval,  # plotly is not needed to read settings
    )

    at = results["cosines"].sel(layer=layer, position=position)
    text = f"mean over {n_averaged(at)} categories {_value(at, 'mean_cosine')}"
    if "mean_disattenuated" in at:
        text += f", without noise {with_interval(at, 'mean_disattenuated')}"
        p = float(at["mean_p_one_direction"])
        text += f", all one direction p = {p:.2g}" if p == p else ", too noisy to test for one"
    if "mean_null" in at:
        low, high = at["mean_null"].values[[0, -1]]
        text += f"; categories permuted {low:.2f} to {high:.2f}"
    return f"{text}; {few}" if (few := too_few(at)) else text


def angles(results: Results, layer: int, position: int) -> str:
    """How far the categories' subspaces overlap, against their own and random ones."""
    at = results["angles"].sel(layer=layer, position=position)
    return overlap_line(at)


def overlap_line(at: "xr.Dataset") -> str:
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


def cosmic(results: Results, layer: int, position: int) -> str:
    """What COSMIC picks, and how near it is to what the rule chose."""
    found = results["cosmic"]
    own, rule = found.attrs["pick"], found.attrs["rule"]
    after = ""
    if found.attrs.get("rule_scored_after", "prompt") != "prompt":
        after = "; COSMIC and its KL read the end of the prompt, the rule what follows thinking"
    score = _value(found.sel(layer=own[0], position=own[1]), "score")
    text = f"COSMIC picks layer {own[0]}, position {own[1]} (score {score}, 2 at most)"
    if own == rule:
        return f"{text}, as the rule does{after}"
    other = _value(found.sel(layer=rule[0], position=rule[1]), "score")
    cosine = float(found.attrs["cosine"])
    text += f"; the rule layer {rule[0]}, position {rule[1]} (score {other}"
    if why := found.attrs["rule_dropped"]:
        text += f", dropped by COSMIC: {why}"
    return f"{text}); cosine of the two {cosine:.2f}{after}"


def transfer(results: Results, layer: int, position: int) -> str:
    """How many causal blocks there are, and whether effects are symmetric."""
    at = results["transfer"].sel(mode="ablate")
    blocks = len({*at["block"].values.tolist()})
    text = f"{blocks} causal {'block' if blocks == 1 else 'blocks'} of {at.sizes['name']}"
    text += " directions when ablated"
    if "outside" in at:
        text += f"; {range_in_words(at)}"
    if "asymmetry" in at and float(at["asymmetry"]) == float(at["asymmetry"]):
        text += f"; asymmetry {_value(at, 'asymmetry')}"
        noise = float(at["asymmetry_noise"])
        text += f", by chance up to {noise:.2f}" if noise == noise else ", by chance not known"
    return text + _kept(at)


def transfer_rates(results: Results, layer: int, position: int) -> str:
    """What is still refused when each category's own direction is ablated, and what added does."""
    found = results["transfer_rates"]
    ablated = found["rate"].sel(mode="ablate").where(found["own"].astype(bool))
    own = ablated.max("name").dropna("category")
    plain = found["plain_rate"].sel(category=own["category"].values)
    text = f"refusal rate with the own direction ablated {_span(own, 'category', '.0%')}"
    text += f", plain {float(plain.min()):.0%} to {float(plain.max()):.0%}"
    if "harmless" in found["category"].values:
        added = found["rate"].sel(mode="add", category="harmless", drop=True)
        text += f"; of harmless prompts with a direction added {_span(added, 'name', '.0%')}"
    return text + _kept(found)


def vocabulary(results: Results, layer: int, position: int) -> str:
    """The tokens that the chosen direction promotes most."""
    at = results["vocabulary"].isel(name=0).sel(sign="promoted")
    tokens = ", ".join(repr(str(each)) for each in at["token"].values[:5])
    z, chance = float(at["z"].values[0]), float(at["chance_z"].max())
    text = f"promotes {tokens} (z {z:.1f}; {float(at.attrs['confidence']):.0%} of directions "
    text += f"without meaning stay below {chance:.1f})"
    return text if z > chance else f"{text}: no more than chance"


def concept(results: Results, layer: int, position: int) -> str:
    """How well the categories' directions detect their own, and how much of them is words."""
    at = results["concept"].sel(layer=layer, contrast="harmful")
    areas = at["auc"].dropna("name")
    words = at["words"].dropna("name")
    if not areas.size:
        return "no category to tell from others"
    return (
        f"AUC of the own category among harmful prompts {_span(areas, 'name', '.2f')}; "
        f"refusal words {_span(words, 'name', '.0%')}"
    )


def wording(results: Results, layer: int, position: int) -> str:
    """How many wordings there are, and whether they go with categories."""
    at = results["wording"]
    k = at.sizes["cluster"]
    text = f"{k} {'cluster' if k == 1 else 'clusters'} of {at.attrs['n']} refusals"
    if float(at["cramers_v"]) == float(at["cramers_v"]):
        text += f"; with categories Cramér's V {_value(at, 'cramers_v')}, "
        text += f"p = {float(at['p_value']):.2g}"
        if "residual_p" in at:
            told = int((at["residual_p"] <= 0.05).sum())
            text += f"; {told or 'no'} {'cell' if told == 1 else 'cells'} beyond chance, corrected"
    return text


def losses(results: Results, layer: int, position: int) -> str:
    """What ablating does to the loss, beside random vectors."""
    found = results["losses"]
    told = []
    for name in found["text_set"].values:
        at = found.sel(text_set=name)
        own = at.sel(condition="ablated")
        low, high = own["change_interval"].sel(bound=["low", "high"]).values
        text = f"{name} {float(at['loss'].sel(condition='plain')):.3g} nats per token, ablated "
        text += f"{float(own['change']):+.2g} "
        text += f"[{low:.2g}, {high:.2g}]" if low == low else "(no interval)"
        if "random_change" in at:
            beside = at.sel(edit="ablated")
            every, where = beside["random_change"].values, "outside their range"
            if not bool(beside["outside"]):
                where = "within their range: no finding"
            text += f", {every.size} random vectors {every.mean():+.2g} "
            text += f"[{every.min():.2g}, {every.max():.2g}]: {where}"
        told.append(text)
    return "; ".join(told)


def heads(results: Results, layer: int, position: int) -> str:
    """The heads with the largest effects, the smallest set found, and how the screen ranks."""
    patching, curve = results["head_patching"], results["head_set"]
    at = patching.isel(position=-1)
    effects = at["effect"].transpose("layer", "head").values
    layers, numbers = at["layer"].values, at["head"].values
    order = np.argsort(-np.abs(effects), axis=None)[:4]
    top = [
        f"{layers[row]}.{numbers[column]} {effects[row, column]:+.1f}"
        for row, column in zip(*np.unravel_index(order, effects.shape), strict=True)
    ]
    screen = results["head_screen"].isel(compared_position=-1)
    return (
        f"largest effects {', '.join(top)} {patching['effect'].attrs['units']}; {set_line(curve)}; "
        f"{screen_line(screen)}{_kept(patching)}"
    )


def screen_line(at: "xr.Dataset") -> str:
    """How the gradient screen ranks heads beside exact patching, at one position."""
    text = f"rank correlation of the gradient screen {_value(at, 'rank_correlation')} over "
    text += f"{at.attrs['n_cells']} heads, most of them noise"
    n = int(at["n_above_noise"])
    if float(at["rank_correlation_above_noise"]) != float(at["rank_correlation_above_noise"]):
        return f"{text}; too few effects told from zero ({n}) to rank those alone"
    value = _value(at, "rank_correlation_above_noise")
    return f"{text}; {value} over the {n} with an effect told from zero"


def set_line(curve: "xr.Dataset") -> str:
    """The set of heads that was found, its judged rate, and that of random sets."""
    names = head_labels(curve.attrs["heads"])
    at = curve.isel(size=-1)
    low, high = at["rate_interval"].sel(bound=["low", "high"]).values
    reached = "" if curve.attrs["reached"] else f"threshold {curve.attrs['threshold']:.0%} missed, "
    text = f"{len(curve.attrs['heads'])} together ({names}): {reached}refusal rate "
    text += f"{float(at['rate']):.0%} [{low:.0%}, {high:.0%}]"
    if n := curve.sizes["draw"]:
        every, own = curve["random_score"].isel(size=-1).values, float(at["score"])
        place = "outside" if bool(is_outside(own, every)) else "within"
        p = f"{float(rank_p_value(own, every)):.2g}".removeprefix("0")
        rate, sets = float(curve["random_rate"].mean()), "set" if n == 1 else "sets"
        text += f", its score {place} the range of {n} random {sets} "
        text += f"(two-sided p = {p}), refused {rate:.0%}"
    return f"{text}; {judged_on(curve)}"


def judged_on(curve: "xr.Dataset") -> str:
    """Whether the heads were chosen on other prompts than those that they are judged on."""
    n = curve.attrs["n_target"]
    if curve.attrs["held_out"]:
        return f"judged on {n} prompts, chosen on {curve.attrs['n_chosen_on']} others"
    return f"chosen and judged on the same {n} prompts, which flatters the set"


def _kept(found: "xr.Dataset") -> str:
    """How many test prompts are treated as their label says, where the result says it."""
    line = kept_line(found.attrs.get("test_prompts"))
    return f"; {line}" if line else ""


def _span(values: "xr.DataArray", axis: str, form: str) -> str:
    """The smallest and the largest value, and whose: a mean would hide how they differ."""
    low, high = int(values.values.argmin()), int(values.values.argmax())
    ends = [f"{float(values[i]):{form}} ({values[axis].values[i]})" for i in (low, high)]
    equal = float(values[low]) == float(values[high])
    return f"{float(values[low]):{form}} (all)" if equal else " to ".join(ends)


def _value(at: "xr.Dataset", name: str) -> str:
    """A number with its interval, where it has one."""
    value = float(at[name])
    if value != value:
        return "not measured"
    text = f"{value:.2f}"
    interval = f"{name}_interval"
    if interval not in at:
        return text
    low, high = at[interval].sel(bound=["low", "high"]).values
    return f"{text} [{low:.2f}, {high:.2f}]" if low == low else f"{text} (no interval)"
