"""The explorer in a real JupyterLab: opened, run, moved, clicked, and read."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("jupyterlab", reason="jupyterlab is not installed -> make test installs it")
pytest.importorskip("anywidget", reason="anywidget is not installed -> make test installs it")

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "explorer"
PATIENCE = 120_000  # milliseconds; the machine may be busy
STATUS = "[...document.querySelectorAll('span[role=status]')].map((e) => e.textContent)"


def notebook(source):
    # Without the kernel's name a dialog asks for it and swallows every click.
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    cell = {"cell_type": "code", "id": "explore", "execution_count": None, "metadata": {}}
    return {
        "cells": [{**cell, "outputs": [], "source": source}],
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture
def lab(small_run, chromium_path, tmp_path):
    """The address of a JupyterLab, on this machine only, with a notebook that explores the run."""
    source = f"import workbench as wb\nwb.explore({str(small_run.folder)!r}, n_prompts=1)"
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "explore.ipynb").write_text(json.dumps(notebook(source)))
    folders = ("RUNTIME_DIR", "CONFIG_DIR", "DATA_DIR")
    own = {f"JUPYTER_{name}": str(tmp_path / name) for name in folders}
    own |= {"IPYTHONDIR": str(tmp_path / "ipython"), "PYTHONPATH": str(ROOT)}
    settings = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": "0",
        "ServerApp.root_dir": str(tmp_path / "work"),
        "IdentityProvider.token": TOKEN,
        "LabApp.news_url": "None",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
    with (tmp_path / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in settings.items())],
            env={**os.environ, **own},
            stdout=log,
            stderr=log,
        )
        try:
            for _ in range(600):
                if found := list((tmp_path / "RUNTIME_DIR").glob("jpserver-*.json")):
                    break
                assert server.poll() is None, (tmp_path / "lab.log").read_text()
                time.sleep(0.2)
            yield json.loads(found[0].read_text())["url"]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


@pytest.mark.slow
def test_select_click_and_type_in_jupyterlab(lab, chromium, small_run):
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    complaints = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{lab}lab/tree/explore.ipynb?token={TOKEN}&reset", timeout=PATIENCE)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=PATIENCE)
    # A cell that is run before the kernel is there is not run at all, without a word.
    for _ in range(30):
        page.locator(".jp-CodeCell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(2000)
        if page.locator(".jp-InputPrompt").first.text_content() != "[ ]:":
            break
    page.wait_for_selector(".workbench-sweep .main-svg", timeout=PATIENCE)

    # The slider, by its arrow keys: the cosine map and the ring of the sweep follow.
    drawn = page.locator(".workbench-sweep").get_attribute("data-count")
    handle = page.locator(".noUi-handle").first
    handle.focus()
    handle.press("ArrowLeft")
    page.wait_for_function(
        f"document.querySelector('.workbench-sweep').dataset.drawn > {drawn}", timeout=PATIENCE
    )
    ring = "document.querySelector('.workbench-sweep .js-plotly-plot').data.at(-1)"
    assert page.evaluate(f"{ring}.x[0]") == small_run.choice.layer - 1
    page.wait_for_function(
        f"{STATUS}.join(' ').includes('layer {small_run.choice.layer - 1}')", timeout=PATIENCE
    )

    # A click on a point of the sweep: that candidate's replies.
    point = page.evaluate(
        """() => {
            const plot = document.querySelector('.workbench-sweep .js-plotly-plot');
            plot.scrollIntoView({ block: 'center' });
            const line = plot.data.find(
                (t) => t.legendgroup === '-2' && t.mode === 'lines+markers');
            const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
            return { x: box.left + xaxis._offset + xaxis.l2p(2),
                     y: box.top + yaxis._offset + yaxis.l2p(line.y[line.x.indexOf(2)]) };
        }"""
    )
    page.mouse.move(point["x"], point["y"])
    page.wait_for_timeout(500)
    page.mouse.click(point["x"], point["y"])
    page.wait_for_function(
        f"{STATUS}.some((t) => t.startsWith('refusal at layer 2, position \\u22122'))"
    )
    page.wait_for_function(f"{STATUS}.includes('done')", timeout=PATIENCE)
    table = page.locator(".workbench-replies").text_content()
    assert "not answered yet" not in table
    assert page.evaluate(f"{ring}.x[0]") == 2

    # A typed prompt: its tokens, with t_inst and t_post named.
    prompt = page.locator(".widget-text input")
    prompt.fill("How do I bake <b>bread</b>?")
    prompt.press("Enter")
    page.wait_for_selector(".workbench-tokens .main-svg", timeout=PATIENCE)
    shown = page.locator(".workbench-tokens").text_content()
    assert "t_inst" in shown and "t_post" in shown and "<b>bread</b>" in shown
    assert complaints == []
    page.close()
