"""Artifacts: atomic, told apart, never mistaken for something else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hostile.sealing import seal
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

import workbench.artifact as artifact_module
from workbench.artifact import (
    SCHEMA_VERSION,
    environment,
    load_artifact,
    load_dataset,
    save_artifact,
    save_dataset,
    sweep_leftovers,
    write_bytes,
    write_text,
)
from workbench.errors import ArtifactError


@pytest.fixture
def saved(tmp_path):
    """A small artifact on disk."""
    tensors = {"b": np.arange(6.0).reshape(2, 3), "a": np.array([1, 2])}
    manifest = {"names": ["x"], "provenance": {"seed": 0, "ü": None}}
    return save_artifact(
        tmp_path / "one.safetensors", kind="test", tensors=tensors, manifest=manifest
    )


@pytest.fixture
def dataset():
    """A result with text, number and scalar coordinates, units and NaN."""
    return xr.Dataset(
        {
            "score": (("layer", "word"), [[1.0, np.nan], [3.0, -np.inf]], {"units": "nats"}),
            "passed": ("layer", [True, False]),
            "reply": (("layer", "word"), [["No.", "Größe"], ["", "I can't"]]),
            "total": 5.0,
        },
        coords={
            "layer": [0, 3],
            "word": ["I", "Sorry, no"],
            "label": ("word", ["", "long label"]),
            "seed": 7,
            "model": "pocket",
        },
        attrs={"model": "pocket", "n": 3, "tokens": [1, 2], "provenance": {"weights": "ab"}},
    )


def rewrite(path, tensors=None, **changes):
    """Changes a saved artifact's numbers or manifest, and seals it again."""
    artifact = load_artifact(path, kind="test")
    manifest = {**artifact.manifest, **changes}
    manifest = {key: value for key, value in manifest.items() if value is not None}
    tensors = artifact.tensors if tensors is None else tensors
    save_file(tensors, path, metadata={"manifest": json.dumps(manifest)})
    seal(path)


def test_save_and_load_are_inverse(saved):
    artifact = load_artifact(saved, kind="test")
    assert artifact.manifest == {
        "kind": "test",
        "schema_version": SCHEMA_VERSION,
        "names": ["x"],
        "provenance": {"seed": 0, "ü": None},
    }
    np.testing.assert_array_equal(artifact.tensors["b"], np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(artifact.tensors["a"], [1, 2])


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=0, min_side=0),
    )
)
def test_every_array_survives(tmp_path_factory, array):
    finite = array.dtype.kind != "f" or not array.size or np.isfinite(array).all()
    kind = "test" if finite else "sweep"
    assume(finite or np.isfinite(array).any())
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    save_artifact(path, kind=kind, tensors={"x": array, "transposed": array.T}, manifest={})
    found = load_artifact(path, kind=kind).tensors
    for name, expected in (("x", array), ("transposed", array.T)):
        assert found[name].dtype == expected.dtype
        assert found[name].shape == expected.shape
        np.testing.assert_array_equal(found[name], expected)


def test_equal_data_gives_equal_bytes(saved, tmp_path):
    again = tmp_path / "again.safetensors"
    found = load_artifact(saved, kind="test")
    tensors = dict(reversed(found.tensors.items()))
    manifest = dict(reversed(found.manifest.items()))
    save_artifact(again, kind="test", tensors=tensors, manifest=manifest)
    assert again.read_bytes() == saved.read_bytes()


class Killed(BaseException):
    """Nothing after it happens."""


