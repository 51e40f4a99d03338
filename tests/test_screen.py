"""What others wrote reaches the screen as text: no control, no markup, no line of its own."""

import re
import sys
import unicodedata
import warnings
from io import StringIO
from pathlib import Path

import pytest
from rich.table import Table
from typer.testing import CliRunner

import workbench as wb
from workbench import progress, screen
from workbench.__main__ import main
from workbench.cli.app import app

HOSTILE = "\x1b]0;owned\x07\x9b31m\u202eabc\u2066 [/red] [bold]x[/] :bomb: \ud800"
SEEN = "]0;owned31mabc [/red] [bold]x[/] :bomb: \ufffd"
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_no_control_and_nothing_that_turns_text_is_left():
    kept = set(screen.plain("".join(map(chr, range(0x20000)))))
    assert {each for each in kept if unicodedata.category(each) == "Cc"} == {"\n", "\t"}
    assert not [each for each in kept if unicodedata.category(each) in ("Cs", "Zl", "Zp")]
    assert not {unicodedata.bidirectional(each) for each in kept} & TURNING
    assert screen.plain("a\r\nb\tc") == "a\nb\tc"
    assert screen.one_line("a\r\nb\x85c\u2028d\te\rf") == "a b c d e f"
    assert screen.plain("\U0001f469\u200d\U0001f4bb é 漢") == "\U0001f469\u200d\U0001f4bb é 漢"


@pytest.mark.parametrize("show", [screen.show, screen.say, screen.tell, screen.fail])
def test_words_are_shown_as_they_are(show, capsys):
    show(HOSTILE)
    out = "".join(capsys.readouterr())
    assert SEEN in out and not OBEYED.search(out)


def test_tables_hold_words_in_every_place(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    screen.show(table)
    out = capsys.readouterr().out
    assert out.count(SEEN) == 4 and not OBEYED.search(out)


def test_a_line_of_others_is_no_line_of_ours(capsys):
    for line in (screen.say, screen.tell, screen.fail):
        line("a\nreport: b\u2028c")
    screen.tell_path("report", Path("a\nreport: b"))
    assert all(each.count("a report: b") == 1 for each in "".join(capsys.readouterr()).splitlines())


def test_progress_shows_words(monkeypatch):
    terminal = StringIO()
    monkeypatch.setenv("TERM", "xterm")
    shown = screen.console(stderr=True)
    shown.file, shown._force_terminal, shown.is_interactive = terminal, True, True
    monkeypatch.setattr(progress, "console_of", lambda stderr: shown)
    assert list(progress.track([1], HOSTILE, 1)) == [1]
    assert "[/red] [bold]x[/] :bomb:" in terminal.getvalue()
    assert not {"\x9b", "\x07", "\u202e"} & set(terminal.getvalue())
    assert "\x1b]0" not in terminal.getvalue()


def test_warnings_are_words():
    with pytest.warns(UserWarning) as caught:
        screen.warn(f"a\n{HOSTILE}")
    assert str(caught[0].message) == f"a {SEEN}"


def test_a_path_in_brackets_is_no_markup_once_the_work_is_done(small_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", str(small_run.folder), "--out", "[/red]r.html"])
    assert result.exit_code == 0, result.output
    assert "report: [/red]r.html" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([HOSTILE], "No such command"),
        (["run", f"--{HOSTILE}"], "No such option"),
        (["prompts", "--limit", HOSTILE[:-2]], "a valid integer"),
        (["prompts", HOSTILE[:-2]], "no prompts called|cannot read|no file"),
        (["report", "nowhere\x1b]0;owned\x07"], "holds no run"),
    ],
)
def test_errors_of_a_command_line_are_words(arguments, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["workbench", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and re.search(said, error)
    assert not OBEYED.search(error)
    assert [line.startswith("workbench: ") for line in error.splitlines()].count(True) == 1


def test_a_bug_is_shown_without_what_a_terminal_obeys(capsys, monkeypatch):
    def broken():
        warnings.warn(HOSTILE, stacklevel=1)
        raise ValueError(HOSTILE)

    monkeypatch.setattr("workbench.prompts.sources.prompt_sources", broken)
    monkeypatch.setattr(sys, "argv", ["workbench", "prompts"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    warnings.simplefilter("always")
    with pytest.raises(ValueError) as caught:
        main()
    sys.excepthook(caught.type, caught.value, caught.tb)
    error = capsys.readouterr().err
    assert error.count(SEEN) >= 2 and "Traceback" in error
    assert error.startswith("workbench: warning: ")
    assert not OBEYED.search(error)


def test_prompts_and_categories_are_shown_as_words(tmp_path, capsys, monkeypatch):
    file = tmp_path / "own.jsonl"
    words = HOSTILE[:-2]
    wb.PromptSet((wb.Prompt("1", words, "harmless", words),)).save(file)
    monkeypatch.setattr(sys, "argv", ["workbench", "prompts", str(file)])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    assert "[/red]" in out and not OBEYED.search(out)
