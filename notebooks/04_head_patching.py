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
# # Which heads carry refusal
#
# **Question.** Which attention heads bring it to the last token that a request is to be refused,
# and how few of them make the model refuse a harmless request?
#
# Works on any model: change `MODEL` to a Hub id such as `"Qwen/Qwen2.5-1.5B-Instruct"` or to a
# folder, and run everything again.

# %%
MODEL = "pocket"

# %%
import torch
from IPython.display import Markdown, display

import workbench as wb
from workbench.models.organisms import organism_card, organism_names

N_PROMPTS, N_TEST, N_HEADS = 48, 16, 8

model = wb.load_model(MODEL)
model

# %% [markdown]
# ## Patching every head alone
#
# Harmless prompts run with the output of one head, at the last token, replaced by its mean over
# harmful prompts; all else is recomputed. A head matters by how far that moves the refusal score.

# %%
harmful, _, test = wb.load_prompts("harmful").split(train=N_PROMPTS)
harmless, _, test0 = wb.load_prompts("harmless").split(train=N_PROMPTS)
test, test0 = test.sample(N_TEST), test0.sample(N_TEST)
t_post = model.tokens(harmful).t_post
patched = wb.patch_heads(model, harmful, harmless, positions=[t_post])
wb.figures.head_map(patched).show()

# %% [markdown]
# ## Who writes the direction
#
# The stream is a sum, so the projection on a direction splits exactly into what every head and MLP
# wrote along it. The direction is the difference of means at the last token, at the layer that the
# selection takes.

# %%
means = [wb.collect_activations(model, own, positions=[t_post]) for own in (harmful, harmless)]
directions = wb.mean_difference(*means)
choice = wb.select_direction(wb.sweep_directions(model, directions, harmful=test, harmless=test0))
direction = directions.at(layer=choice.layer)
written = wb.attribute_heads(model, test + test0, direction)
wb.figures.head_attribution(written).show()

# %% [markdown]
# Do the heads that write the direction also carry refusal? Up: patching it alone changes refusal.
# Right: it writes along the direction. A head can do one without the other.

# %%
wb.figures.head_board(patched, written).show()

# %% [markdown]
# ## How few are enough
#
# The heads of largest effect, patched together, one more at a time, on prompts that the ranking has
# not seen. Heads that stand in for each other do little alone and much together.

# %%
effect = patched["effect"].squeeze(drop=True)
heads = list(effect.to_series().nlargest(N_HEADS).index)  # (layer, head), the largest first
z = wb.collect_activations(model, harmful, site="z", positions=[t_post]).mean()
z = z.unflatten(-1, (model.n_heads, model.d_head))  # [layer position head d_head]
refusal_tokens = wb.refusal_tokens(model, harmful, harmless)
scores, refused = [], []
for k in range(N_HEADS + 1):
    values = [z[layer, :, head] for layer, head in heads[:k]]
    edits = [wb.PatchHeads(tuple(heads[:k]), torch.stack(values), (t_post,))] if k else []
    with wb.intervene(model, *edits):
        scores.append(wb.refusal_score(model.logits(test0), refusal_tokens).mean().item())
        replies = model.generate(test0, max_new_tokens=24)
    refused.append(wb.refusal_rate(wb.judge(replies, prompts=test0.texts)).rate)
    print(f"{k} heads: refusal score {scores[-1]:6.2f} nats, {refused[-1]:4.0%} refused")

# %% [markdown]
# ## Where they look

# %%
view = wb.head_attention(model, test + test0, heads[:4], position=t_post)
wb.figures.head_attention(view).show()

# %% [markdown]
# ## What was found

# %%
named = [f"{layer}.{head}" for layer, head in heads]
enough = next((k for k, rate in enumerate(refused) if rate > 0.5), None)
said = f"{enough} heads make the model refuse more than half of them"
if enough is None:
    said = f"not even {N_HEADS} heads make it refuse half of them"

writes = written["contribution"].sel(group="difference", drop=True).to_series()
writer = "{}.{}".format(*writes.idxmax())

known = ""
if MODEL in organism_names():
    components = organism_card(MODEL).get("planted", {}).get("components", {}).values()
    planted = {f"{layer}.{head}" for own in components for layer, head in own["heads"]}
    hits = [name for name in named if name in planted]
    known = f"- {len(hits)} of the {len(planted)} heads that were planted are among these "
    known += f"{N_HEADS}: {', '.join(hits)}."

text = f"""
In `{MODEL}`, {len(harmless)} harmless prompts with a plain refusal score of
{patched.attrs["plain"]:.1f} nats:

- patched alone, the heads that move it most are **{", ".join(named[:4])}** (layer.head), by at most
  {float(effect.max()):.1f} nats;
- of {len(test0)} unseen harmless prompts {refused[0]:.0%} are refused plainly; patched together,
  **{said}**, and all {N_HEADS} move the score from {scores[0]:.1f} to {scores[-1]:.1f} nats;
- the head that writes most along the direction of layer {choice.layer} is **{writer}**,
  {writes.max():.2f} more for harmful prompts than for harmless ones, in units of the activations.
{known}

A set found by ranking single effects is small, not smallest: heads that only act together are
ranked low.
"""
display(Markdown(text))
