"""One process at a time writes into a run; who does is named, and a dead one is no obstacle."""

import contextlib
import os
import signal
import subprocess
import sys

import filelock
import pytest

import workbench as wb
from workbench.__main__ import main
from workbench.report.page import write_report
from workbench.study import stages
from workbench.study.ledger import Ledger
from workbench.study.occupied import occupied
from workbench.study.stages import open_run

HOLDING = """
import sys
from pathlib import Path
from workbench.study.occupied import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_holder_is_named_and_its_death_sets_the_folder_free(tmp_path):
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        (tmp_path / ".a.json.0123abcd.tmp").write_text("half")
        told = rf"another process writes into .*: process {holder.pid} on \S+, since 20\d\d-"
        with pytest.raises(wb.StudyError, match=told), occupied(tmp_path):
            pass
        os.kill(holder.pid, signal.SIGKILL)
    assert (tmp_path / ".holder.json").exists()
    with occupied(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {".lock", ".holder.json"}
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_second_study_in_the_folder_waits_for_the_first(pocket, tmp_path):
    study = wb.Study(n_train=8, n_validation=8, n_test=4, borderline="")
    with open_run(study, tmp_path / "run", model=pocket):
        with pytest.raises(wb.StudyError, match="another process writes into"):
            wb.run_study(study, tmp_path / "run", model=pocket)
        assert wb.Study(**Ledger.read(tmp_path / "run").record["settings"]) == study


def test_a_run_begun_by_another_while_the_model_was_loaded_is_not_entered(
    pocket, tmp_path, monkeypatch
):
    study = wb.Study(n_train=8, n_validation=8, n_test=4, borderline="")
    load = stages._model
    with contextlib.ExitStack() as other:

        def loaded_slowly(*given):
            monkeypatch.setattr(stages, "_model", load)
            other.enter_context(open_run(study, tmp_path / "run", model=pocket))
            return load(*given)

        monkeypatch.setattr(stages, "_model", loaded_slowly)
        with (
            pytest.raises(wb.StudyError, match="another process writes into"),
            open_run(study, tmp_path / "run", model=pocket),
        ):
            pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def refused(self):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(filelock.FileLock, "_acquire", refused)
    with (
        pytest.raises(wb.ArtifactError, match=r"cannot write into .*: Read-only file system"),
        occupied(tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    "name", ["study.json", "ledger.json", "direction.safetensors", "analyses/pca.safetensors"]
)
def test_no_page_or_table_is_written_over_a_file_of_a_run(small_run, name, monkeypatch, capsys):
    path = small_run.folder / name
    before = path.read_bytes()
    with pytest.raises(wb.StudyError, match="is a file of the run in"):
        write_report(small_run, path)
    monkeypatch.setattr("sys.argv", ["workbench", "verify", "pocket", "--out", str(path)])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "Choose another --out" in capsys.readouterr().err
    assert path.read_bytes() == before
