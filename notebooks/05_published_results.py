# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Published results
#
# **Question.** What do the files that others published say when they are read, selected and drawn
# with the same functions as our own results, and how does a model at hand compare?
#
# `PUBLISHED` is a folder with any of
#
# - runs of Arditi et al. 2024, "Refusal in Language Models Is Mediated by a Single Direction": the
#   folders `pipeline/runs/MODEL` of github.com/andyrdt/refusal_direction;
# - direction files of Zhao et al. 2025, "LLMs Encode Harmfulness and Refusal Separately": the files
#   `qwen-hf-dir-CATEGORY.pt` of github.com/CHATS-lab/LLMs_Encode_Harmfulness_Refusal_Separately.
#
# What is not there is left out. The model at hand can be any: a shipped one, a Hub id such as
# `"Qwen/Qwen2.5-1.5B-Instruct"`, or a folder.

# %%
MODEL = "pocket"
PUBLISHED = "../../shared/data/published"

# %%
from pathlib import Path

from IPython.display import Markdown, display

import workbench as wb
from workbench.gallery import published_results

found = dict(published_results(PUBLISHED)) if Path(PUBLISHED).is_dir() else {}
if not found:
    print(f"There is no folder {PUBLISHED}. Set PUBLISHED to one that holds the files named above.")
list(found)

# %% [markdown]
# ## Which direction did they select, and would we?
#
# The published runs hold the scores of every candidate. Our selection runs on those scores, with
# the paper's thresholds.

# %%
runs = {name: each for name, each in found.items() if each.scores is not None and each.choice}
ours = {name: wb.select_direction(each.scores) for name, each in runs.items()}
for name, each in runs.items():
    wb.figures.sweep(each.scores, each.choice).show()
    display(ours[name].table[["layer", "position", "bypass", "induce", "kl", "dropped"]].head(4))

# %% [markdown]
# Are the first two one direction, read at two places? Their cosine:

# %%
first_two = {
    name: [
        each.directions.at(layer=row.layer, position=row.position)
        for row in ours[name].table.head(2).itertuples()
    ]
    for name, each in runs.items()
    if each.directions is not None
}
cosines = {
    name: float(first.unit().vector @ second.unit().vector)
    for name, (first, second) in first_two.items()
}
cosines

# %% [markdown]
# ## What did the direction do to replies?
#
# The published replies, judged again: by the twelve published substrings, as in the paper, by our
# rules, and by both rules and classifier, the default. A rate is that of the file: some hold only
# part of the replies.

# %%
refused = {
    (name, file): {
        judge: wb.scores.refusal_rate(wb.judge(list(replies["response"]), judge=judge))
        for judge in ("substring", "rules", "combined")
    }
    for name, each in runs.items()
    for file, replies in (each.completions or {}).items()
}
for (name, file), by_judge in refused.items():
    rates = ", ".join(f"{judge} {rate.rate:.0%}" for judge, rate in by_judge.items())
    print(f"{name}, {file}, n = {len(runs[name].completions[file])}: refused {rates}")

# %% [markdown]
# ## How alike are harm categories?
#
# Published directions by category, and those of the model at hand, each read at `t_inst`. The
# published files hold no prompts, so their cosines have neither interval nor ceiling.

# %%
published = {
    name: wb.geometry.cosine_similarity_map(
        each.directions.at(name=[own for own in each.directions.names if own != "overall"])
    )
    for name, each in found.items()
    if each.directions is not None and len(each.directions.names) > 2
}
for each in published.values():
    wb.figures.cosine_by_layer(each).show()
    wb.figures.cosine_map(each, layer=each.sizes["layer"] // 2).show()

# %%
N_PROMPTS = 96  # of either kind

model = wb.load_model(MODEL)
prompts = [wb.load_prompts(label).sample(N_PROMPTS) for label in ("harmful", "harmless")]
t_inst = model.tokens(prompts[0]).t_inst
means = [
    wb.collect_activations(model, each, positions=[t_inst], n_resamples=200) for each in prompts
]
own = wb.geometry.cosine_similarity_map(wb.mean_difference(*means, by="category"))
wb.figures.cosine_by_layer(own).show()

# %% [markdown]
# ## What was found


# %%
def middle(cosines: object) -> str:
    """Mean cosine between categories in the middle layer, and the lowest and highest pair."""
    layer = int(cosines["layer"][cosines.sizes["layer"] // 2])
    at = cosines.sel(layer=layer).squeeze()
    pairs = at["cosine"].where(at["name"] != at["name_other"])
    return (
        f"{float(at['mean_cosine']):.2f} at layer {layer} of 0..{int(cosines['layer'][-1])} "
        f"(pairs {float(pairs.min()):.2f} to {float(pairs.max()):.2f})"
    )


lines = [
    f"- `{name}` selected layer {each.choice.layer}, position {each.choice.position}; our "
    f"selection on the same scores takes layer {ours[name].layer}, position {ours[name].position}."
    for name, each in runs.items()
]
lines += [
    f"- `{name}`: the runner-up, layer {second.layers[0]}, position {second.positions[0]}, has a "
    f"cosine of {cosines[name]:.3f} with it."
    for name, (_, second) in first_two.items()
]
lines += [
    f"- `{name}`, {file}: {rates['substring'].rate:.0%} of the replies refused by substring, "
    f"{rates['rules'].rate:.0%} by rules."
    for (name, file), rates in refused.items()
]
lines += [
    f"- `{name}`: mean cosine between categories {middle(each)}."
    for name, each in published.items()
]
lines.append(f"- `{MODEL}`, for comparison: {middle(own)}, {N_PROMPTS} prompts of either kind.")
lines.append(
    "- Models, prompts and harm categories differ, and the published files say nothing of noise: "
    "the cosines show an order of size, not which model has more shared a direction."
)
if not found:
    lines.append("- Nothing published was compared: the files were not there.")
display(Markdown("\n".join(lines)))
