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
# # Sweeping for the refusal direction
#
# **Question.** Is there one direction in the residual stream without which the model stops
# refusing, and with which it refuses everything? At which layer and token is it read best?
#
# Works on any model: change `MODEL` to a Hub id such as `"Qwen/Qwen2.5-1.5B-Instruct"` or to a
# folder, and run everything again.

# %%
MODEL = "pocket"

# %%
from IPython.display import Markdown, display

import workbench as wb

N_TRAIN, N_VALIDATION, N_TEST = 96, 24, 24  # of either kind

model = wb.load_model(MODEL)
model

# %% [markdown]
# ## Candidates
#
# The difference between the mean activation of harmful and of harmless prompts, at every layer and
# every post-instruction token, is a candidate. As in the paper, a prompt that the model does not
# treat as its label says is left out: harmful ones that it answers, harmless ones that it refuses.

# %%
split = {
    label: wb.load_prompts(label).split(train=N_TRAIN, validation=N_VALIDATION)
    for label in ("harmful", "harmless")
}
refusal_tokens = wb.find_refusal_tokens(model, split["harmful"][0], split["harmless"][0])
print("refusals begin with", [model.tokenizer.decode([token]) for token in refusal_tokens])


def treated_as(label: str, prompts: wb.PromptSet) -> wb.PromptSet:
    """The prompts that the model refuses, if harmful, or answers, if harmless."""
    refused = wb.refusal_score(model.logits(prompts), refusal_tokens) > 0
    keep = refused if label == "harmful" else ~refused
    rows = zip(prompts, keep.tolist(), strict=True)
    return wb.PromptSet(tuple(prompt for prompt, kept in rows if kept), name=prompts.name)


train, validation = (
    {label: treated_as(label, parts[part]) for label, parts in split.items()} for part in (0, 1)
)
test = {label: parts[2].sample(N_TEST) for label, parts in split.items()}
{label: (len(train[label]), len(validation[label]), len(test[label])) for label in split}

# %%
positions = model.tokens(train["harmful"]).post_instruction
means = {
    label: wb.collect_activations(model, prompts, positions=positions)
    for label, prompts in train.items()
}
directions = wb.mean_difference(means["harmful"], means["harmless"])
directions

# %% [markdown]
# ## The sweep
#
# Every candidate is tried on prompts that it was not estimated on. *Bypass*: the refusal score of
# harmful prompts with the direction ablated everywhere, which should be low. *Induce*: that of
# harmless prompts with it added at its layer, which should be high. *KL*: how much the ablation
# changes what the model says to harmless prompts, which should be small.

# %%
scores = wb.sweep_directions(
    model,
    directions,
    harmful=validation["harmful"],
    harmless=validation["harmless"],
    refusal_tokens=refusal_tokens,
)
choice = wb.select_direction(scores)
wb.figures.sweep(scores, choice).show()

# %%
wb.figures.selection_plane(scores, choice).show()

# %% [markdown]
# The best candidates, and why others were dropped. Neighbours whose intervals overlap are equally
# good by this evidence; the choice between them is arbitrary.

# %%
choice.table[["layer", "position", "bypass", "induce", "kl", "dropped"]].head(8).round(3)

# %% [markdown]
# ## What the direction does to replies
#
# On test prompts, which no step so far has seen: plain, with the direction ablated, with it added,
# and with the projection on it set to the mean of harmful prompts.

# %%
direction = directions.at(layer=choice.layer, position=choice.position)
replies = wb.collect_completions(
    model, direction, test, projection=wb.mean_projection(direction, means["harmful"])
)
rates = wb.selection.refusal_rates(replies).assign_attrs(
    model=MODEL, layer=choice.layer, position=choice.position
)
wb.figures.effects(rates).show()

# %% [markdown]
# Read some before trusting a rate: a judge reads words, and a reply that is not a refusal need not
# be a good one.

# %%
replies.groupby(["prompt_set", "condition"], sort=False).head(1)[
    ["prompt_set", "condition", "prompt", "reply", "verdict"]
]

# %% [markdown]
# ## What was found


# %%
def row(label: str) -> str:
    """The refusal rates of one set of prompts under every condition, with their intervals."""
    cells = rates.sel(prompt_set=label)
    values = zip(cells["refusal_rate"].values, cells["refusal_rate_interval"].values, strict=True)
    written = [f"{rate:.0%} [{low:.0%}, {high:.0%}]" for rate, (low, high) in values]
    return f"| {label} prompts refused | {' | '.join(written)} |"


passed = int((choice.table["dropped"] == "").sum())
kl = float(scores["kl"].sel(layer=choice.layer, position=choice.position))
conditions = list(rates["condition"].values)
display(
    Markdown(f"""
In `{MODEL}`, {passed} of {len(choice.table)} candidates passed the selection. It takes layer
**{choice.layer}** of 0..{model.n_layers - 1} and position **{choice.position}** of {positions}.

| | {" | ".join(conditions)} |
|---|{"---|" * len(conditions)}
{row("harmful")}
{row("harmless")}

Ablating the direction changes the next token of harmless prompts by a KL of {kl:.2g} nats. Where
the first row falls under *ablated*, refusals need this direction; where the second rises under
*added* or *projection set*, it suffices for them. Neither shows that no other direction would do.
""")
)
