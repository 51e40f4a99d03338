"""What a run's ledger takes for the same study, and what it refuses."""

import shutil
from dataclasses import replace

import pytest
import torch

import workbench as wb
from workbench import figures
from workbench.compare.comparable import read_source
from workbench.explorer.jobs import Reading, check_model
from workbench.explorer.views import Views
from workbench.gallery.draw import _prompts_of
from workbench.report.provenance import files, identity
from workbench.report.tables import prompts_table
from workbench.study.folder import open_folder
from workbench.study.ledger import Ledger
from workbench.study.prompts import split_prompts
from workbench.study.run import draw

STUDY = wb.Study(n_train=8, n_validation=8, n_test=4, borderline="")


@pytest.fixture(scope="module")
def prompts():
    return split_prompts(STUDY)


@pytest.fixture
def copied(small_run, tmp_path):
    """The small run in a folder that may be written to."""
    return shutil.copytree(small_run.folder, tmp_path / "run")


def test_a_run_does_not_go_on_in_another_dtype(pocket, prompts, tmp_path, monkeypatch):
    """Even where every weight is the same number in both."""
    ledger = open_folder(tmp_path, STUDY, pocket, prompts)
    (tmp_path / "scores.safetensors").write_bytes(b"1")
    ledger.keep("scores.safetensors")
    asked = replace(STUDY, dtype="float32")
    assert open_folder(tmp_path, asked, pocket, prompts).fault("scores.safetensors") is None
    ledger = open_folder(tmp_path, STUDY, pocket, prompts)
    monkeypatch.setattr(type(pocket), "dtype", torch.bfloat16)
    told = r"dtype differs\. The run was made in float32, .* in bfloat16: pass dtype='float32'"
    with pytest.raises(wb.StudyError, match=told):
        open_folder(tmp_path, STUDY, pocket, prompts)
    del ledger.record["provenance"]["dtype"]  # as an earlier version wrote it
    ledger.keep("scores.safetensors")
    ledger = open_folder(tmp_path, STUDY, pocket, prompts)
    assert "in another dtype" in str(ledger.fault("scores.safetensors"))


CATEGORIES = "category_directions.safetensors"
READERS = {
    "report": ("prompts.json", prompts_table),
    "report of the files": ("analyses/pca.safetensors", files),
    "gallery": ("prompts.json", _prompts_of),
    "comparison": (CATEGORIES, read_source),
    "explorer": (CATEGORIES, lambda run: Views(run).categories),
    "texts": ("prompt_texts.jsonl", lambda run: Reading(run)._prompts()),
}


@pytest.mark.parametrize("name", READERS)
def test_what_changed_since_a_run_was_read_is_refused(small_run, copied, name):
    file, read = READERS[name]
    run = wb.load_run(copied)
    read(run)
    path = copied / file
    path.write_bytes(path.read_bytes().replace(b"-0", b"-1") + b" ")
    (copied / "ledger.json").unlink()
    with pytest.raises(wb.StudyError, match=rf"{path} is damaged: .* read it again"):
        read(run)


def test_where_a_run_comes_from_is_what_it_was_read_with(pocket, small_run, copied, monkeypatch):
    run = wb.load_run(copied)
    (copied / "ledger.json").unlink()
    (copied / "study.json").write_text("{}")
    check_model(run, pocket)
    assert identity(run) == identity(small_run)
    assert run.versions == {}
    run.ledger.entries["scores.safetensors"]["environment"]["torch"] = "1.0"
    now = run.provenance["environment"]["torch"]
    assert ("torch: results of several", f"1.0, {now}") in identity(run)
    monkeypatch.setattr(type(pocket), "dtype", torch.bfloat16)
    with pytest.raises(wb.StudyError, match=r"pocket is in bfloat16, .* with dtype='float32'"):
        check_model(run, pocket)


def test_the_owner_is_told_a_command_with_whole_paths(copied):
    ledger = Ledger.read(copied)
    ledger.record["settings"]["harmful"] = str(copied / "own requests.csv")
    ledger.save()
    with pytest.raises(wb.ArtifactError, match=rf"--harmful '{copied}/own requests\.csv'"):
        wb.load_run(copied)


def test_results_stand_whatever_settings_and_defaults_a_later_version_has(
    pocket, prompts, tmp_path, monkeypatch
):
    name = "scores.safetensors"
    ledger = open_folder(tmp_path, STUDY, pocket, prompts)
    del ledger.record["settings"]["context_column"], ledger.record["settings"]["score_after"]
    (tmp_path / name).write_bytes(b"1")
    ledger.keep(name)
    assert Ledger.read(tmp_path).fault(name) is None
    with pytest.raises(wb.StudyError, match="another study: context_column differ"):
        open_folder(tmp_path, replace(STUDY, context_column="more"), pocket, prompts)
    assert open_folder(tmp_path, STUDY, pocket, prompts).fault(name) is None
    made = wb.Study.__init__
    monkeypatch.setattr(
        wb.Study, "__init__", lambda own, **given: made(own, **{"max_new_tokens": 16, **given})
    )
    assert wb.Study().max_new_tokens == 16
    assert Ledger.read(tmp_path).fault(name) is None
    with pytest.raises(wb.StudyError, match="another study: max_new_tokens differ"):
        open_folder(tmp_path, replace(STUDY, max_new_tokens=16), pocket, prompts)
    assert open_folder(tmp_path, STUDY, pocket, prompts).fault(name) is None


def test_figures_of_another_state_of_the_run_do_not_stay(small_run, copied, monkeypatch):
    shown = [each for each in figures.GALLERY if each.name in ("pca", "vocabulary")]
    assert len(shown) == 2
    monkeypatch.setattr(figures, "GALLERY", tuple(shown))
    run = replace(small_run, folder=copied)
    draw(run)
    pictures = [copied / "figures" / f"{each.name}.png" for each in shown]
    for path in pictures:
        path.write_bytes(b"drawn")
    draw(run)
    assert all(path.exists() for path in pictures)
    draw(replace(run, results={"pca": run.results["pca"].assign_attrs(model="another")}))
    assert not any(path.exists() for path in pictures)
    left = {path.name for path in copied.glob("figures/*.html")}
    assert "pca.html" in left and "vocabulary.html" not in left
