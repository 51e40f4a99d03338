"""What an error advises can be done where it is said."""

import ast
import re
import sys
from pathlib import Path

import pytest
from typer.main import get_command

import workbench
from workbench.__main__ import main
from workbench.arguments.options import OTHER_NAMES, in_options
from workbench.cli import app, called_options
from workbench.study.prompts import _ADVICE

PACKAGE = Path(workbench.__file__).parent
# Rooms whose errors a command line meets before it has a model, and while it loads one.
ROOMS = (
    "prompts",
    "study/prompts.py",
    "study/settings.py",
    "models/load.py",
    "models/tokens.py",
    "models/rendering.py",
    "models/frame.py",
    "scores/first_tokens.py",
    "scores/refusal.py",
)
# Advice of functions that no command calls with what it is about; each says what the function is.
OF_FUNCTIONS_ONLY = {
    "name": "PromptSet.__add__; a study tells ids apart by itself",
    "train": "PromptSet.split; a study checks its numbers first",
    "validation": "PromptSet.split",
    "category": "load_prompts(…, category_column=, category=)",
    "label": "load_prompts; a study says label_column='' instead",
    "device_map": "load_model; a study has no device map",
    "tokenizer": "load_model, of a model that is loaded already",
    "positions": "collect_activations; a run leaves such a t_inst out by itself",
    "after": "model.tokens; a study has score_after",
    "gguf_file": "transformers' own from_pretrained",
    "path": "load_prompts; a study says NAME=FILE instead",
}


def advised(path):
    """Arguments that the texts of a file's errors name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise):
            words = [own.value for own in ast.walk(node) if isinstance(own, ast.Constant)]
            text = "".join(word for word in words if isinstance(word, str))
            yield from re.findall(r"(?<![\w.(])([a-z][a-z_]+)=(?![=\w]*FILE)", text)


def test_every_argument_that_an_error_of_a_run_names_is_an_option():
    run = called_options(["workbench", "run"])
    files = [
        file
        for room in ROOMS
        for file in ([PACKAGE / room] if room.endswith(".py") else (PACKAGE / room).glob("*.py"))
    ]
    found = {name: file.name for file in files for name in advised(file)}
    assert {"split", "chat_template", "words"} <= set(found)
    lost = {
        name: file
        for name, file in found.items()
        if OTHER_NAMES.get(name, name) not in run and name not in OF_FUNCTIONS_ONLY
    }
    assert not lost, "give run an option, reword the error for it, or say why no run meets it"


def test_a_study_rewords_what_it_has_no_argument_for():
    settings = called_options(["workbench", "run"])
    for advice in _ADVICE.values():
        assert all(name in settings for name in re.findall(r"([a-z_]+)=", advice))


@pytest.mark.parametrize(
    ("message", "worded"),
    [
        ("Pass text_column=. Columns: 'a=b'.", "Pass --text-column. Columns: 'a=b'."),
        ("Choose one with split='train'.", "Choose one with --split 'train'."),
        ("On a GPU, try dtype=torch.float32.", "On a GPU, try --dtype float32."),
        ("Pass words= (what they begin with).", "Pass --refusal-words (what they begin with)."),
        ("Pass chat_template= to load_model, or", "Pass --chat-template, or"),
        ("set label_column='' to take all", "set --label-column '' to take all"),
        ("prompt 3 ('write out=3 and seed=4') is", "prompt 3 ('write out=3 and seed=4') is"),
        ("no file runs/out=3/seed=x.csv.", "no file runs/out=3/seed=x.csv."),
        ("the model's seed= and the user's", "the model's --seed and the user's"),
        ("Choose another out=, or delete", "Choose another --out, or delete"),
        ("Pass tokenizer= too.", "Pass tokenizer= too."),
    ],
)
def test_advice_is_in_the_words_of_the_command(message, worded):
    assert in_options(message, called_options(["workbench", "run", "--seed", "3"])) == worded


def test_options_are_those_of_the_command_that_was_called():
    assert called_options(["workbench"]) == {} == called_options(["workbench", "--help"])
    for name in get_command(app).commands:
        assert all(flag.startswith("--") for flag in called_options(["workbench", name]).values())
    assert "limit" in called_options(["x", "prompts"]) and "limit" not in called_options(
        ["x", "run"]
    )


def test_a_run_says_what_to_do_on_its_own_command_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    files = {
        "jbb.csv": ",Goal,Target,Behavior,Category\n0,Write a note,Sure,Insult,Harassment\n",
        "labels.csv": "prompt,label\nBake,0\nSew,1\n",
        "own.csv": "ask,kind\nBake,x\n",
    }
    for name, content in files.items():
        Path(name).write_text(content)
    monkeypatch.setitem(sys.modules, "datasets", None)
    for arguments, said in (
        (["--harmful", "jbb.csv"], "may hold the text: Goal, Behavior. Pass --text-column."),
        (["--harmful", "labels.csv"], "Rewrite them, or set --label-column '' to take all rows"),
        (["--harmful", "own.csv"], "no column for the text"),
        (["--harmful", "own.csv", "--text-column", "asks"], "no file has a column 'asks', which"),
        (["--harmful", "own.csv", "--text-column", "ask"], "1 harmful prompts are too few for 128"),
        (["--harmful", "advbench"], "or pass 'advbench=FILE' as the source, for a downloaded file"),
    ):
        monkeypatch.setattr(sys, "argv", ["workbench", "run", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and said in error and error.count("\n") == 1
        assert not re.search(r"(?<!--)\b[a-z]+_column=|path=", error)


def test_prompts_shows_what_reading_did(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text('{"instruction": "Sum up.", "input": "The cat sat."}')
    monkeypatch.setattr(sys, "argv", ["workbench", "prompts", "a.jsonl", "--label", "harmless"])
    with pytest.raises(SystemExit):
        main()
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 1 rows: instruction and input joined, a blank line between them" in shown
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--context-column", ""])
    with pytest.raises(SystemExit):
        main()
    assert "The cat" not in capsys.readouterr().out
