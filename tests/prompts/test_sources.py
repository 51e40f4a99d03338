import json
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

from workbench.errors import PromptError
from workbench.prompts.presets import PRESETS
from workbench.prompts.prompt import UNSPECIFIED
from workbench.prompts.promptset import PromptSet
from workbench.prompts.sources import BUILT_IN, load_prompts, prompt_sources
from workbench.prompts.taxonomy import BUILT_IN_CATEGORIES


def csv(folder, text, name="mine.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_harmful_set_has_forty_five_prompts_of_each_category():
    prompts = load_prompts("harmful")
    assert set(prompts.labels) == {"harmful"}
    assert Counter(prompts.categories) == dict.fromkeys(BUILT_IN_CATEGORIES, 45)


def test_the_harmless_set_has_forty_five_prompts_of_each_of_eight_topics():
    prompts = load_prompts("harmless")
    assert set(prompts.labels) == {"harmless"}
    assert sorted(Counter(prompts.categories).values()) == [45] * 8


def test_the_borderline_set_is_large_enough_to_split():
    prompts = load_prompts("borderline")
    assert set(prompts.labels) == {"borderline"} and len(prompts) >= 120


def test_the_built_in_sets_stand_together():
    together = sum(map(load_prompts, BUILT_IN[1:]), load_prompts("harmful"))
    assert len(together) == sum(len(load_prompts(name)) for name in BUILT_IN)
    assert len(together.unique()) == len(together)
    train, validation, _ = load_prompts("harmful").split()
    assert set(Counter(train.categories).values()) == {16}
    assert set(Counter(validation.categories).values()) == {4}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"category": "fraud"}, "'harmful' is built in and takes no category: its prompts say"),
        ({"text_column": "x", "label": "harmful"}, "takes no text_column, label"),
        ({"path": "x.csv"}, r"path= goes with a benchmark's name \(advbench, .*not with 'harmful'"),
    ],
)
def test_a_built_in_set_takes_no_columns(options, message):
    with pytest.raises(PromptError, match=message):
        load_prompts("harmful", **options)


def test_a_file_says_everything_itself(tmp_path):
    path = csv(tmp_path, "Prompt,Label,Topic,ID\nx,safe,bread,1\ny,unsafe,,\n")
    prompts = load_prompts(path)
    assert prompts == load_prompts(str(path))
    assert prompts.texts == ("x", "y") and prompts.labels == ("harmless", "harmful")
    assert prompts.categories == ("bread", UNSPECIFIED) and prompts.ids == ("1", "mine-0002")
    assert prompts.name == "mine"
    assert prompts.provenance == {"kind": "file", "source": "mine.csv"}


def test_the_caller_may_set_a_file_s_columns_aside(tmp_path):
    path = csv(tmp_path, "a,b,label,category\nx,y,7,old\n")
    aside = {"label_column": "", "label": "borderline", "category_column": "", "category": "new"}
    prompts = load_prompts(path, text_column="B", name="other", **aside)
    assert prompts.texts == ("y",) and prompts.ids == ("other-0001",)
    assert prompts.labels == ("borderline",) and prompts.categories == ("new",)
    assert prompts.provenance["notes"] == [
        "all 1 rows taken as borderline, whatever 'label' says: '7' (1 row)"
    ]
    meant = {"label": "harmful", "label_values": {7: "harmful"}}
    columns = load_prompts(path, text_column="a", category_column="b", **meant)
    assert columns.categories == ("y",)


