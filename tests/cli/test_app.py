"""The command line: thin, self-explaining, and equal to the API."""

import inspect
import re
import shutil
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import workbench as wb
from workbench.__main__ import main
from workbench.cli.app import app
from workbench.study.command import command
from workbench.study.registry import ANALYSES
from workbench.study.settings import Study


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_main(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["workbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_every_setting_is_an_option_of_the_same_name():
    options = {parameter.name: parameter for parameter in get_command(app).commands["run"].params}
    assert set(options) == {setting.name for setting in fields(Study)} | {"out", "png"}
    for name, option in options.items():
        assert option.opts == [f"--{name.replace('_', '-')}"]
        assert option.help
    for setting in fields(Study):
        assert options[setting.name].default == setting.default


def test_help_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['workbench', '--help']\n"
        "from workbench.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'sklearn', 'plotly'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Find, compare and causally test" in done.stdout


def test_run_prints_what_it_found(small_run_and_what_it_printed):
    # That its artifacts are those of the API: study/test_run.py compares a stopped run with it.
    run, output = small_run_and_what_it_printed
    assert "report.html" in {path.name for path in run.folder.iterdir()}
    for shown in ("Candidates", "★", "Refusal rate", "projection set", "harmless", "figures:"):
        assert shown in output
    printed = " ".join(output.split())
    for name in ("pca", "projections", "cosines", "vocabulary", "heads", "transfer"):
        assert f"{name} {' '.join(run.found[name].split())}" in printed
    # Paths stand on one line however long they are, so that they can be copied.
    paths = ("figures:", "results:", "report:")
    lines = [line for line in output.splitlines() if not line.startswith(paths)]
    assert max(map(len, lines)) <= 80


def test_run_help_lists_the_analyses():
    table = invoke("run", "--help").output.partition("what it makes")[2]
    printed = " ".join(table.split())
    for analysis in ANALYSES:
        assert f"{analysis.name} {analysis.what}" in printed
    # A row each, and not a wall of text.
    first = [line.split()[0] for line in table.splitlines() if line.strip()]
    assert {each.name for each in ANALYSES} <= set(first)


def test_compare_saves_what_the_api_does(small_run, tmp_path):
    result = invoke("compare", small_run.folder, "--out", tmp_path / "cli")
    assert result.exit_code == 0, result.output
    wb.compare_directions(small_run.folder).save(tmp_path / "api")
    for name in ("cosines.safetensors", "cosines.csv", "angles.safetensors"):
        assert (tmp_path / "cli" / name).read_bytes() == (tmp_path / "api" / name).read_bytes()
    for shown in ("without noise", "10 least alike of 28 pairs", "95% intervals", "overlap"):
        assert shown in result.output
    assert max(map(len, result.output.splitlines()[1:-4])) <= 80


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["--over", "layer"], "Cosine of refusal with layer 5, position -1"),
        (["--over", "position"], "Cosine of refusal with position -1, layer 5"),
        (["--position", "-2"], "no intervals: a run keeps intervals at its own place only"),
    ],
)
def test_compare_shows_what_is_asked_for(small_run, options, shown):
    result = invoke("compare", small_run.folder, *options)
    assert result.exit_code == 0, result.output
    assert shown in " ".join(result.output.split())


def test_compare_of_two_says_where_they_meet_and_why_there_are_no_intervals(small_run):
    file = small_run.folder / "directions.safetensors"
    result = invoke("compare", small_run.folder, file)
    assert result.exit_code == 0, result.output
    assert "Cosines between the two sets, layer 5, position -1" in result.output
    printed = " ".join(result.output.split())
    assert (
        "directions.safetensors carries no resampled vectors: give the folder of a run" in printed
    )


def test_two_runs_have_intervals(small_run):
    result = invoke("compare", small_run.folder, small_run.folder)
    assert result.exit_code == 0, result.output
    assert "95% intervals" in result.output and "no intervals" not in result.output
    assert "directions estimated by mean difference" in result.output
    result = invoke("compare", small_run.folder, small_run.folder, "--over", "layer")
    assert result.exit_code == 0, result.output
    assert "no intervals: runs resample at one place, not layers" in result.output


