"""What a user gets from a plain ``pip install``: the wheel, no pinned versions, another folder.

Run by ``make test-wheel``. It needs a package index, so it is a program and no test of pytest,
where nothing may reach the network. torch is installed first, in the pinned version: left to
itself pip may fetch several gigabytes of a build for graphics cards.
"""

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check")
QUIET = "-qq"
EXTRAS = "adapters,bitsandbytes,data,gguf,notebooks,png,sae"
INSTALLED = """
import json, sys
from importlib.metadata import version
import workbench as wb
run = wb.load_run(sys.argv[1])
rates = run.effects["refusal_rate"]
print(json.dumps({
    "where": wb.__file__,
    "versions": {name: version(name) for name in sys.argv[2:]},
    "cosine": run.planted_cosine,
    "skipped": dict(run.skipped),
    "rates": {
        f"{prompts} {condition}": float(rates.sel(prompt_set=prompts, condition=condition))
        for prompts in ("harmful", "harmless")
        for condition in rates.condition.values
    },
}))
"""


def call(*command: str | Path, cwd: Path) -> str:
    """Runs a program as a user would, with no pins and nothing of this checkout on its path."""
    own = ("PYTHONPATH", "PIP_CONSTRAINT")
    environment = {name: value for name, value in os.environ.items() if name not in own}
    print("+", *(str(part).splitlines()[0] for part in command if str(part)), flush=True)
    done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\ntest-wheel: the command above ended with {done.returncode}")
    return done.stdout


def build(folder: Path) -> Path:
    """The wheel, which holds every file of the package that git knows."""
    call(sys.executable, *PIP, "wheel", QUIET, "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    known = call("git", "-C", ROOT, "ls-files", "workbench", cwd=folder).split()
    expected = {name for name in known if (ROOT / name).is_file()}
    assert {"workbench/py.typed", "workbench/prompts/data/harmful.jsonl"} <= expected
    missing = expected - set(zipfile.ZipFile(wheel).namelist())
    assert not missing, f"the wheel lacks {sorted(missing)}"
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """A fresh environment with the wheel; where its programs lie."""
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    programs = folder / "venv" / "bin"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (torch,) = (line for line in lines if line.startswith("torch=="))
    call(programs / "python", *PIP, "install", QUIET, torch, cwd=folder)
    call(programs / "python", *PIP, "install", QUIET, wheel, cwd=folder)
    # Whether what was installed satisfies everybody's bounds, ours among them.
    call(programs / "python", *PIP, "check", cwd=folder)
    call(programs / "python", *PIP, "install", QUIET, "--dry-run", f"{wheel}[{EXTRAS}]", cwd=folder)
    return programs


def main() -> None:
    """Builds, installs, runs the main job on the shipped model, and looks at its numbers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        programs = install(build(folder), folder)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        call(programs / "workbench", "--version", cwd=elsewhere)
        assert "pocket-two" in call(programs / "workbench", "models", cwd=elsewhere)
        call(programs / "workbench", "run", "--out", "run", cwd=elsewhere)
        assert (elsewhere / "run" / "report.html").is_file()
        shown = ("torch", "transformers", "transformer-lens", "numpy", "pandas", "plotly", "typer")
        found = json.loads(call(programs / "python", "-c", INSTALLED, "run", *shown, cwd=elsewhere))
    print(json.dumps(found, indent=1))
    assert Path(found["where"]).resolve().is_relative_to(folder)
    rates = found["rates"]
    assert rates["harmful plain"] > 0.8 and rates["harmful ablated"] < 0.1
    assert rates["harmless plain"] < 0.1 and rates["harmless added"] > 0.9
    assert found["cosine"] > 0.9 and not found["skipped"]


if __name__ == "__main__":
    main()
