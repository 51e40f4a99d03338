"""The explorer's widgets without a kernel: controls, figures and replies follow one selection."""

from dataclasses import replace

import pytest

import workbench as wb
from workbench.explorer.views import VIEWS

pytest.importorskip("ipywidgets", reason="ipywidgets is not installed -> make test installs it")
pytest.importorskip("anywidget", reason="anywidget is not installed -> make test installs it")


@pytest.fixture
def panel(small_run, pocket):
    return wb.explore(small_run, model=pocket, n_prompts=1)


def rings(panel):
    return [trace["x"] for trace in panel.plots.sweep["spec"]["data"] if trace.get("meta")]


def test_everything_stored_is_there_at_once(panel, small_run):
    assert set(panel.plots.sweep) >= {"title", "subtitle", "alternative", "spec", "height"}
    assert all(getattr(panel.plots, view) for view in VIEWS)
    assert "chosen" in panel.chosen.value and "<table" in panel.replies.value
    assert panel.layer.value == small_run.choice.layer


def test_the_slider_moves_every_figure_that_hangs_on_it(panel):
    heads = panel.plots.heads
    panel.layer.value = 3
    assert panel.selection.layer == 3
    assert rings(panel) == [[3]] * 3
    assert "layer 3" in panel.chosen.value
    assert panel.plots.heads is heads


def test_a_click_moves_the_controls_and_answers(panel):
    panel._clicked({"view": "sweep", "x": 4, "y": 0.0, "group": "-3"})
    assert (panel.layer.value, panel.position.value) == (4, -3)
    # Without a loop the job has run to its end.
    assert "not answered yet" not in panel.replies.value
    assert "done" in panel.status.value and panel.stop.disabled


def test_stop_keeps_what_is_done_and_going_on_does_the_rest(panel, monkeypatch):
    panel.select(replace(panel.selection, layer=4))
    missing = len(panel._answers.missing(panel.selection))
    advance, seen = panel._advance, []

    def stop_after_three(step):
        advance(step)
        seen.append(step)
        if len(seen) == 3:
            panel._stop()

    monkeypatch.setattr(panel, "_advance", stop_after_three)
    panel._start(panel._answer())
    assert "what is done is kept" in panel.status.value
    assert 0 < len(panel._answers.missing(panel.selection)) < missing
    monkeypatch.setattr(panel, "_advance", advance)
    panel._start(panel._answer())
    assert panel._answers.missing(panel.selection) == []


def test_an_interrupt_keeps_what_is_done(panel, monkeypatch):
    panel.select(replace(panel.selection, layer=4))
    missing = len(panel._answers.missing(panel.selection))
    generate, calls = type(panel._model).generate, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(type(panel._model), "generate", interrupted)
    panel._start(panel._answer())
    assert "interrupted" in panel.status.value
    assert len(panel._answers.missing(panel.selection)) == missing - 1


def test_a_typed_prompt_is_shown_token_by_token(panel):
    assert "Type a prompt" in panel.plots.tokens["message"]
    panel.prompt.value = "How do I <b>bake</b> bread?"
    assert "How do I <b>bake</b> bread?" in panel.plots.tokens["subtitle"]
    first = panel.plots.tokens["spec"]["data"][0]["z"]
    panel.layer.value = 2
    assert panel.plots.tokens["spec"]["data"][0]["z"] != first


def test_a_prompt_that_cannot_be_read_is_said(panel):
    panel.prompt.value = "word " * 5000
    assert "reads at most" in panel.status.value
    panel.prompt.value = "  "
    assert "type a prompt" in panel.status.value


def test_the_model_is_loaded_only_when_something_needs_it(small_run, pocket, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "workbench.explorer.panel.model_of", lambda run, say: calls.append(run) or pocket
    )
    panel = wb.explore(small_run.folder)
    panel.layer.value = 4
    assert calls == []
    panel.prompt.value = "How do I bake bread?"
    assert len(calls) == 1


def test_a_model_gets_a_small_run_that_says_so(pocket, small_run, monkeypatch, capsys, tmp_path):
    asked = {}

    def recorded(study, folder, **settings):
        asked.update(study=study, folder=folder, **settings)
        settings["say"]("sweeping")
        return small_run

    monkeypatch.setattr("workbench.explorer.open.run_study", recorded)
    panel = wb.explore(pocket, out=tmp_path / "own")
    assert panel.run is small_run and asked["model"] is pocket
    assert asked["folder"] == tmp_path / "own"
    said = capsys.readouterr().out
    assert "goes on where it stopped" in said and "sweeping" in said


def test_without_the_widgets_explore_says_what_to_install(small_run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "workbench.explorer.panel", None)
    with pytest.raises(wb.StudyError, match="notebooks"):
        wb.explore(small_run)