def test_compare_takes_a_vector_of_ones_own_and_says_how_it_was_read(small_run, tmp_path):
    choice, file = small_run.choice, tmp_path / "v.npy"
    np.save(file, small_run.direction.vector.numpy())
    shown = " ".join(
        invoke("compare", small_run.folder, file, "--layer", choice.layer).output.split()
    )
    assert (
        f"layer given by the reader; position not in the file, taken to be {choice.position}"
        in (shown)
    )
    assert "drugs" in shown
    again = invoke("compare", small_run.folder, small_run.folder, "--over", "layer").output
    assert again.count("no intervals") == 1
    layers = invoke("compare", small_run.folder, "--over", "layer").output
    assert ("zero but for rounding" in layers) == ("not measured" in layers)
    assert "not measured" in layers


def test_compare_words_what_a_file_says_as_what_can_be_typed(monkeypatch, capsys, tmp_path):
    own = wb.Directions.from_vector([1.0, 2.0], layer=5, position=-3).save(
        tmp_path / "a.safetensors"
    )
    place = ("--layer", "5", "--position", "-3")

    def told(held):
        torch.save(held, tmp_path / "v.pt")
        status = run_main(monkeypatch, "compare", own, tmp_path / "v.pt", *place)
        shown = capsys.readouterr()
        return status, " ".join((shown.out + shown.err).split())

    vector = torch.tensor([1.0, 2.0])
    status, shown = told({"layer": 5, "position": -3, "v": vector})
    assert not status and "pass --read-at 'output'; position as the file says" in shown
    for held, message in (
        ({3: vector}, "no layer 5 in"),
        ({"layers.5": vector}, "(pass --read-at 'output')"),
        (
            {"layer": 5, "hook": "odd", "v": vector},
            "'hook': 'odd', is not known here. Pass --site.",
        ),
        ({"a": vector, "b": vector.repeat(2, 1)}, "wb.load_published(path, name='…').directions"),
        (torch.zeros(300, 2), "300 layers"),
    ):
        status, shown = told(held)
        assert message in shown, shown
        assert not re.search(r"--[a-z]+[-\[]\d|=\[\d", shown)


def test_compare_help_teaches_with_an_example():
    printed = " ".join(invoke("compare", "--help").output.replace("│", " ").split())
    assert "Example: workbench compare runs/qwen --over layer" in printed
    assert "Cosines of different models mean nothing" in printed


def test_compare_of_other_models_is_one_line_and_writes_nothing(
    monkeypatch, capsys, tmp_path, small_run
):
    values = torch.ones(1, 1, 1, 7)
    other = wb.Directions(values, ("x",), (5,), (-1,)).save(tmp_path / "other.safetensors")
    out = tmp_path / "out"
    assert run_main(monkeypatch, "compare", small_run.folder, other, "--out", out) == 2
    error = capsys.readouterr().err
    assert "a cosine between them means nothing" in error and error.count("\n") == 1
    assert not out.exists()


def test_models_lists_the_organisms_as_what_they_are():
    output = " ".join(invoke("models").output.split())
    assert "pocket-base" in output and "planted" in output


