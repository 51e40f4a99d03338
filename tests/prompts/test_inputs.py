"""What is taken for prompts, everywhere the same, and what is not."""

import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from workbench.errors import PromptError
from workbench.prompts.inputs import as_prompt_set, as_prompts
from workbench.prompts.prompt import Prompt
from workbench.prompts.promptset import PromptSet
from workbench.prompts.sources import load_prompts
from workbench.prompts.texts import Texts

ASK = ["Bake bread", "Sew a button"]
FRAME = pd.DataFrame({"Prompt": ASK, "category": ["food", "craft"], "id": ["x", 7]})
SET = PromptSet.from_texts(ASK, "harmless")


@pytest.mark.parametrize(
    "given",
    [
        SET,
        ASK,
        tuple(ASK),
        np.array(ASK),
        np.array(ASK, dtype=object),
        FRAME["Prompt"],
        pd.Index(ASK),
        FRAME,
        FRAME[["Prompt"]],
        datasets.Dataset.from_dict({"text": ASK}),
        datasets.Dataset.from_dict({"text": ASK})["text"],
        datasets.DatasetDict(train=datasets.Dataset.from_dict({"text": ASK})),
        pd.DataFrame({"messages": [[{"role": "user", "content": text}] for text in ASK]}),
        list(SET),
    ],
    ids=lambda given: type(given).__name__,
)
def test_the_same_prompts_come_out(given):
    found = as_prompts(given)
    assert list(found.texts) == ASK and len(found) == len(set(found.ids)) == 2
    assert all(type(text) is str for text in found.texts)


@pytest.mark.parametrize("names", [["label"], ["label", "category"], ["id"]])
def test_an_index_with_a_name_is_a_column(tmp_path, names):
    frame = pd.DataFrame(
        {
            "text": ["Bake bread", "Pick a lock", "Sew"],
            "label": ["harmless", "harmful", "harmless"],
            "category": ["food", "craft", "craft"],
            "id": ["a", "b", "c"],
        }
    )
    frame.to_parquet(tmp_path / "plain.parquet")
    moved = frame.set_index(names)
    moved.to_parquet(tmp_path / "moved.parquet")
    expected = load_prompts(tmp_path / "plain.parquet")
    for source in (moved, tmp_path / "moved.parquet"):
        found = load_prompts(source)
        assert found.ids == expected.ids and found.labels == ("harmless", "harmful", "harmless")
        assert found.categories == ("food", "craft", "craft")
    assert as_prompts(moved).ids == ("a", "b", "c")
    # What is there as a column as well, or counts rows, is no other column.
    assert as_prompts(frame.set_index("id", drop=False)).ids == ("a", "b", "c")
    counted = pd.concat([frame.rename_axis("prompt")] * 2).drop(columns="id")
    assert len(load_prompts(counted)) == 6
    twice = frame.set_index("id", drop=False).assign(id=["c", "b", "a"])
    with pytest.raises(PromptError, match="index and a column of the table are both named 'id'"):
        as_prompts(twice)
    # Rows that were picked keep their numbers, which are no column.
    assert as_prompts(frame[frame["category"] == "craft"]).ids == ("b", "c")


def test_a_string_is_a_text_whatever_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text\nx\n")
    Path("folder.csv").mkdir()
    long = "é" * 150 + " notes.txt"
    for text in ("owner/name", "b.csv", "harm", "a.csv is a file", "folder.csv", long):
        assert as_prompts(text).texts == (text,)
    for text, what in (("harmful", "a built-in set"), ("a.csv", "a file")):
        with pytest.raises(PromptError, match=rf"'{text}' is the name of {what}, .*load_prompts"):
            as_prompts(text)
        assert as_prompts([text]).texts == (text,)


def test_a_table_keeps_what_it_says():
    unlabelled = as_prompts(FRAME)
    assert isinstance(unlabelled, Texts) and unlabelled.labels == ("", "")
    assert unlabelled.ids == ("x", "7") and unlabelled.categories == ("food", "craft")
    labelled = as_prompts(FRAME.assign(label=["safe", "unsafe"]))
    assert isinstance(labelled, PromptSet) and labelled.labels == ("harmless", "harmful")
    assert labelled.ids == ("x", "7") and labelled.categories == ("food", "craft")
    as_set = as_prompt_set(FRAME, "harmful")
    assert as_set.labels == ("harmful",) * 2 and as_set.categories == ("food", "craft")
    assert as_prompt_set(ASK, "harmless", "plain").ids == ("plain-0001", "plain-0002")
    given = load_prompts(FRAME, text_column="category", label="borderline", id_column="id")
    assert given.texts == ("food", "craft") and given.labels == ("borderline",) * 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "expected prompts, found something of type int. Pass a PromptSet, texts"),
        (None, "found something of type NoneType"),
        (b"x", "of type bytes.* Decode it first"),
        ({"text": ASK}, "of type dict.* make a pandas.DataFrame of them"),
        (Path("a.csv"), r"Path. Pass .* To read a file, pass load_prompts\('a.csv'\)"),
        ({"a", "b"}, "of type set.* Pass list"),
        (iter(ASK), "Pass list"),
        (np.zeros((2, 2)), r"an array of shape \(2, 2\) is no list of prompts"),
        (np.zeros(2), "prompt 0 is a float, not text"),
        ([ASK], "prompt 0 is a list, not text"),
        (["a", {"role": "user", "content": "a"}], "prompt 1 is a dict, .* pass the text alone"),
        (["a", 5], "prompt 1 is a int, not text"),
        ([SET[0], "a"], "prompt 0 is .*Prompt, not text.* texts or Prompts, not both"),
        ([SET, SET], "prompt 0 is .*PromptSet, not text"),
        (pd.Series(["a", None]), "prompt 1 is missing. Leave it out"),
        (["a", " "], "prompt 1 is empty"),
        (["a", "b\ud800"], "prompt 1 is not valid Unicode: a lone surrogate at character 2"),
        ([], "no prompts: the list is empty"),
        (SET[:0], "no prompts: the list is empty"),
        (FRAME[:0], "the DataFrame holds no prompts"),
        (pd.DataFrame({"a": ASK}), r"no column for the text .* Read it first with load_prompts\(…"),
        (FRAME.assign(label=[0, 1]), r"Nobody knows 0, 1.* load_prompts\(…, label_values='0=LABEL"),
        (FRAME.assign(Prompt=["a", None]), "the DataFrame, row 2: the text is missing"),
        (datasets.DatasetDict(a=datasets.Dataset.from_dict({}), b=datasets.Dataset.from_dict({})),
         r"several splits: a, b. Pass one of them, such as data\['a'\]"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_by_name(given, message):
    with pytest.raises(PromptError, match=message) as caught:
        as_prompts(given)
    assert "\n" not in str(caught.value)


def test_columns_are_not_taken_for_texts():
    for table in (FRAME, datasets.Dataset.from_dict({"text": ASK}), {"a": "b"}):
        with pytest.raises(PromptError, match=r"expected texts, found a .* Pass one column of it"):
            PromptSet.from_texts(table, "harmful")
    assert PromptSet.from_texts(FRAME["Prompt"], "harmful").texts == tuple(ASK)
    assert [type(prompt) for prompt in SET] == [Prompt, Prompt]


def test_nothing_is_imported_to_find_out_what_was_passed():
    code = (
        "from workbench.prompts.inputs import as_prompts\n"
        "as_prompts('x'), as_prompts(['x'])\n"
        "import sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pandas", "datasets", "torch"} & set(done.stdout.split())
