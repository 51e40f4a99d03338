"""What an error advises can be done where it is said."""

import ast
import inspect
import math
import re
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import xarray as xr
from typer.main import get_command

import workbench
from workbench.__main__ import main
from workbench.arguments.options import OTHER_NAMES, in_options
from workbench.cli.app import app, called_options
from workbench.errors import StudyError
from workbench.study import stages
from workbench.study.prompts import _ADVICE
from workbench.study.settings import Study

PACKAGE = Path(workbench.__file__).parent
# Rooms whose errors a command line meets before it has a model, and while it loads one.
ROOMS = (
    "prompts",
    "study/prompts.py",
    "study/settings.py",
    "models/loading/adapters.py",
    "models/loading/explained.py",
    "models/loading/gguf_file.py",
    "models/loading/load.py",
    "models/loading/places.py",
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
    "positions": "collect_activations; a run reads such a t_inst by its name",
    "merge": "load_model; a run merges its adapter",
    "refusal_tokens": "sweep_directions and its kind; a run finds them on training prompts",
    "refusal_tokens_from": "sweep_directions; a run finds them on training prompts",
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
        ("Study: seed must be at least 0.", "--seed must be at least 0."),
        ("Raise n_test (or n_train), not", "Raise --n-test (or --n-train), not"),
        ("Leave thinking= out; thinking=False", "Leave --no-thinking out; --no-thinking"),
        ("or thinking=True, or after=", "or --thinking, or --score-after"),
        (
            "model.batch_tokens, n_train.csv, a/n_train",
            "model.batch_tokens, n_train.csv, a/n_train",
        ),
        ("load_model(x, device=…) of 'n_train'", "load_model(x, device=…) of 'n_train'"),
    ],
)
def test_advice_is_in_the_words_of_the_command(message, worded):
    assert in_options(message, called_options(["workbench", "run", "--no-thinking"])) == worded


WRONG = {
    **dict.fromkeys(("n_train", "n_validation", "n_test", "top_k"), 0),
    **dict.fromkeys(("max_new_tokens", "max_thinking_tokens", "batch_tokens"), -1),
    **dict.fromkeys(("max_bytes", "max_rows"), 0),
    **dict.fromkeys(
        ("model", "adapter", "harmful", "harmless", "text_column", "id_column", "split"), " "
    ),
    **dict.fromkeys(("refusal_words", "analyses", "revision", "chat_template", "adapter"), " "),
    "label_values": "unsafe",
    **dict.fromkeys(("estimator", "site", "judge", "score_after", "t_inst"), "nonsense"),
    **dict.fromkeys(("borderline", "category_column", "label_column", "context_column"), 3),
    **{"device": "gpu", "dtype": "int8", "date": "20260131", "thinking": "yes", "system": 3},
    **{"kl_cap": -0.1, "induce_floor": math.inf, "skip_last": 1, "confidence": 1, "seed": 2**32},
}


@pytest.mark.parametrize("setting", fields(Study), ids=lambda each: each.name)
def test_every_setting_is_checked_when_it_is_made_and_called_by_its_option(unchecked, setting):
    """And by its option alone, wherever an error names it."""
    options = called_options(["workbench", "run"])
    option = options[setting.name]
    with pytest.raises(
        StudyError, match=rf"^(Study: )?{setting.name} must be .*, found "
    ) as caught:
        Study(**{setting.name: WRONG[setting.name]})
    told = in_options(str(caught.value), options)
    assert told.startswith(f"{option} must be ") and f"{setting.name}=" not in told
    assert not re.search(r"\b[a-z]+(_[a-z]+)+\b", told.partition(" must be ")[0])
    for text in (f"Leave {setting.name}= out.", f"{setting.name} must be 1."):
        assert option in in_options(text, options)
    if "_" in setting.name:
        assert in_options(f"Raise {setting.name}.", options) == f"Raise {option}."


@pytest.mark.parametrize("command", sorted(get_command(app).commands))
def test_every_option_is_what_errors_call_it_by(command):
    options = called_options(["workbench", command])
    for name, option in options.items():
        if "=" not in name:
            assert in_options(f"{name} must be 1. Pass {name}=.", options) == (
                f"{option} must be 1. Pass {option}."
            )


def test_what_loads_a_model_takes_every_setting_of_loading():
    loading = {
        *inspect.signature(workbench.load_model).parameters,
    } - {"name", "tokenizer", "device_map", "merge"}
    assert loading <= {*called_options(["workbench", "verify"])}
    assert loading - {"trust_remote_code"} <= {*called_options(["workbench", "run"])}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--no-thinking"], "has no switch for thinking: .* Leave --no-thinking out"),
        (["verify", "--date", "2026-01-31"], "writes no day. Leave --date out"),
        (["run", "--max-thinking-tokens", "9"], "--max-thinking-tokens 9 does nothing where"),
        (["run", "--score-after", "thinking"], "Lower --max-thinking-tokens or shorten"),
        (["run", "--max-new-tokens", "500"], "500 new ones do not fit.* Lower --max-new-tokens or"),
        (["patch-heads", "--threshold", "2"], "--threshold must be above 0 and at most 1, found 2"),
        (["patch-heads", "--aim", "x"], "--aim must be one of induce, suppress, found 'x'"),
        (["patch-heads", "--layers", "5-3"], "the range 5-3 runs down. Pass 3-5"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_option(
    unchecked, monkeypatch, capsys, tmp_path, arguments, said
):
    monkeypatch.setattr(stages, "verify_model", lambda model: VERIFIED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert re.search(said, capsys.readouterr().err)


VERIFIED = xr.Dataset(
    {"verdict": ("check", ["exact"])}, attrs={"verdict": "exact", "environment": {}}
)


def test_warnings_are_one_line_in_the_words_of_the_command(monkeypatch, capsys):
    def warn(**_settings):
        warnings.warn("two\nlines: leave words= out", UserWarning, stacklevel=1)
        raise StudyError("stop")

    monkeypatch.setattr("workbench.cli.app.app", warn)
    monkeypatch.setattr(
        "workbench.cli.app.called_options", lambda arguments: {"refusal_words": "--r"}
    )
    monkeypatch.setattr(sys, "argv", ["workbench", "run"])
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        warnings.simplefilter("default")
        main()
    assert capsys.readouterr().err.splitlines() == [
        "workbench: warning: two lines: leave --r out",
        "workbench: stop",
    ]


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
        (["--harmful", "labels.csv"], "pass --label-values '0=LABEL, 1=LABEL'."),
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
