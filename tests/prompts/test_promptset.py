import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import ArtifactError, PromptError
from workbench.prompts.prompt import LABELS, Prompt
from workbench.prompts.promptset import PromptSet
from workbench.prompts.sources import load_prompts

steady = settings(deadline=None, max_examples=50)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


row = st.tuples(words, words, st.sampled_from(LABELS), st.sampled_from(["fraud", "drugs", "é"]))


def rows(min_size=0):
    return st.lists(row, min_size=min_size, max_size=12, unique_by=lambda fields: fields[0].strip())


def made(rows):
    return PromptSet(tuple(Prompt(*fields) for fields in rows), "made")


def balanced(n=45, categories=8):
    return PromptSet(
        tuple(
            Prompt(f"{topic}-{i}", f"request {i} on topic {topic}", "harmful", f"topic {topic}")
            for topic in range(categories)
            for i in range(n)
        ),
        "balanced",
    )


def test_columns_length_and_indices():
    prompts = balanced(2, 2)
    assert prompts.ids == ("0-0", "0-1", "1-0", "1-1")
    assert prompts.categories == ("topic 0",) * 2 + ("topic 1",) * 2
    assert set(prompts.labels) == {"harmful"} and len(prompts) == len(prompts.texts) == 4
    assert prompts[np.int64(-1)].id == "1-1"
    assert prompts[1:3].ids == ("0-1", "1-0") and list(prompts) == list(prompts.prompts)
    assert list(prompts.to_dataframe().columns) == ["id", "text", "label", "category"]
    assert prompts.to_dataframe()["text"].tolist() == list(prompts.texts)
    with pytest.raises(IndexError):
        prompts[4]


def test_repr_is_one_line_however_many_prompts():
    assert repr(balanced()) == "PromptSet('balanced': 360 prompts; 360 harmful; 8 categories)"
    assert repr(balanced()[:0]) == "PromptSet('balanced': 0 prompts; empty; 0 categories)"


def test_ids_are_unique():
    twins = (Prompt("a", "x", "harmful"), Prompt("b", "y", "harmful"), Prompt("a", "z", "harmful"))
    with pytest.raises(PromptError, match=r"id 'a' of 'mine' stands twice, in rows 1 and 3."):
        PromptSet(twins, "mine")


def test_plain_strings_are_not_prompts():
    unchecked = object.__new__(PromptSet)  # past the type checks that only tests have
    unchecked.__dict__.update(prompts=["x"], name="mine", provenance={})
    with pytest.raises(PromptError, match="row 1 of 'mine' is 'x', not a Prompt"):
        unchecked.__post_init__()
    with pytest.raises(PromptError, match="found one string"):
        PromptSet.from_texts("Bake bread.", "harmless")
    assert PromptSet.from_texts(["x"], "harmless", name="mine").ids == ("mine-0001",)


def test_nothing_writes_into_the_callers_provenance():
    provenance = {"kind": "file"}
    prompts = PromptSet(balanced(2, 2).prompts, provenance=provenance)
    drawn = prompts.where(category="topic 1").sample(1, seed=3)
    assert provenance == {"kind": "file"} == prompts.provenance
    provenance["kind"] = "changed"
    assert prompts.provenance == {"kind": "file"}
    assert drawn.provenance["steps"] == ["where(category=['topic 1'])", "sample(1, seed=3)"]


@steady
@given(rows(1), st.data())
def test_fingerprint_changes_with_any_change_and_with_nothing_else(rows, data):
    prompts = made(rows)
    row = data.draw(st.integers(0, len(prompts) - 1))
    old = prompts[row]
    other = next(label for label in LABELS if label != old.label)
    changed = [
        replace(old, text=f"{old.text}."), replace(old, label=other),
        replace(old, category=f"{old.category}."), replace(old, id="".join(prompts.ids) + "x"),
    ]  # fmt: skip
    before, after = prompts.prompts[:row], prompts.prompts[row + 1 :]
    sets = [(*before, new, *after) for new in changed] + [before + after]
    prints = {PromptSet(part).fingerprint for part in sets}
    assert len(prints) == 5 and prompts.fingerprint not in prints
    assert PromptSet(prompts.prompts, "another name", {"x": 1}).fingerprint == prompts.fingerprint
    assert PromptSet(prompts.prompts, "another name") == prompts


