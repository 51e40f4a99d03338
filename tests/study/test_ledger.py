"""What a run's ledger takes for the same study, and what it refuses."""

import shutil

import pytest

import workbench as wb
from workbench.study.folder import open_folder
from workbench.study.ledger import Ledger
from workbench.study.prompts import split_prompts

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
    asked = wb.Study(**{**STUDY.__dict__, "dtype": "float32"})
    assert open_folder(tmp_path, asked, pocket, prompts).fault("scores.safetensors") is None
    ledger = open_folder(tmp_path, STUDY, pocket, prompts)
    monkeypatch.setattr(type(pocket), "dtype", "torch.bfloat16")
    told = r"dtype differ\. The run was made in float32, .* in bfloat16: pass dtype='float32'"
    with pytest.raises(wb.StudyError, match=told):
        open_folder(tmp_path, STUDY, pocket, prompts)
    del ledger.record["provenance"]["dtype"]  # as an earlier version wrote it
    ledger.keep("scores.safetensors")
    ledger = open_folder(tmp_path, STUDY, pocket, prompts)
    assert "in another dtype" in str(ledger.fault("scores.safetensors"))