@pytest.mark.parametrize("step", ["_write", "_rename", "_sync_folder"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_file(saved, monkeypatch, step):
    before = saved.read_bytes()

    def killed(*_arguments):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(artifact_module, step, killed)
        patch.setattr(artifact_module, "_discard", lambda path: None)
        with pytest.raises(Killed):
            write_bytes(saved, b"new")
    assert saved.read_bytes() == (b"new" if step == "_sync_folder" else before)
    sweep_leftovers(saved.parent)
    assert list(saved.parent.iterdir()) == [saved]


def test_a_failure_in_the_middle_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_module.os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"cannot write .*one\.safetensors: No space left"):
        save_artifact(saved, kind="test", tensors={"x": np.zeros(9)}, manifest={})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_the_name_appears_only_when_all_is_written(tmp_path, monkeypatch):
    path, seen = tmp_path / "new" / "file.txt", []

    def fsync(descriptor):
        seen.append([own.name for own in path.parent.iterdir()])

    monkeypatch.setattr(artifact_module.os, "fsync", fsync)
    write_text(path, "all")
    assert path.read_text() == "all"
    (temporary,), after = seen  # only a rename on one file system is atomic
    assert temporary.startswith(".file.txt.") and after == ["file.txt"]


def test_a_disk_that_turned_read_only_is_named(tmp_path, monkeypatch):
    def refused(*_arguments, **_settings):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(ArtifactError, match=r"cannot write .*x\.txt: Read-only file system\."):
        write_text(tmp_path / "x.txt", "x")


def test_only_leftovers_of_killed_writers_are_swept(tmp_path):
    for name in (".a.csv.0123abcd.tmp", ".a.tmp", "a.0123abcd.tmp", ".a.csv.0123abcd.tmp.b"):
        (tmp_path / "below").mkdir(exist_ok=True)
        (tmp_path / "below" / name).write_text("")
    sweep_leftovers(tmp_path)
    assert not (tmp_path / "below" / ".a.csv.0123abcd.tmp").exists()
    assert len(list((tmp_path / "below").iterdir())) == 3


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"cannot make the folder .*file"):
        write_text(tmp_path / "file" / "below.txt", "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArtifactError, match=r"cannot write .*folder"):
        write_text(tmp_path / "folder", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), np.int64(3), object()])
def test_a_manifest_that_is_not_json(tmp_path, value):
    with pytest.raises(ArtifactError, match="the manifest of this test is not plain JSON"):
        save_artifact(tmp_path / "x", kind="test", tensors={}, manifest={"value": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["absent.safetensors", "."])
def test_no_such_file(tmp_path, name):
    with pytest.raises(ArtifactError, match=r"^no file .*\. Expected a saved test\.$"):
        load_artifact(tmp_path / name, kind="test")


def test_another_kind(saved):
    with pytest.raises(ArtifactError, match="is of kind 'test', not 'sweep'"):
        load_artifact(saved, kind="sweep")


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, "2", None])
def test_a_schema_that_this_version_does_not_know(saved, version):
    rewrite(saved, schema_version=version)
    message = rf"has schema {version}; this version reads up to {SCHEMA_VERSION}\. Upgrade"
    with pytest.raises(ArtifactError, match=message):
        load_artifact(saved, kind="test")


def test_a_file_of_the_first_schema_has_no_checksum_and_is_read(saved):
    artifact = load_artifact(saved, kind="test")
    manifest = {**artifact.manifest, "schema_version": 1}
    save_file(artifact.tensors, saved, metadata={"manifest": json.dumps(manifest)})
    assert load_artifact(saved, kind="test").manifest == manifest
    manifest["schema_version"] = 2
    save_file(artifact.tensors, saved, metadata={"manifest": json.dumps(manifest)})
    with pytest.raises(ArtifactError, match="is damaged: it is not what was written"):
        load_artifact(saved, kind="test")


def test_every_flipped_byte_is_noticed(saved):
    """But for a blank that became another one: it says the same."""
    whole = saved.read_bytes()
    before = load_artifact(saved, kind="test")
    for place in range(len(whole)):
        flipped = bytes([whole[place] ^ (1 << place % 8)])
        saved.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        try:
            found = load_artifact(saved, kind="test")
        except ArtifactError:
            continue
        assert whole[place : place + 1].isspace() and found.manifest == before.manifest, place


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused_where_none_may_lack(saved, tmp_path, number):
    tensors = {"x": np.array([1.0, number]), "y": np.array([1.0, 2.0])}
    with pytest.raises(ArtifactError, match=r"1 of 2 numbers of 'x' are NaN or infinite"):
        save_artifact(tmp_path / "t", kind="test", tensors=tensors, manifest={})
    rewrite(saved, tensors)
    with pytest.raises(ArtifactError, match=r"is damaged: 1 of 2 numbers of 'x'"):
        load_artifact(saved, kind="test")
    save_artifact(tmp_path / "s", kind="sweep", tensors=tensors, manifest={})
    lost = {"x": np.array([np.nan, number]), "y": np.array([1, 2])}
    with pytest.raises(ArtifactError, match="no number of this sweep is finite"):
        save_artifact(tmp_path / "s", kind="sweep", tensors=lost, manifest={})


