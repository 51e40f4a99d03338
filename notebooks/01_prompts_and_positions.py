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
# # Prompts and positions
#
# **Question.** A chat model reads a request inside a template. At which tokens, and from which
# layer on, does its residual stream tell harmful requests from harmless ones?
#
# Works on any model: change `MODEL` to a Hub id such as `"Qwen/Qwen2.5-1.5B-Instruct"` or to a
# folder, and run everything again.

# %%
MODEL = "pocket"

# %%
from IPython.display import Markdown, display

import workbench as wb

N_PROMPTS = 96  # of either kind

model = wb.load_model(MODEL)
model

# %% [markdown]
# ## The prompts
#
# The built-in sets are written in general words; each harmful prompt has a harm category.
# `wb.load_prompts` also takes benchmarks and files of your own.

# %%
harmful = wb.load_prompts("harmful").sample(N_PROMPTS)
harmless = wb.load_prompts("harmless").sample(N_PROMPTS)
table = harmful.to_dataframe()
display(table.groupby("category").head(1)[["category", "text"]])
display(harmless.to_dataframe()[["text"]].head(3))
table["category"].value_counts().to_frame("harmful prompts")

# %% [markdown]
# ## The positions
#
# Positions are counted from the end of the rendered prompt. What the template puts after the user's
# words are the *post-instruction tokens*: they are the same in every prompt, so whatever the model
# knows about the request there, attention has carried to them. `t_inst` is the last token of the
# request itself, `t_post` the last token of all, where the reply begins. Both are found from the
# template.

# %%
tokens = model.tokens(harmful)
print(model.tokenizer.decode(tokens.ids[0][tokens.mask[0]]))
for position in (tokens.t_inst, *tokens.post_instruction):
    name = {tokens.t_inst: "t_inst", tokens.t_post: "t_post"}.get(position, "")
    print(f"{position:4d}  {name:7s} {model.tokenizer.decode(tokens.ids[0, position].item())!r}")

# %% [markdown]
# ## What can be told apart where
#
# The activations of every prompt, at these positions of every layer. PCA knows nothing of the
# labels: where the colours part, harmful and harmless is among what varies most.

# %%
activations = [
    wb.collect_activations(model, prompts, per_prompt=True) for prompts in (harmful, harmless)
]
projection = wb.geometry.pca_projection(activations)
wb.figures.pca(projection, position=tokens.t_inst).show()

# %%
wb.figures.pca(projection, position=tokens.t_post).show()

# %% [markdown]
# The area under the ROC curve (AUC) asks for a linear separation along the difference of means,
# estimated on one half of the prompts and measured on the other: 1 is perfect, 0.5 is chance. At
# the first layer a template token is the same in every prompt, so there is nothing to measure.

# %%
auc = projection["auc"]
auc.to_pandas().round(2)

# %% [markdown]
# ## Is it the same direction at every token?
#
# Cosines between the differences of means at the positions of one layer: the one at which the
# labels separate best at `t_post`. Resampling the activations gives the intervals.

# %%
best = int(auc.sel(position=tokens.t_post).idxmax("layer"))
resampled = [each.with_resamples(200) for each in activations]
directions = wb.mean_difference(*resampled)
between = wb.geometry.cosine_similarity_map(directions.at(layer=best), over="position")
wb.figures.cosine_map(between).show()

# %% [markdown]
# ## What was found


# %%
def first_layer(position: int, level: float = 0.9) -> str:
    """The first layer whose AUC reaches a level."""
    reached = auc["layer"].values[auc.sel(position=position).values >= level]
    return f"from layer {reached[0]} on" if len(reached) else "at no layer"


pair = between.squeeze().sel(position=tokens.t_inst, position_other=tokens.t_post)
low, high = pair["cosine_interval"].values
display(
    Markdown(f"""
In `{MODEL}`, with {len(harmful)} harmful and {len(harmless)} harmless prompts:

- at `t_inst` ({tokens.t_inst}) harmful and harmless separate with an AUC of at least 0.9
  **{first_layer(tokens.t_inst)}** (highest {float(auc.sel(position=tokens.t_inst).max()):.2f});
- at `t_post` ({tokens.t_post}) they do **{first_layer(tokens.t_post)}**
  (highest {float(auc.sel(position=tokens.t_post).max()):.2f}, layer {best}; the highest of
  {auc.sizes["layer"]} layers flatters itself a little);
- at layer {best}, the direction at `t_inst` and the one at `t_post` have a cosine of
  **{float(pair["cosine"]):.2f}** [{low:.2f}, {high:.2f}].

That labels separate along a direction shows that the information is there. Whether the model
*uses* it to refuse is a causal question: the next notebook intervenes.
""")
)
