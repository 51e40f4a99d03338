"""A question is added with its files and a line: it is run, kept, drawn and reported."""

import shutil
import subprocess
import sys

from workbench.artifact import load_dataset

STEP = """
import numpy as np
import xarray as xr

def toy(material):
    norms = material.directions.values[0, :, -1].norm(dim=-1).numpy()
    return {"toy": xr.Dataset({"norm": ("layer", norms.astype(np.float64))})}

def toy_line(results, layer, position):
    return f"longest at layer {layer}"
"""
PROGRAM = """
import sys
from workbench.study import names, registry, steps

folder, run = sys.argv[1:]
steps.__path__.append(folder)
registry.ANALYSES += (
    registry.Analysis(
        name="toy", what="how long a toy is", needs="a toy", results=("toy",), home="toy.toy",
        made_from=names.PLACE,
    ),
)

import plotly.graph_objects as go
from workbench import figures
from workbench.figures import catalogue

figures.GALLERY = catalogue.GALLERY = catalogue.GALLERY[:1] + (
    figures.GalleryEntry(
        name="toy", question="How long is a toy?", caption="As long as it is.", answers="",
        needs="toy", figure=lambda run: go.Figure(go.Scatter(y=run.results["toy"]["norm"].values)),
        data=lambda run: run.results["toy"],
    ),
)

from workbench.__main__ import main

small = "--n-train 48 --n-validation 16 --n-test 12 --max-new-tokens 16 --analyses toy".split()
for arguments in (["run", "--help"], ["run", "--out", run, *small]):
    sys.argv = ["workbench", *arguments]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def test_a_question_is_added_with_its_files_and_a_line(small_run, tmp_path):
    run = shutil.copytree(small_run.folder, tmp_path / "run")
    (tmp_path / "toy.py").write_text(STEP)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(run)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    usage, told = done.stdout.split("loading pocket")
    assert "toy" in usage and "how long a toy is" in " ".join(usage.replace("│", " ").split())
    layer = small_run.choice.layer
    assert f"toy longest at layer {layer}" in " ".join(told.split())
    kept = load_dataset(run / "analyses" / "toy.safetensors", kind="toy")
    assert kept["norm"].sizes == {"layer": 8} and float(kept["norm"].max()) > 1
    assert (run / "figures" / "toy.html").stat().st_size > 1000
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "How long is a toy?" in page and "As long as it is." in page
