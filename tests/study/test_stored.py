"""Runs whose files are broken or of other types: refused in one line that names the place."""

import json

import pytest
from hostile import seeds
from hostile.sealing import seal_again

import workbench as wb
from workbench.intake.records import as_record
from workbench.study.ledger import Ledger
from workbench.study.stored import read_kept


@pytest.fixture(scope="module")
def files():
    """The files of a run with the smallest results that are read."""
    return seeds.run()[0]


@pytest.fixture
def folder(files, tmp_path):
    for name, content in files.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "run"


def changed(path, place, value):
    """A JSON file with one value at a place, or without it."""
    found = json.loads(path.read_text())
    *outer, last = place.split(".") if isinstance(place, str) else place
    own = found
    for name in outer:
        own = own[name]
    if value is ...:
        del own[last]
    else:
        own[last] = value
    path.write_text(json.dumps(found))


def test_the_run_is_read_as_it_is(folder):
    run = wb.load_run(folder)
    assert (run.study, run.choice.layer) == (wb.Study(), 0)
    assert run.skipped == {"pca": "too few"}
    assert read_kept(folder / "prompts.json")["refusal_tokens"] == [3]


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("study.json", "settings.analyses", 5, "analyses: Input should be a valid string, found 5"),
        ("study.json", "settings.seed", None, "seed: Input should be a valid integer, found None"),
        ("study.json", "settings.seed", True, "seed: Input should be a valid integer, found True"),
        ("study.json", "settings.harmful", [], "harmful: Input should be a valid string"),
        ("study.json", "settings.n_train", "9", "n_train: Input should be a valid integer"),
        ("study.json", "settings.skip_last", 7, r"skip_last must be in \[0, 1\)"),
        ("study.json", "settings.site", "resid_post", "site must be one of resid_pre"),
        ("study.json", "settings.trian", 1, "trian: Unexpected keyword argument"),
        ("study.json", "settings", [], "settings: Input should be .*, found a list"),
        ("study.json", "provenance.prompts", ..., "it has no provenance.prompts"),
        ("study.json", "provenance.prompts.harmful", 7, "provenance.prompts.harmful: "),
        ("prompts.json", "kept.train", ..., "it has no kept.train"),
        ("prompts.json", "kept.train.harmful", "all", "kept.train.harmful: Input should be"),
        ("prompts.json", "refusal_tokens", ["no"], "refusal_tokens.0: Input should be a valid"),
        ("replies.jsonl", "verdict", 3, "line 1, is broken: verdict: Input should be a valid"),
        ("replies.jsonl", "prompt_set", ..., "line 1, is broken: it has no prompt_set"),
        ("analyses/pca.skipped.json", "reason", ..., "it has no reason"),
    ],
)
def test_values_of_other_types_are_named_with_their_place(folder, name, place, value, message):
    changed(folder / name, place, value)
    seal_again(folder, name)
    with pytest.raises(wb.StudyError, match=message) as caught:
        wb.load_run(folder)
        read_kept(folder / "prompts.json")
    assert name in str(caught.value) or "must be" in message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["study.json", "prompts.json", "replies.jsonl"])
@pytest.mark.parametrize("content", [b"", b"[]", b"7", b"\xff\xfe{", b"[" * 5000, b'{"a": 1}'])
def test_files_of_another_kind(folder, name, content):
    (folder / name).write_bytes(content)
    if name == "study.json":
        (folder / "ledger.json").unlink()  # which would be asked first
    else:
        seal_again(folder, name)
    with pytest.raises(wb.StudyError, match=rf"{name}.* is broken"):
        wb.load_run(folder)
        read_kept(folder / "prompts.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["files"], [], "ledger.json is broken: files: Input should be"),
        (["files", "replies.jsonl"], {}, "is broken: it has no files.replies.jsonl.sha256"),
        (["study", "settings", "seed"], "0", "ledger.json: settings is broken: seed: Input should"),
        (["schema_version"], 2, "has schema 2; this version reads 1. Upgrade the workbench"),
        (["schema_version"], "1", "has schema '1'"),
    ],
)
def test_a_ledger_of_other_types(folder, place, value, message):
    changed(folder / "ledger.json", place, value)
    with pytest.raises(wb.ArtifactError, match=r"ledger\.json is damaged: its checksum differs"):
        Ledger.read(folder)
    seal_again(folder, "ledger.json")
    with pytest.raises(wb.ArtifactError, match=message):
        Ledger.read(folder)


def test_results_without_what_they_are_read_for(folder):
    for name in ("scores", "effects", "direction"):
        path = folder / f"{name}.safetensors"
        content = path.read_bytes()
        other = "directions" if name != "direction" else "effects"
        path.write_bytes((folder / f"{other}.safetensors").read_bytes())
        seal_again(folder, path.name)
        with pytest.raises(wb.ArtifactError, match="is of kind"):
            wb.load_run(folder)
        path.write_bytes(content)


def test_a_study_is_not_made_of_other_types(unchecked):
    for setting in ({"harmful": []}, {"borderline": 7}, {"harmless": None}):
        with pytest.raises(wb.StudyError, match=r"^Study: \w+ must be text, found "):
            wb.Study(**setting)
    assert as_record(wb.Study(max_rows=5).to_json(), "it", wb.Study) == wb.Study(max_rows=5)
