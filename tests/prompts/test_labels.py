"""Labels of files are read, chosen from or asked about; no row gets one that it does not say."""

import json
import sys

import pandas as pd
import pytest

from workbench.__main__ import main
from workbench.errors import PromptError
from workbench.prompts.labels import meanings
from workbench.prompts.sources import load_prompts

SAID = {
    "spelled": (["harmful", "Harmless ", "UNSAFE", "pseudo-harmful"], {}),
    "mapped": ([1, 0, 1, 2], {"label_values": {1: "harmful", 0: "harmless"}}),
    "as text": (["1", "0", "1", "x, y=z"], {"label_values": "x, y=z=borderline,1=harmful"}),
    "floats": ([1.0, 0.0, 1.0, None], {"label_values": "1=harmful"}),
    "bools": ([True, False, True, False], {"label_values": {True: "harmful"}}),
    "lists": ([["bad"], ["good"], ["bad"], []], {"label_values": "['bad']=harmful"}),
    "blanks": (["harmful", None, "harmful", " "], {}),
}  # fmt: skip


def table(labels, column="label"):
    return pd.DataFrame({"text": list("abcd"), column: labels})


@pytest.mark.parametrize("case", SAID)
@pytest.mark.parametrize("column", ["label", " Safety_Label"])
def test_one_label_is_chosen_and_the_others_are_counted(case, column):
    labels, options = SAID[case]
    found = load_prompts(table(labels, column), label="harmful", **options)
    assert found.texts == ("a", "c") and set(found.labels) == {"harmful"}
    assert found.ids == ("prompts-0001", "prompts-0003")
    (note,) = found.provenance["notes"]
    assert note.startswith("2 of 4 rows left out: not labelled harmful but ")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([0, 1, 0, 0], {}, r"holds 0 \(3 rows\), 1 \(1 row\). Nobody knows 0, 1. .* pass label_val"
         r"ues='0=LABEL, 1=LABEL'\.$"),
        (["harmful", "maybe", "safe", "?"], {}, "Nobody knows 'maybe', '[?]'"),
        ([[], ["a"], {"name": "harmful"}, None], {}, "Nobody knows .., .'a'., .'name': 'harmful'."),
        (list("wxyz"), {"label_values": "w=harmless"}, r"no row is labelled harmful: .* 'w' "),
        (["safe"] * 4, {}, r"no row is labelled harmful: the column 'label' holds 'safe' \(4 rows"),
        ([*range(9)][:4], {"label_values": {0: "bad"}}, "does not say what values mean"),
        ([0, 1, 0, 1], {"label_values": "0:harmful"}, "does not say what values mean"),
        ([0, 1, 0, 1], {"label_values": "1=harmful 0=harmless"}, "does not say what values mean"),
        ([0, 1, 0, 1], {"label_values": "1 = harmful; 0=harmless"}, "does not say what values"),
        ([0, 1, 0, 1], {"label_values": {0: "harmful", "0": "harmless"}}, "two things of '0'"),
    ],
)  # fmt: skip
def test_values_that_nobody_knows_are_asked_about(labels, options, message):
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(table(labels), label="harmful", **options)
    assert "\n" not in str(caught.value)


def test_a_column_of_many_values_may_be_set_aside():
    frame = pd.DataFrame({"text": list("abcdefg"), "label": list("tuvwxyz")})
    with pytest.raises(PromptError, match="If it holds something else, label_column='' takes all"):
        load_prompts(frame, label="harmful")
    found = load_prompts(frame, label="harmful", label_column="")
    assert len(found) == 7 and found.provenance["notes"][0].startswith(
        "all 7 rows taken as harmful"
    )


@pytest.mark.parametrize("labels", [[None] * 4, ["", " ", "", ""]])
def test_a_column_that_says_nothing_leaves_it_to_the_caller(labels):
    found = load_prompts(table(labels), label="harmless")
    assert found.labels == ("harmless",) * 4
    assert found.provenance["notes"] == [
        "'label' is empty in every row: all 4 are taken as harmless"
    ]
    with pytest.raises(PromptError, match="4 of 4 rows have no label in 'label'"):
        load_prompts(table(labels))


@pytest.mark.parametrize(
    ("column", "labels"),
    [
        ("is_harmful", [True, False, True, False]),
        ("isSafe", [0, 1, 0, 1]),
        ("prompt_harm_label", ["harmful", "unharmful", "harmful", "unharmful"]),
        ("labels", [0, 1, 0, 1]),
        ("category", ["harmful", "harmless", "harmful", "harmless"]),
        ("anything", ["unsafe", "benign", None, "benign"]),
        ("data_type", ["vanilla_harmful", "vanilla_benign"] * 2),
        ("expected", ["refusal", "compliance"] * 2),
        ("toxicity", [0.9, 0.1, 0.8, 0.2]),
        ("harm_score", [5, 1, 5, 1]),
        ("y", [1, 0, 1, 0]),
        ("ok", ["yes", "no", "yes", None]),
    ],
)
def test_a_column_that_seems_to_say_it_is_not_overruled(column, labels):
    frame = table(labels, column)
    with pytest.raises(PromptError, match=rf"pass label_column='{column}'; to take all rows as"):
        load_prompts(frame, label="harmful")
    with pytest.raises(PromptError, match=f"no label column. It may be '{column}'"):
        load_prompts(frame)
    assert len(load_prompts(frame, label="harmful", label_column="")) == 4
    assert load_prompts(table(["harmful"] * 4, column), label="harmful").labels[0] == "harmful"


def test_a_category_is_chosen_or_given():
    frame = table(["fraud", "Fraud", 3, "drugs"], "category").assign(text=["a", "b", "c", None])
    found = load_prompts(frame, label="harmful", category="fraud")
    assert found.texts == ("a", "b")  # a row that is left out may hold anything
    assert found.provenance["notes"] == [
        "2 of 4 rows left out: not of the category fraud but 3, drugs"
    ]
    given = load_prompts(frame[["text"]][:3], label="harmful", category="fraud")
    assert given.categories == ("fraud",) * 3


def test_two_columns_of_labels_are_one_too_many(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "a", "label": "safe", "safety_label": "unsafe"}]))
    with pytest.raises(PromptError, match="several columns that may hold the label"):
        load_prompts(path, label="harmful")
    assert len(load_prompts(path, label="harmful", label_column="safety_label")) == 1


def test_what_values_mean_may_stand_in_text():
    assert meanings(" No=harmless ,yes = harmful,=borderline,") == {
        "no": "harmless", "yes": "harmful", "": "borderline",
    }  # fmt: skip
    assert meanings(None) == {} and meanings({1.0: "harmful"}) == meanings("1=harmful")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--label", "harmful"], 2, "pass --label-values '0=LABEL, 1=LABEL'."),
        (["--label", "harmful", "--label-values", "1=harmful"], 0,
         "1 of 2 rows left out: not labelled harmful but '0' (1 row)"),
        (["--label", "harmful", "--label-column", ""], 0, "all 2 rows taken as harmful, whatever"),
        (["--label", "harmful", "--show", "-1"], 2, "Invalid value for '--show': Input should"),
        (["--label", "harmful", "--path", ""], 2, "the path is empty"),
    ],
)  # fmt: skip
def test_the_command_says_so_too(monkeypatch, capsys, tmp_path, options, status, said):
    (tmp_path / "a.csv").write_text("text,label\nBake,0\nSew,1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["workbench", "prompts", "a.csv", *options])
    with pytest.raises(SystemExit) as stopped:
        main()
    shown = " ".join(" ".join(capsys.readouterr()).split())
    assert (stopped.value.code or 0) == status and said in shown