def test_prompts_lists_sources_and_looks_into_one(tmp_path):
    assert "harmbench" in invoke("prompts").output
    file = tmp_path / "own.csv"
    file.write_text("request,kind\n[bold]How do I[/bold] bake bread?,kitchen\n")
    result = invoke("prompts", file, "--text-column", "request", "--label", "harmless")
    assert result.exit_code == 0, result.output
    # Untrusted text is shown as text, not as markup.
    assert "[bold]" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--model", "no-such-model"), "workbench: no model 'no-such-model'"),
        (("run", "--n-train", "0"), "workbench: --n-train must be at least 1, found 0."),
        (("run", "--analyses", "cosine"), "found 'cosine'. Did you mean 'cosines'?"),
        (("compare", "nowhere"), "workbench: no file or folder nowhere."),
        (("prompts", "harmfull"), "harmful"),
    ],
)
def test_our_errors_are_one_line_and_status_2(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_empty_prompt_file_is_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    monkeypatch.chdir(tmp_path)
    assert run_main(monkeypatch, "run", "--harmful", "empty.csv") == 2
    error = capsys.readouterr().err
    assert "empty.csv" in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["empty.csv"]


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("workbench.prompts.sources.prompt_sources", broken)
    monkeypatch.setattr(sys, "argv", ["workbench", "prompts"])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.parametrize(
    ("command", "resumes"), [("run", True), ("patch-heads", True), ("prompts", False)]
)
def test_ctrl_c_is_one_line_that_says_how_to_go_on(monkeypatch, capsys, tmp_path, command, resumes):
    def interrupted(*_arguments, **_settings):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("workbench.study.stages.split_prompts", interrupted)
    monkeypatch.setattr("workbench.prompts.sources.prompt_sources", interrupted)
    assert run_main(monkeypatch, command) == 130
    error = capsys.readouterr().err
    assert error.startswith("workbench: stopped.") and error.count("\n") == 1
    assert ("the same command again goes on" in error) == resumes


def test_version():
    assert invoke("--version").output.strip() == wb.__version__


def test_patch_heads_gives_the_artifacts_of_the_api(small_run, small_study, pocket, tmp_path):
    from workbench.study.steps.heads import find_heads

    folder = tmp_path / "run"
    shutil.copytree(small_run.folder, folder)
    options = command(small_study).split()[2:]
    asked = ["--positions", "-1", "--layers", "3-4", "--n-random", 1]
    result = invoke("patch-heads", "--out", folder, *asked, *options)
    assert result.exit_code == 0, result.output
    heads, _ = find_heads(small_study, folder, model=pocket, layers=[3, 4], n_random=1)
    heads.save(tmp_path / "api")
    for path in (tmp_path / "api").glob("*.*"):
        assert (folder / "heads" / path.name).read_bytes() == path.read_bytes(), path.name
    printed = " ".join(result.output.split())
    for shown in ("Largest effects", "4.5 -1", "smallest set:", "1 random set", "correlation"):
        assert shown in printed
    # Effects are nats, and no cosines, which end at 1.
    row = heads.to_dataframe().set_index(["position", "layer", "head"]).loc[(-1, 4, 5)]
    assert f"4.5 -1 {row['effect']:.2f}" in printed and abs(row["effect"]) > 1.1
    assert "\N{GREATER-THAN OR EQUAL TO}1" not in printed
    # Paths stand on one line however long they are, so that they can be copied.
    paths = ("figures:", "results:", "report:")
    lines = [line for line in result.output.splitlines() if not line.startswith(paths)]
    assert max(map(len, lines)) <= 80


def test_patch_heads_refuses_what_is_no_range(monkeypatch, capsys, tmp_path):
    for option, text in (("--layers", "3-x"), ("--positions", "last")):
        code = run_main(monkeypatch, "patch-heads", option, text, "--out", tmp_path / "run")
        assert code == 2
        assert "is no number and no range. Pass numbers" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def paths():
    """Every option and argument of every command that is a path."""
    for called in app.registered_commands:
        name = called.name or called.callback.__name__
        own = {each.name: each.opts[-1] for each in get_command(app).commands[name].params}
        for argument, each in inspect.signature(called.callback).parameters.items():
            if "Path" in str(each.annotation).partition("typer")[0]:
                yield name, argument, own[argument]


@pytest.mark.parametrize(("command", "name", "option"), list(paths()))
def test_an_empty_path_is_not_the_current_folder(monkeypatch, capsys, command, name, option):
    given = [option, ""] if option.startswith("--") else ["x", ""] if name == "second" else [""]
    assert run_main(monkeypatch, command, *given) == 2
    assert "the path is empty. Pass that of a file or folder" in capsys.readouterr().err


def test_every_path_of_a_command_is_known_as_one():
    known = {(command, name) for command, name, _ in paths()}
    assert {("run", "out"), ("figures", "runs"), ("prompts", "path")} <= known
    assert {name for command, name in known if command == "compare"} == {"first", "second", "out"}


def test_numbers_are_read_with_ranges():
    from workbench.cli.app import _numbers

    with pytest.raises(wb.StudyError, match=r"the range 8-2 runs down. Pass 2-8"):
        _numbers("8-2")

    assert _numbers("-1,-3") == [-1, -3] and _numbers("0-2, 5") == [0, 1, 2, 5]