def test_fingerprint_keeps_fields_apart_and_order():
    one = PromptSet((Prompt("a", "b c", "harmful"), Prompt("d", "e", "harmful")))
    two = PromptSet((Prompt("a b", "c", "harmful"), Prompt("d", "e", "harmful")))
    assert len({one.fingerprint, two.fingerprint, one[::-1].fingerprint}) == 3


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_neither_fingerprint_nor_draws_depend_on_the_hash_seed(hash_seed):
    code = (
        "from workbench.prompts.promptset import PromptSet\n"
        "p = PromptSet.from_texts([f'é {n}' for n in range(9)], 'harmless')\n"
        "print(p.fingerprint, p.sample(3).ids, [s.ids for s in p.split(4, 2, seed=5)])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    p = PromptSet.from_texts([f"é {n}" for n in range(9)], "harmless")
    expected = f"{p.fingerprint} {p.sample(3).ids} {[s.ids for s in p.split(4, 2, seed=5)]}"
    assert done.stdout.strip() == expected
    # Written down: another machine or version must find the same.
    assert p.fingerprint == "e3a305819f8ae2232905cfd2f85612e9057fe48f4627e1654ab6a404c950569f"


@steady
@given(rows(), st.integers(0, 12), st.integers(0, 12), st.integers(-3, 3))
def test_split_is_a_partition_in_the_sets_order(rows, train, validation, seed):
    prompts = made(rows).unique()
    if train + validation > len(prompts):
        with pytest.raises(PromptError, match=f"cannot split the {len(prompts)} prompts"):
            prompts.split(train, validation, seed)
        return
    parts = prompts.split(train, validation, seed)
    assert [len(part) for part in parts[:2]] == [train, validation]
    assert sorted(sum((part.ids for part in parts), ())) == sorted(prompts.ids)
    for part in parts:
        assert list(part) == [prompt for prompt in prompts if prompt in part.prompts]
    assert parts == prompts.split(train, validation, seed)
    assert {frozenset(p.ids) for p in parts} == {
        frozenset(p.ids) for p in prompts[::-1].split(train, validation, seed)
    }


def test_split_of_a_balanced_set_is_balanced():
    train, validation, test = balanced().split()
    assert set(Counter(train.categories).values()) == {16}
    assert set(Counter(validation.categories).values()) == {4}
    assert set(Counter(test.categories).values()) == {25}
    assert (train.name, test.name) == ("balanced:train", "balanced:test")
    assert train.ids != balanced().split(seed=1)[0].ids


def test_split_keeps_the_mix_of_an_unbalanced_set():
    mixed = balanced(30, 2) + PromptSet.from_texts([f"w{n}" for n in range(7)], "harmless")
    train, validation, _ = mixed.split(33, 11)
    for part, slack in ((train, 1), (validation, 2)):
        for category, held in Counter(mixed.categories).items():
            exact = len(part) * held / len(mixed)
            assert abs(part.categories.count(category) - exact) < slack


def test_labels_of_one_category_are_shared_out_too():
    both = [PromptSet.from_texts([f"{x} {n}" for n in range(20)], x, name=x) for x in LABELS[:2]]
    train, _, _ = (both[0] + both[1]).split(10, 4)
    assert Counter(train.labels) == {"harmful": 5, "harmless": 5}


def test_split_refuses_a_text_that_would_leak():
    prompts = PromptSet.from_texts(["a", "b", "a", "c"], "harmful")
    with pytest.raises(PromptError, match="prompts-0001, prompts-0003 have the same text"):
        prompts.split(1, 1)
    assert prompts.unique().texts == ("a", "b", "c")
    assert prompts.unique().unique() == prompts.unique()


def test_a_text_that_would_leak_is_found_in_a_few_passes(monkeypatch):
    prompts = PromptSet.from_texts([*(f"ask {n}" for n in range(300)), "ask 299"], "harmful")
    passes, read = [], PromptSet.texts.fget
    monkeypatch.setattr(PromptSet, "texts", property(lambda own: passes.append(1) or read(own)))
    with pytest.raises(PromptError, match="0300, prompts-0301 have the same text"):
        prompts.split(1, 1)
    assert len(passes) < 5


def test_sample_is_nested_and_refuses_too_many():
    prompts = balanced(10, 1)
    few, more = prompts.sample(3, seed=2), prompts.sample(6, seed=2)
    assert set(few.ids) < set(more.ids) and len(more) == 6
    assert prompts.sample(10) == prompts and len(prompts.sample(0)) == 0
    with pytest.raises(PromptError, match="cannot draw 11 of the 10 prompts of 'balanced'"):
        prompts.sample(11)
    with pytest.raises(PromptError, match="n must be a whole number from 0 on, not -1"):
        prompts.sample(-1)
    with pytest.raises(PromptError, match="validation must be a whole number from 0 on, not -1"):
        prompts.split(1, -1)


@steady
@given(rows(1), st.data())
def test_where_twice_is_where_once(rows, data):
    prompts = made(rows)
    label = data.draw(st.sampled_from(prompts.labels))
    category = data.draw(st.sampled_from(prompts.where(label=label).categories))
    expected = [p for p in prompts if p.label == label and p.category == category]
    assert list(prompts.where(label=label, category=category)) == expected
    assert list(prompts.where(label=label).where(category={category})) == expected
    assert prompts.where(label=set(prompts.labels)) == prompts.where() == prompts


def test_where_names_what_there_is():
    prompts = balanced(2, 2) + PromptSet.from_texts(["x"], "harmless", "cooking")
    message = "no prompt of .* has the category topic 9. There are: cooking, topic 0, topic 1."
    with pytest.raises(PromptError, match=message):
        prompts.where(category=["topic 9", "topic 1"])
    with pytest.raises(PromptError, match=r"the label borderline. There are: harmful, harmless."):
        prompts.where(label="borderline")
    with pytest.raises(PromptError, match=r"\(none was given\)"):
        prompts.where(label=[])
    with pytest.raises(PromptError, match="both a label in harmless and a category in topic 0"):
        prompts.where(label="harmless", category="topic 0")


@steady
@given(rows(), rows())
def test_concatenation_keeps_shared_prompts_once(first, second):
    one, two = made(first), made(second)
    clash = any(p.id == q.id and p != q for p in one for q in two)
    if clash:
        with pytest.raises(PromptError, match="use the same ids for different prompts"):
            one + two
    else:
        assert (one + two).ids == tuple(dict.fromkeys(one.ids + two.ids))
    assert one + one == one


def test_a_clash_names_the_ids():
    one, two = (PromptSet.from_texts([x, "same"], "harmful") for x in "xy")
    with pytest.raises(PromptError, match=r"prompts-0001. Load one of them with another name="):
        one + two


@steady
@given(rows=rows(1))
def test_what_is_saved_is_loaded_again(tmp_path_factory, rows):
    prompts = made(rows)
    path = prompts.save(tmp_path_factory.mktemp("saved") / "set.jsonl")
    again = load_prompts(path)
    assert again == prompts and again.fingerprint == prompts.fingerprint
    assert [file.name for file in path.parent.iterdir()] == ["set.jsonl"]


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(PromptError, match=r"saved as .jsonl, not as 'set.json'"):
        balanced(1, 1).save(tmp_path / "set.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError):
        balanced(1, 1).save(tmp_path / "file" / "set.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_texts_that_differ_in_capitals_and_spaces_alone_stand_once():
    texts = ["Bake bread", "bake  bread ", "Sew a button", "SEW A\nBUTTON", "Sing"]
    given = PromptSet.from_texts(texts, "harmless")
    assert given.unique().texts == ("Bake bread", "Sew a button", "Sing")
    with pytest.raises(PromptError, match="have the same text"):
        given.split(train=1, validation=1)
