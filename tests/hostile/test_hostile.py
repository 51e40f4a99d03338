"""Damaged files, a few of every kind, and all that were once found to do harm."""

import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb
from hostile.fuzz import complaint, fuzz
from hostile.targets import TARGETS, Target

HERE = Path(__file__).parent
FINDS = sorted(path for path in (HERE / "finds").glob("*/*") if path.is_dir())


@pytest.mark.parametrize("name", [name for name, own in TARGETS.items() if own.quick])
def test_seeds_are_read(name, tmp_path):
    for at, bundle in enumerate(TARGETS[name].bundles()):
        folder = tmp_path / str(at)
        for file, content in bundle.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        try:
            TARGETS[name].read(folder, next(iter(bundle)))
        except wb.PromptError as error:
            # Two need an argument, and two are tables that are none.
            assert any(word in str(error) for word in ("several", "two columns", "Wrapping"))


@pytest.mark.parametrize("folder", FINDS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_is_refused_now(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    name = files[0].relative_to(folder).as_posix()
    assert complaint(folder.parent.name, folder, name) is None


def test_a_few_hundred_damaged_files_of_every_kind():
    code = "import sys; from hostile.fuzz import main; sys.exit(main(sys.argv[1:]))"
    names = ",".join(name for name, own in TARGETS.items() if own.quick)
    call = [sys.executable, "-c", code, "--each", "200", "--workers", "1", "--targets", names]
    path = {"PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, capture_output=True, text=True, env=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith(": 0 finds")


class _Readers:
    """Readers that do what none should."""

    @staticmethod
    def raises(folder, name):
        raise KeyError(name)

    @staticmethod
    def dies(folder, name):
        import os

        os._exit(3)

    @staticmethod
    def hangs(folder, name):
        while True:
            pass

    @staticmethod
    def grows(folder, name):
        assert len(b"a" * 2**27)

    @staticmethod
    def refuses(folder, name):
        raise wb.ArtifactError("no")


@pytest.mark.parametrize(
    ("reader", "told"),
    [
        ("raises", "KeyError at test_hostile.py"),
        ("dies", "kills the process (exit status 3)"),
        ("hangs", "takes more than"),
        ("grows", "takes 2."),
        ("refuses", None),
    ],
)
def test_the_harness_finds_what_it_is_for(monkeypatch, reader, told):
    read = getattr(_Readers, reader)
    monkeypatch.setitem(TARGETS, "own", Target(lambda: [{"a.txt": b"some text"}], read))
    monkeypatch.setattr("hostile.fuzz.SECONDS", 0.5)
    monkeypatch.setattr("hostile.fuzz.BYTES", 2**26)
    finds = fuzz({"own": 2}, first=5, warm=False)
    assert [find.seed for find in finds] == ([] if told is None else [5, 6])
    assert all(told in find.what for find in finds)
