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
from IPython.display import Markdown, display

import workbench as wb
from workbench.models.organisms import organism_card, organism_names

N_PROMPTS, N_TEST = 48, 16

model = wb.load_model(MODEL)
model

# %% [markdown]
# ## Patching every head alone
#
# Harmless prompts run with the output of one head, at the last token, replaced by its mean over
# harmful prompts; all else is recomputed. A head matters by how far that moves the refusal score.

# %%
harmful, valid, test = wb.load_prompts("harmful").split(train=N_PROMPTS, validation=N_TEST)
harmless, valid0, test0 = wb.load_prompts("harmless").split(train=N_PROMPTS, validation=N_TEST)
test, test0 = test.sample(N_TEST), test0.sample(N_TEST)
t_post = model.tokens(harmful).t_post
patched = wb.heads.patch_heads(model, harmful, harmless, positions=[t_post])
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
choice = wb.select_direction(wb.sweep_directions(model, directions, harmful=valid, harmless=valid0))
direction = directions.at(layer=choice.layer)
written = wb.heads.direct_attribution(model, direction, test + test0)
wb.figures.head_attribution(written).show()

# %% [markdown]
# Do the heads that write the direction also carry refusal? Up: patching it alone changes refusal.
# Right: it writes along the direction. A head can do one without the other.

# %%
wb.figures.head_board(patched, written).show()

# %% [markdown]
# ## How few are enough
#
# One head after the other joins a patch of all chosen so far, always the one that moves the refusal
# score of the validation prompts most, until nearly all replies to the test prompts are refusals:
# heads are judged on prompts that they were not chosen on, as random ones are. Only where to stop
# is read off the replies to the test prompts themselves.
# Heads that stand in for each other do little alone and much together, so the sum of single effects
# stands beside the joint effect. As many random heads say what chance would do.

# %%
chosen = wb.heads.find_minimal_head_set(
    model, harmful, valid0, judged=test0, n_random=8, max_new_tokens=24
)
table = chosen[["layer", "head", "score", "effect", "sum_of_singles", "rate"]].to_dataframe()
table.iloc[1:].round(2)

# %% [markdown]
# ## Where they look
#
# Attention of these heads from the last token: on the words of the request, or on the template.

# %%
heads = [(int(layer), int(head)) for layer, head in chosen.attrs["heads"]]
view = wb.heads.collect_attention(model, heads, test + test0, position=t_post)
wb.figures.head_attention(view).show()

# %% [markdown]
# ## What was found

# %%
named = ", ".join(f"{layer}.{head}" for layer, head in heads)
effect = patched["effect"].squeeze(drop=True).to_series()
writes = written["contribution"].sel(group="difference", drop=True).to_series()
first, last = chosen.isel(size=0), chosen.isel(size=-1)
low, high = last["rate_interval"].values

known = ""
if MODEL in organism_names():
    components = organism_card(MODEL).get("planted", {}).get("components", {}).values()
    planted = {(layer, head) for own in components for layer, head in own["heads"]}
    known = f"- {len(planted & set(heads))} of these {len(heads)} heads are among the "
    known += f"{len(planted)} that were planted."

display(
    Markdown(f"""
In `{MODEL}`, {len(harmless)} harmless prompts with a plain refusal score of
{patched.attrs["plain"]:.1f} nats:

- patched alone, no head moves it by more than {effect.max():.1f} nats
  (head {"{}.{}".format(*effect.idxmax())}, written layer.head);
- patched together, the {len(heads)} heads **{named}**, chosen on other prompts, take
  {len(test0)} harmless test prompts from {float(first["rate"]):.0%} to
  **{float(last["rate"]):.0%}** refused
  [{low:.0%}, {high:.0%}], and the score from {float(first["score"]):.1f} to
  {float(last["score"]):.1f} nats; with as many random heads
  {float(chosen["random_rate"].mean()):.0%} are refused;
- the head that writes most along the direction of layer {choice.layer} is
  {"{}.{}".format(*writes.idxmax())}: {writes.max():.2f} more for harmful prompts than for harmless
  ones, in units of the activations.
{known}

The set is found greedily: a smaller one may exist. That a patch induces refusal shows that these
heads suffice, not that refusal needs them.
""")
)