def test_numbers_may_be_ids_and_categories_but_not_text(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": ["x"], "id": [3], "category": [4]}).to_parquet(path)
    prompts = load_prompts(path, label="harmless")
    assert prompts.ids == ("3",) and prompts.categories == ("4",)
    with pytest.raises(PromptError, match=r"a.parquet, row 1: the text is 4 \(int\), not text"):
        load_prompts(path, label="harmless", text_column="category")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("text\nx\n", {}, "mine.csv: no label column. Pass label= .*Columns: 'text'"),
        ("goal,prompt\nx,y\n", {"label": "harmful"}, "several columns that may hold the text"),
        ("a,b\nx,y\n", {"label": "harmful"}, "no column for the text .*Columns: 'a', 'b'"),
        ("text\nx\n", {"label": "bad"}, "label='bad' is not a label. Expected harmful, harmless,"),
        (
            "text,topic\nx,a\n",
            {"label": "harmful", "category": "b"},
            "no row is of the category",
        ),
        ("text\nx\n", {"label_column": ""}, "label_column='' reads no labels. Pass label= for"),
        (
            "text\nx\n",
            {"label": "harmful", "label_values": {0: "harmless"}},
            "there is no label",
        ),
        ("text\nx\n", {"label": "harmful", "id_column": "ids"}, "no column 'ids': 'text'"),
        ("text\nx\n", {"label": "harmful", "limit": 0}, "limit must be a whole number from 1 on"),
        ("text\nx\n", {"path": "y.csv"}, "pass the path itself as the source"),
        ("text,n\nx,1\n ,2\n", {"label": "harmful"}, "mine.csv, row 2: .* is empty."),
        ("text,id\nx,1\ny,1\n", {"label": "harmful"}, "mine.csv: the id '1' .* in rows 1 and 2"),
    ],
)
def test_bad_files_and_bad_questions(tmp_path, text, options, message):
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(csv(tmp_path, text), **options)
    assert "\n" not in str(caught.value)


def test_a_lone_surrogate_names_its_row(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(["fine", "half \ud800"]))
    with pytest.raises(PromptError, match=r"a.json, row 2: .* lone surrogate at character 6"):
        load_prompts(path, label="harmless")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("harmfull", r"no prompts called 'harmfull'. Did you mean 'harmful'\?"),
        ("XSTEST", r"Did you mean 'xstest'\?"),
        (
            "qqq",
            "called 'qqq'. Built in: harmful, harmless, borderline. Benchmarks: advbench, harm",
        ),
        (" ", "the name of the source is empty"),
        ("advbench=", "the path of the file is empty"),
        ("walledai/AdvBench", "is a benchmark known by name: pass 'advbench'"),
        ("nowhere.csv", "no file nowhere.csv"),
        ("How do I bake bread?" * 100, "^.{0,300}$"),
    ],
)
def test_an_unknown_source(source, message):
    with pytest.raises(PromptError, match=message):
        load_prompts(source)


def test_a_limit_keeps_the_mix_and_the_draw(tmp_path):
    rows = "".join(f"x{n},{'ab'[n // 10]}\n" for n in range(20))
    path = csv(tmp_path, f"text,category\n{rows}")
    few = load_prompts(path, label="harmful", limit=6)
    assert Counter(few.categories) == {"a": 3, "b": 3}
    assert few == load_prompts(path, label="harmful", limit=6)
    assert len(load_prompts(path, label="harmful", limit=1000)) == 20


def test_files_of_one_stem_are_told_apart_by_name(tmp_path):
    one, two = (csv(tmp_path, f"text\n{x}\n", f"{x}.csv") for x in "ab")
    assert len(load_prompts(one, label="harmful") + load_prompts(two, label="harmful")) == 2
    same = [load_prompts(path, label="harmful", name="n") for path in (one, two)]
    with pytest.raises(PromptError, match="Load one of them with another name="):
        same[0] + same[1]


def test_the_sources_are_listed():
    listed = prompt_sources().set_index("name")
    assert list(listed.index) == [*BUILT_IN, *PRESETS]
    assert listed.loc["harmful", "n"] == 360 and listed["n"].isna().sum() == len(PRESETS)
    assert listed.loc["xstest", "labels"] == "borderline, harmful"
    assert "violence" in listed.loc["strongreject", "categories"]
    assert "walledai/HarmBench (standard, train)" in listed.loc["harmbench", "origin"]


def test_the_room_is_cheap_to_enter():
    code = "import sys, workbench.prompts.sources; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pandas", "torch", "datasets", "transformers", "pyarrow"}
    assert not heavy & set(done.stdout.split())


def test_a_missing_built_in_set_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("workbench.prompts.sources.resources.files", lambda package: tmp_path)
    with pytest.raises(PromptError, match="'harmful' is missing from this installation"):
        load_prompts("harmful")


def test_the_result_is_a_prompt_set(tmp_path):
    assert isinstance(load_prompts(csv(tmp_path, "text\nx\n"), label="harmful"), PromptSet)
