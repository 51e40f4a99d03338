"""Judges beside people's labels and beside each other, from Python and from the command line."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from workbench import scores
from workbench.cli.app import app
from workbench.errors import ArtifactError, PromptError, StudyError
from workbench.scores.compared import compare_judges, export_for_labels, read_replies, write_rows
from workbench.scores.judges import judge_name

ROWS = [
    {"prompt": "a", "reply": "I cannot help with that.", "human": "refused"},
    {"prompt": "b", "reply": "Certainly! Start with flour.", "human": "complied"},
    {"prompt": "c", "reply": "My answer has to be no.", "human": "2_full_refusal"},
    {"prompt": "d", "reply": "I'm sorry to hear that. Rest well.", "human": "complied"},
    {"prompt": "e", "reply": "Boil an egg for eight minutes.", "human": ""},
]


@pytest.fixture(params=[".csv", ".jsonl"])
def file(request, tmp_path):
    path = tmp_path / f"replies{request.param}"
    frame = pd.DataFrame(ROWS)
    if request.param == ".csv":
        frame.to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["judge", *map(str, arguments)])


def refused(*arguments):
    found = run(*arguments)
    assert found.exit_code == 1 and found.exception is not None
    return str(found.exception)


def test_a_judge_is_compared_with_labels_row_by_row():
    labels = ["refused", "complied", "refused", "complied"]
    replies = [row["reply"] for row in ROWS[:4]]
    found = compare_judges(replies, judge="rules", labels=labels)
    assert found.agreement.n == 4 and found.agreement.accuracy == 0.75
    assert (found.agreement.first, found.agreement.second) == (judge_name("rules"), "labels")
    assert found.differing[["row", "reply", "first", "second"]].values.tolist() == [
        [3, ROWS[2]["reply"], "complied", "refused"]
    ]
    assert len(found.to_dataframe()) == 4 and "1 differ" in repr(found)


def test_two_judges_are_compared():
    found = compare_judges(
        [row["reply"] for row in ROWS], judge="rules", against="substring", verdict="refused"
    )
    assert found.agreement.accuracy == 0.8
    assert found.differing["row"].tolist() == [4]  # "I'm sorry" is one of the substrings


def test_all_four_verdicts_are_compared_where_that_is_asked():
    labels = ["partial", "complied"]
    replies = [row["reply"] for row in ROWS[:2]]
    assert compare_judges(replies, judge="rules", labels=labels).agreement.accuracy == 1
    every = compare_judges(replies, judge="rules", labels=labels, verdict=None)
    assert every.agreement.accuracy == 0.5 and every.differing["row"].tolist() == [1]


def test_what_cannot_be_compared_is_refused(unchecked):
    with pytest.raises(StudyError, match="pass either against=, another judge, or labels="):
        compare_judges(["a"], judge="rules")
    with pytest.raises(StudyError, match="pass either against="):
        compare_judges(["a"], judge="rules", against="substring", labels=["refused"])
    with pytest.raises(StudyError, match="the label 'yes' is no verdict"):
        compare_judges(["a"], judge="rules", labels=["yes"])
    with pytest.raises(StudyError, match="1 and 2 verdicts"):
        compare_judges(["a"], judge="rules", labels=["refused", "refused"])


def test_replies_are_read_with_what_labels_mean(file):
    found = read_replies(file, label_column="human")
    assert found["label"].tolist() == ["refused", "complied", "refused", "complied", ""]
    assert found["row"].tolist() == [1, 2, 3, 4, 5]
    assert "label" not in read_replies(file)
    assert read_replies(file, reply_column="prompt", prompt_column="reply")["reply"][0] == "a"


def test_labels_that_say_nothing_take_their_meanings(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text('{"response": "no", "y": 1}\n{"response": "yes", "y": 0}\n')
    found = read_replies(path, label_column="y", label_values="1=refused, 0=complied")
    assert found["label"].tolist() == ["refused", "complied"]
    with pytest.raises(PromptError, match="row 1: the label '1' does not say what it means"):
        read_replies(path, label_column="y")
    with pytest.raises(PromptError, match="label_values must be VALUE=VERDICT"):
        read_replies(path, label_column="y", label_values="1=no")
    with pytest.raises(PromptError, match="has no column 'x'"):
        read_replies(path, label_column="x")
    path.write_text('{"response": 3}\n')
    with pytest.raises(PromptError, match="row 1: the reply in 'response' is 3 and no text"):
        read_replies(path)


def test_the_command_says_what_python_says(file, tmp_path):
    out = tmp_path / "differ.jsonl"
    found = run(file, "--labels", "human", "--judge", "rules", "--out", out)
    assert found.exit_code == 0, found.output
    assert "1 of 5 rows have no label and are left out" in found.output
    assert (
        "agree whether complied or not: 0.750 [0.301, 0.954] (Wilson), kappa 0.50 [" in found.output
    )
    assert f"{judge_name('rules')} and labels: 4 replies" in found.output
    assert "My answer has to be no." in found.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["row"], row["first"], row["second"]) for row in rows] == [
        (3, "complied", "refused")
    ]


def test_what_two_judges_differ_on_is_labelled_and_read_back(file, tmp_path):
    path = tmp_path / "label.csv"
    found = run(file, "--judge", "rules", "--against", "substring", "--export", path)
    assert found.exit_code == 0, found.output
    told = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert told.to_dict("records") == [
        {"prompt": "d", "reply": ROWS[3]["reply"], "label": ""}
    ]  # and what the judges said is not there
    assert "no row of" in refused(path, "--labels", "label", "--judge", "rules")
    told.assign(label="complied").to_csv(path, index=False)
    judged = run(path, "--labels", "label", "--judge", "rules", "--against", "substring")
    assert judged.exit_code == 0, judged.output
    assert "or not: 1.000" in judged.output and "or not: 0.000" in judged.output
    again = refused(file, "--judge", "rules", "--against", "substring", "--export", path)
    assert "is there already, and what people wrote in it would be lost" in again


def test_the_command_refuses_what_makes_no_sense(file, tmp_path):
    assert "nothing to compare with" in refused(file)
    assert "no judge 'rule'" in refused(file, "--labels", "human", "--judge", "rule")
    assert "verdict must be one of" in refused(file, "--labels", "human", "--verdict", "yes")
    assert "is the file that is read" in refused(file, "--labels", "human", "--out", file)
    assert "two judges differ" in refused(file, "--labels", "human", "--export", tmp_path / "x.csv")
    told = refused(file, "--labels", "human", "--judge", "rules", "--out", tmp_path / "x.txt")
    assert "must end in .csv or .jsonl" in told


def test_nothing_is_written_over_what_people_wrote(tmp_path):
    path = tmp_path / "x.csv"
    rows = pd.DataFrame({"prompt": ["a"], "reply": ["b"]})
    export_for_labels(rows, path)
    with pytest.raises(StudyError, match="is there already"):
        export_for_labels(rows, path)
    with pytest.raises(ArtifactError, match="cannot make the folder"):
        write_rows(rows, path / "below.csv")


def test_the_names_stand_in_the_room_of_scores():
    for name in ("compare_judges", "judge_name", "read_replies", "export_for_labels"):
        assert name in dir(scores) and name in scores.__all__
