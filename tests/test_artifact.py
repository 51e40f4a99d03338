"""Artifacts: atomic, told apart, never mistaken for something else."""

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

import workbench.artifact as artifact_module
from workbench.artifact import (
    SCHEMA_VERSION,
    atomic_path,
    environment,
    load_artifact,
    load_dataset,
    save_artifact,
    save_dataset,
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


def rewrite(path, **changes):
    """Changes entries of a saved artifact's manifest."""
    artifact = load_artifact(path, kind="test")
    manifest = {**artifact.manifest, **changes}
    manifest = {key: value for key, value in manifest.items() if value is not None}
    save_file(artifact.tensors, path, metadata={"manifest": json.dumps(manifest)})


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
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    save_artifact(path, kind="test", tensors={"x": array, "transposed": array.T}, manifest={})
    found = load_artifact(path, kind="test").tensors
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


def test_a_failure_in_the_middle_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), atomic_path(tmp_path / "new" / "file.txt") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert list((tmp_path / "new").iterdir()) == []


def test_a_failure_in_the_middle_keeps_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifact_module.os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"cannot write .*one\.safetensors: No space left"):
        save_artifact(saved, kind="test", tensors={"x": np.zeros(9)}, manifest={})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_the_name_appears_only_when_all_is_written(tmp_path):
    path = tmp_path / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("all")
        assert not path.exists()
        assert temporary.parent == path.parent, "only a rename on one file system is atomic"
    assert path.read_text() == "all"
    assert list(tmp_path.iterdir()) == [path]


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