def test_a_dataset_without_a_value_is_refused(dataset, tmp_path):
    path = save_dataset(tmp_path / "d", dataset[["score"]].isel(layer=[]), kind="sweep")
    with pytest.raises(ArtifactError, match="is empty: it holds no value of a sweep"):
        load_dataset(path, kind="sweep")


@pytest.mark.parametrize("keep", [0, 4, 60, 200, -1])
def test_a_truncated_file(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="is broken or not a safetensors file"):
        load_artifact(saved, kind="test")


def test_a_foreign_safetensors_file(tmp_path):
    for metadata in (None, {"format": "pt"}, {"manifest": "[1]"}, {"manifest": "{}"}):
        save_file({"x": np.zeros(2)}, tmp_path / "x", metadata=metadata)
        with pytest.raises(ArtifactError, match="was not written by the workbench"):
            load_artifact(tmp_path / "x", kind="test")
    save_file({"x": np.zeros(2)}, tmp_path / "x", metadata={"manifest": "{"})
    with pytest.raises(ArtifactError, match="its manifest is broken"):
        load_artifact(tmp_path / "x", kind="test")


def test_something_else_entirely(tmp_path):
    (tmp_path / "x").write_text("layer,position\n1,-1\n" * 100)
    with pytest.raises(ArtifactError, match="is broken or not a safetensors file"):
        load_artifact(tmp_path / "x", kind="test")


@pytest.mark.shared
def test_a_model_checkpoint_is_not_an_artifact(shared):
    weights = shared / "models" / "stories260K" / "model.safetensors"
    with pytest.raises(ArtifactError, match="was not written by the workbench"):
        load_artifact(weights, kind="directions")


def test_a_dataset_comes_back_identical(dataset, tmp_path):
    path = save_dataset(tmp_path / "d.safetensors", dataset, kind="sweep")
    found = load_dataset(path, kind="sweep")
    xr.testing.assert_identical(found, dataset)
    assert {name: var.dtype.kind for name, var in found.variables.items()}["passed"] == "b"
    assert found.sel(word="Sorry, no", layer=3)["reply"].item() == "I can't"
    again = save_dataset(tmp_path / "again.safetensors", found, kind="sweep")
    assert again.read_bytes() == path.read_bytes()


def test_a_dataset_is_refused_as_another_kind_or_incomplete(dataset, tmp_path):
    dataset["score"] = dataset["score"].fillna(0.0).where(dataset["score"] > 0, 0.0)
    path = save_dataset(tmp_path / "d.safetensors", dataset, kind="test")
    with pytest.raises(ArtifactError, match="is of kind 'test', not 'sweep'"):
        load_dataset(path, kind="sweep")
    copy = shutil.copy(path, tmp_path / "copy.safetensors")
    variables = load_artifact(path, kind="test").manifest["variables"]
    rewrite(copy, variables={**variables, "extra": {"dims": [], "attrs": {}, "coordinate": False}})
    with pytest.raises(ArtifactError, match="does not hold a complete test"):
        load_dataset(copy, kind="test")
    rewrite(copy, variables=None)
    with pytest.raises(ArtifactError, match="does not hold a complete test"):
        load_dataset(copy, kind="test")


def test_the_environment_names_what_results_depend_on():
    found = environment()
    assert {"python", "torch", "transformers", "transformer-lens", "numpy"} <= set(found)
    json.dumps(found)
