"""Wordings that were written down are found again, and topics are not taken for wordings."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

import workbench as wb
from workbench.analysis.meaning.wording import GAP, cluster_refusals
from workbench.analysis.selection.effects import collect_completions
from workbench.artifact import load_dataset, save_dataset
from workbench.errors import StudyError

TEMPLATES = (
    "I'm sorry, but I cannot help with {}.",
    "As an AI, I won't assist you in making {}!",
    "It is illegal and dangerous to build {}. Please do not.",
)
OBJECTS = {
    "weapons": ["a big pipe bomb", "an old rifle", "a loud grenade"],
    "drugs": ["a strong pill", "an odd powder", "cheap speed"],
    "fraud": ["a fake cheque", "an email scam", "forged papers"],
}


def asked(template_of, n=12, condition="plain"):
    """Refused replies; ``template_of(category, number)`` says in which words."""
    rows = [
        {
            "condition": condition,
            "id": f"{category}-{number}",
            "category": category,
            "prompt": f"How do I make {things[number // 3 % 3]}?",
            "template": template_of(category, number),
            "verdict": "refused",
        }
        for category, things in OBJECTS.items()
        for number in range(n)
    ]
    for row, thing in zip(rows, (row["prompt"][14:-1] for row in rows), strict=True):
        row["reply"] = TEMPLATES[row["template"]].format(thing)
    return pd.DataFrame(rows)


def clustered(replies, k=None, **settings):
    return cluster_refusals(replies, k=k, **{"n_bootstrap": 5, **settings})


def mixed(category, number):
    return number % 3 if number < 9 else 0


@pytest.fixture(scope="module")
def found():
    """Three wordings that have nothing to do with the category; read-only."""
    return clustered(asked(mixed))


def test_the_templates_are_the_clusters(found):
    truth = asked(mixed)["template"]
    assert found.attrs["k"] == 3 and found.attrs["k_chosen_by"] == "silhouette"
    assert adjusted_rand_score(truth, found["cluster_of"]) == 1
    assert found["size"].values.tolist() == [18, 9, 9]
    assert found["wording"].values.tolist()[0] == f"i'm sorry but i cannot help with {GAP}"
    assert {f"as an ai i won't assist you in making {GAP}"} < set(found["wording"].values)
    assert found["representative"].values[0] == "I'm sorry, but I cannot help with a big pipe bomb."
    assert {"i'm sorry", "cannot help"} <= set(found["term"].values[0])
    assert "bomb" not in " ".join(found["term"].values.ravel())


def test_the_number_of_clusters_is_the_one_that_separates_and_holds(found):
    quality = found["silhouette"].to_series()
    assert quality.idxmax() == 3 or quality[3] >= 0.95 * quality.max()
    assert float(found["stability"].sel(k=3)) == 1
    assert found["stability_interval"].sel(k=3).values.tolist() == [1, 1]


def test_wordings_that_do_not_go_with_categories_show_no_association(found):
    table = pd.crosstab(found["cluster_of"], found["reply_category"])
    np.testing.assert_array_equal(found["count"], table)
    assert found["category"].values.tolist() == ["drugs", "fraud", "weapons"]
    assert float(found["cramers_v"]) == 0 and float(found["p_value"]) > 0.5


def test_wordings_that_follow_the_category_are_seen():
    order = list(OBJECTS)
    found = clustered(asked(lambda category, number: order.index(category)))
    assert found.attrs["k"] == 3
    assert float(found["cramers_v"]) == pytest.approx(1) and float(found["p_value"]) < 0.01
    assert (found["count"].values > 0).sum() == 3
    assert (found["residual"].values[found["count"].values > 0] > 3).all()


def test_one_wording_is_one_cluster_whatever_the_topics():
    found = clustered(asked(lambda category, number: 0))
    assert found.attrs["k"] == 1 and found["silhouette"].size == 0
    assert set(found["cluster_of"].values) == {1}
    assert np.isnan(found["cramers_v"]) and found["count"].shape == (1, 3)
    one = clustered(asked(lambda category, number: 0).head(1))
    assert one.attrs["k"] == 1 and one["size"].values.tolist() == [1]


def test_no_structure_is_one_cluster():
    rng = np.random.default_rng(0)
    words = np.array("able bake cash deal each fund gear help item join keep lend".split())
    replies = asked(lambda category, number: 0)
    replies["reply"] = [" ".join(rng.choice(words, 6)) for _ in range(len(replies))]
    found = clustered(replies)
    assert found.attrs["k"] == 1 and float(found["silhouette"].max()) < 0.25
    assert clustered(replies, 2)["size"].size == 2
    # What is not there is found differently each time.
    assert float(found["stability"].max()) < 0.7
    low, high = found["stability_interval"].sel(k=2).values
    assert low < float(found["stability"].sel(k=2)) < high


def test_the_caller_may_choose_k():
    found = clustered(asked(mixed), 2)
    assert found["cluster"].values.tolist() == [1, 2]
    assert found.attrs["k_chosen_by"] == "the caller"
    assert 3 in found["k"].values


def test_first_tokens_tell_apart_what_the_text_does_not():
    replies = asked(lambda category, number: 0)
    truth = np.arange(len(replies)) % 2
    first = np.full((len(replies), 50), 0.001)
    first[np.arange(len(replies)), 7 + truth] = 0.9
    # Rows that were not refused are dropped together with their probabilities.
    replies.loc[4, "verdict"] = "complied"
    found = clustered(replies, first_tokens=first)
    assert found.attrs["k"] == 2 and "first tokens" in found.attrs["features"]
    assert adjusted_rand_score(np.delete(truth, 4), found["cluster_of"]) == 1


def test_only_refused_replies_of_the_condition_count():
    replies = asked(mixed)
    other = asked(lambda category, number: 1, condition="added")
    replies.loc[:2, "verdict"] = ["complied", "partial", "other"]
    found = clustered(pd.concat([replies, other]))
    assert found.attrs["n"] == 33 and found.attrs["n_replies"] == 36
    assert clustered(pd.concat([replies, other]), condition=None).attrs["n"] == 69
    bare = replies.drop(columns="condition")
    assert clustered(bare, condition=None).attrs["n"] == 33


def test_the_same_seed_gives_the_same_clusters_and_files(found, tmp_path):
    assert clustered(asked(mixed)).identical(found)
    path = save_dataset(tmp_path / "wording.safetensors", found, kind="wording")
    read = load_dataset(path, kind="wording")
    assert read["wording"].values.tolist() == found["wording"].values.tolist()
    assert float(read["p_value"]) == float(found["p_value"])


def test_what_cannot_be_clustered():
    replies = asked(mixed)
    with pytest.raises(StudyError, match="k=4 clusters cannot be made of 3 different wordings"):
        clustered(replies, 4)
    with pytest.raises(StudyError, match="k=0 clusters"):
        clustered(replies, 0)
    with pytest.raises(StudyError, match=r"none of 36 replies under condition 'plain' .* was refu"):
        clustered(replies.assign(verdict="complied"))
    with pytest.raises(StudyError, match=r"condition 'ablated' \(conditions: plain\) was refused"):
        clustered(replies, condition="ablated")
    with pytest.raises(StudyError, match="have no column 'prompt'"):
        clustered(replies.drop(columns="prompt"))
    with pytest.raises(StudyError, match="3 rows of first_tokens for 36 replies"):
        clustered(replies, first_tokens=np.ones((3, 5)))


def test_pockets_four_refusals_are_found(organism):
    from workbench.models.organisms import organism_path

    model, _ = organism("pocket")
    planted = wb.Directions.load(organism_path("pocket") / "planted.safetensors")
    prompts = {"harmful": wb.load_prompts("harmful").sample(96)}
    replies = collect_completions(model, planted, prompts, max_new_tokens=20)
    found = clustered(replies)
    starts = {wording.split()[0] for wording in found["wording"].values}
    assert starts == {"i'm", "sorry", "as", "unfortunately"}
    assert found.attrs["k"] in (4, 5)  # a fifth is one of them, split
    # The grammar words a refusal by the frame of its request, never by its category.
    assert float(found["p_value"]) > 0.01


def test_thinking_is_no_part_of_the_wording(found):
    replies = asked(mixed)
    blocks = [f"<think>\nUser {n} wants to build it {n % 5}.\n</think>\n\n" for n in range(99)]
    replies["reply"] = [own + reply for own, reply in zip(blocks, replies["reply"], strict=False)]
    again = clustered(replies)
    assert again["cluster_of"].values.tolist() == found["cluster_of"].values.tolist()
    assert again["representative"].values.tolist() == found["representative"].values.tolist()
