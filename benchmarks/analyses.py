"""Seconds that each analysis of a run takes, with the default settings on the shipped model.

    python benchmarks/analyses.py                          # pocket, two threads
    python benchmarks/analyses.py --model pocket-two --analyses default
    python benchmarks/analyses.py --run runs/pocket        # keeps the main results between calls

The main results are made first, or read from the folder; then every analysis is made once, in the
order of a run. Activations and category directions that several of them share are read by the
first that asks, as in a run, and counted there. Nothing is drawn. Wall-clock time grows with
whatever else the machine does, which the load average before and after says; processor time of this
process does so less. Results of analyses are not written: the folder stays as it was, but for the
directions of categories.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

import workbench as wb
from workbench.study.registry import analyses_help, chosen_analyses
from workbench.study.results import choose
from workbench.study.stages import open_run


def measure(study: wb.Study, folder: Path) -> list[tuple[str, float, float, str]]:
    """Name, wall-clock seconds, processor seconds and outcome of every analysis."""
    began = time.perf_counter(), time.process_time()
    with open_run(study, folder, say=lambda line: print(line, flush=True)) as stages:
        directions = stages.directions()
        direction = stages.direction(directions, choose(study, stages.scores(directions)))
        stages.effects(direction, stages.replies(direction))
        rows = [("all before", *_since(began), "loading, directions, sweep, replies")]
        material = stages.material(directions, direction)
        for analysis in chosen_analyses(study.analyses):
            began = time.perf_counter(), time.process_time()
            try:
                analysis.compute(material)
                outcome = "made by default" if analysis.cheap else "made if it is named"
            except wb.StudyError as error:
                outcome = f"skipped: {error}"
            rows.append((analysis.name, *_since(began), outcome))
            print(f"{analysis.name}: {rows[-1][1]:.1f} s", flush=True)
    return rows


def _since(began: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - began[0], time.process_time() - began[1]


def main() -> None:
    """Measures and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="pocket", help="organism, Hub id or folder")
    parser.add_argument("--analyses", default="all", help=analyses_help().replace("%", "%%"))
    parser.add_argument("--run", type=Path, help="folder of the main results; by default a new one")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    study = wb.Study(model=chosen.model, analyses=chosen.analyses)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory() as made:
        rows = measure(study, chosen.run or Path(made) / "run")
    after = os.getloadavg()
    print("\n| analysis | wall, s | CPU, s | |\n|---|---|---|---|")
    for name, wall, cpu, outcome in rows:
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {outcome} |")
    print(
        f"\n{chosen.model}, {os.cpu_count()} cores, {chosen.threads} threads; load average (1 min) "
        f"{before[0]:.1f} before, {after[0]:.1f} after"
    )


if __name__ == "__main__":
    main()
