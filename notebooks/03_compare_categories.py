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
# # Comparing harm categories
#
# **Question.** Do all kinds of harm share one refusal direction, or are there several? Directions
# can point in different ways and do the same, or look alike and act apart, so geometry and causes
# are measured side by side.
#
# `pocket-two` is an organism with two planted mechanisms. Works on any model: change `MODEL` to a
# Hub id such as `"Qwen/Qwen2.5-1.5B-Instruct"` or to a folder, and run everything again.

# %%
MODEL = "pocket-two"

# %%
import numpy as np
from IPython.display import Markdown, display

import workbench as wb

N_TRAIN, N_TEST = 16, 6  # of each harm category

model = wb.load_model(MODEL)
model

# %% [markdown]
# ## One direction per category
#
# The difference of means of each category's prompts against the same harmless prompts. Activations
# are resampled while they are collected, which gives every cosine below its interval, its ceiling
# and what chance would give.

# %%
harmful, harmless = wb.load_prompts("harmful"), wb.load_prompts("harmless")
categories = sorted(set(harmful.categories))
n = len(categories)
train, _, test = harmful.split(train=N_TRAIN * n)
train0, _, test0 = harmless.split(train=N_TRAIN * n)
test, test0 = test.sample(N_TEST * n), test0.sample(N_TEST * n)
t_post = model.tokens(train).t_post

means = [
    wb.collect_activations(model, prompts, positions=[t_post], n_resamples=200)
    for prompts in (train, train0)
]
directions = wb.mean_difference(*means, by="category")
directions

# %% [markdown]
# ## How alike they are
#
# All categories are set against the same harmless prompts, which raises every cosine, and noise
# lowers it. So a cosine is read against its ceiling (what one shared direction would give with this
# much noise), and rid of noise it is read against 1. Categories permuted among the prompts ask
# something else: they give another mean also where directions are one and lengths differ.

# %%
cosines = wb.geometry.cosine_similarity_map(directions)
wb.figures.cosine_by_layer(cosines).show()

# %% [markdown]
# The layer at which the selection of the previous notebook reads the direction of all harmful
# prompts together:

# %%
together = wb.mean_difference(*means)
scores = wb.sweep_directions(model, together, harmful=test, harmless=test0)
layer = wb.select_direction(scores).layer
wb.figures.cosine_map(cosines, layer=layer).show()

# %% [markdown]
# ## What they do
#
# Each direction is ablated, and added, on prompts of every category: rows act, columns are acted
# upon. Lines part blocks of directions that do the same.

# %%
read = directions.at(layer=layer)
bands = [own.tolist() for own in np.array_split(np.arange(model.n_layers), 6)]
matrix = wb.transfer.measure_transfer(model, read, test, harmless=test0, windows=bands, judge=None)
wb.figures.transfer(matrix, "ablate").show()

# %%
wb.figures.transfer(matrix, "add").show()

# %% [markdown]
# In which layers? Each category's own direction, ablated inside one sixth of the layers only:

# %%
wb.figures.layer_bands(matrix).show()

# %% [markdown]
# ## What they say
#
# A direction may carry the concept of its category, or the words with which it is refused. To the
# right is words: the share of the direction that the unembedding turns into refusal tokens. Up is
# concept: how well it detects its own category among test prompts.

# %%
refusal_tokens = wb.find_refusal_tokens(model, train, train0)
unseen = wb.collect_activations(model, test + test0, positions=[t_post], per_prompt=True)
plane = wb.meaning.measure_concept(model, directions, unseen, refusal_tokens=refusal_tokens)
wb.figures.concept_or_words(plane).show()

# %%
wb.figures.vocabulary(wb.meaning.logit_lens(model, read), top=5).show()

# %% [markdown]
# ## What was found


# %%
at = cosines.sel(layer=layer).squeeze()
ablated = matrix.sel(mode="ablate")
blocks: dict[int, list[str]] = {}
for name in ablated["name"].values:
    blocks.setdefault(int(ablated["block"].sel(name=name)), []).append(str(name))


def mean_cosine(rows: list[str], columns: list[str]) -> float:
    """Mean cosine between two groups of categories, a category with itself left out."""
    values = at["cosine"].sel(name=rows, name_other=columns)
    return float(values.where(values["name"] != values["name_other"]).mean())


def block_line(own: list[str]) -> str:
    """What a block's directions do to its own categories and to the others, and what they say."""
    others = [each for each in categories if each not in own]
    effect = ablated["effect"].sel(name=own)
    line = f"- **{', '.join(own)}**: ablating one of them changes the refusal score of these by "
    line += f"{float(effect.sel(category=own).mean()):.1f} nats"
    if others:
        line += f", of the others by {float(effect.sel(category=others).mean()):.1f} nats; mean "
        line += f"cosine with the others {mean_cosine(own, others):.2f}"
    words = float(plane["words"].sel(name=own, layer=layer).mean())
    line += f"; with each other {mean_cosine(own, own):.2f}; {words:.0%} refusal words."
    return line


low, high = at["mean_cosine_interval"].values
null_low, null_high = at["mean_null"].values[[0, -1]]
one = float(at["mean_p_one_direction"])
display(
    Markdown(f"""
In `{MODEL}`, {n} categories with {N_TRAIN} training and {N_TEST} test prompts each, layer {layer}:

- the mean cosine between categories is **{float(at["mean_cosine"]):.2f}** [{low:.2f}, {high:.2f}];
  one shared direction would give {float(at["mean_ceiling"]):.2f} (p = {one:.2g} that it is one,
  whatever the lengths), categories permuted among the prompts {null_low:.2f} to {null_high:.2f};
- by what they do when ablated, the directions fall into **{len(blocks)}
  {"block" if len(blocks) == 1 else "blocks"}**:

{chr(10).join(block_line(own) for own in blocks.values())}

A random direction would have {plane.attrs["random_words"]:.0%} refusal words. Blocks are clusters
of effects on {N_TEST} prompts a category: with so few, read them beside the intervals that the
matrix shows on hover.
""")
)
