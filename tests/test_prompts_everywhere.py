"""Whatever is taken for prompts is taken by every function, with the same numbers."""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench.errors import PromptError

BAD = ["How far is the sea?", "Name a colour.", "What a day"]
GOOD = ["42 plus 7", "Is the tea cold?", "Tell me more"]
REFUSAL = (17, 40)


def as_set(texts, label):
    kinds = ("a", "b", "a")
    return wb.PromptSet(
        tuple(wb.Prompt(f"{label}{n}", text, label, kinds[n]) for n, text in enumerate(texts))
    )


SETS = {"harmful": as_set(BAD, "harmful"), "harmless": as_set(GOOD, "harmless")}
FRAMES = {label: prompts.to_dataframe() for label, prompts in SETS.items()}
KINDS = {
    "a DataFrame": lambda label: FRAMES[label],
    "a Dataset": lambda label: datasets.Dataset.from_pandas(FRAMES[label]),
    "Prompts": lambda label: list(SETS[label]),
}


def direction(model):
    vector = torch.linspace(-1, 1, model.d_model)[None, None, None]
    return wb.Directions(vector, ("a",), (1,), (-1,), "resid_pre")


def calls(model):
    """Every function that takes prompts, as a function of what is harmful and what harmless."""
    r = direction(model)
    known = {"refusal_tokens": REFUSAL}
    return {
        "logits": lambda bad, good: model.logits(bad),
        "collect_activations": lambda bad, good: (
            (acts := wb.collect_activations(model, bad, per_prompt=True)).values,
            acts.ids, acts.labels, acts.categories, acts.texts, acts.provenance["prompts"],
        ),
        "sweep_directions": lambda bad, good: wb.sweep_directions(
            model, r, harmful=bad, harmless=good, **known
        ),
        "patch_heads": lambda bad, good: wb.heads.patch_heads(
            model, bad, good, layers=[1], **known
        ),
        "find_minimal_head_set": lambda bad, good: wb.heads.find_minimal_head_set(
            model, bad, good, candidates=[(0, 1)], max_heads=1, n_random=0, max_new_tokens=1,
            judged=bad, **known,
        ),
        "attribution_patching": lambda bad, good: wb.heads.attribution_patching(
            model, bad, good, layers=[1], **known
        ),
        "collect_attention": lambda bad, good: wb.heads.collect_attention(model, [(0, 1)], bad),
        "direct_attribution": lambda bad, good: wb.heads.direct_attribution(model, r, bad),
        "measure_transfer": lambda bad, good: wb.transfer.measure_transfer(
            model, r, bad, harmless=good, judge=None, **known
        ),
        "collect_completions": lambda bad, good: wb.collect_completions(
            model, r, {"bad": bad, "good": good}, max_new_tokens=1
        ),
    }  # fmt: skip


NAMES = (
    "logits", "collect_activations", "sweep_directions", "patch_heads", "find_minimal_head_set",
    "attribution_patching", "collect_attention", "direct_attribution", "measure_transfer",
    "collect_completions",
)  # fmt: skip


def assert_same(found, expected):
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, tuple):
        for own, other in zip(found, expected, strict=True):
            assert_same(own, other)
    elif hasattr(expected, "identical"):
        assert found.identical(expected) and found.attrs == expected.attrs
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    else:
        assert found == expected


@pytest.mark.parametrize("name", NAMES)
def test_tables_give_the_result_of_the_prompt_set(zoo, name):
    call = calls(zoo["llama"].model)[name]
    expected = call(SETS["harmful"], SETS["harmless"])
    for kind in KINDS.values():
        assert_same(call(kind("harmful"), kind("harmless")), expected)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_prompt_is_refused_by_every_function(zoo, name):
    call = calls(zoo["llama"].model)[name]
    for wrong in (5, {"text": BAD}, Path("a.csv"), np.zeros((2, 2)), [BAD]):
        with pytest.raises(PromptError, match="Pass a PromptSet, texts"):
            call(wrong, GOOD)


def test_texts_without_labels_are_known_by_their_index(zoo):
    model = zoo["llama"].model
    acts = wb.collect_activations(model, pd.Series(BAD), per_prompt=True)
    assert acts.ids == ("0", "1", "2") and set(acts.labels) == {""} and acts.texts == tuple(BAD)
    unlabelled = FRAMES["harmful"].drop(columns="label")
    acts = wb.collect_activations(model, unlabelled, per_prompt=True)
    assert acts.ids == SETS["harmful"].ids and set(acts.labels) == {""}
    assert acts.categories == ("a", "b", "a")
    attention = wb.heads.collect_attention(model, [(0, 1)], unlabelled)
    assert attention["category"].values.tolist() == ["a", "b", "a"]
    assert attention["group"].values.tolist() == ["all"]


def test_prompt_sets_to_answer_have_names(zoo):
    model = zoo["llama"].model
    for wrong in (FRAMES["harmful"], SETS["harmful"], BAD):
        with pytest.raises(PromptError, match="expected prompts by the name of their set, found"):
            wb.collect_completions(model, direction(model), wrong)
