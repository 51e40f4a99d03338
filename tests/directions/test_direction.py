"""Directions: labels, copies, what is too short to be one, and the file they live in."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.activations import collect_activations
from workbench.artifact import load_artifact, save_artifact
from workbench.directions.direction import Directions
from workbench.directions.estimate import mean_difference
from workbench.errors import ArtifactError, AxisError

NAMES, LAYERS, POSITIONS = ("fraud", "drugs"), (0, 1, 5), (-3, -1)


@pytest.fixture
def directions():
    """Two names, three layers, two positions; the value says where it stands."""
    values = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).reshape(2, 3, 2, 4) + 1
    return Directions(values, NAMES, LAYERS, POSITIONS, "mlp_out", {"model": "m", "seed": 3})


def test_at_selects_by_label(directions):
    one = directions.at(name="drugs", layer=5, position=-1)
    assert (one.names, one.layers, one.positions) == (("drugs",), (5,), (-1,))
    assert torch.equal(one.vector, directions.values[1, 2, 1])
    assert one.site == "mlp_out"
    assert one.provenance == directions.provenance


def test_at_keeps_whole_what_is_not_named(directions):
    assert directions.at(layer=1).values.shape == (2, 1, 2, 4)
    assert torch.equal(directions.at().values, directions.values)


def test_at_takes_several_in_the_order_asked_for(directions):
    found = directions.at(layer=[5, 0], name=("drugs", "fraud"))
    assert (found.names, found.layers) == (("drugs", "fraud"), (5, 0))
    assert torch.equal(found.values, directions.values[[1, 0]][:, [2, 0]])


def test_at_copies(directions):
    before = directions.values.clone()
    directions.at(layer=5).values.zero_()
    directions.at().values.zero_()
    assert torch.equal(directions.values, before)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            {"layer": 40},
            r"no layer 40 in these directions: layers 0, 1, 5 \(site mlp_out\)\. Pass "
            r"layer=5 for the last\.",
        ),
        ({"layer": -1}, "no layer -1"),
        ({"layer": [0, 2]}, "no layer 2"),
        (
            {"position": 1},
            r"no position 1 in these directions: positions -3, -1 \(site mlp_out\)\.",
        ),
        ({"name": "refusal"}, "no name 'refusal' in these directions: names fraud, drugs"),
    ],
)
def test_labels_that_are_not_there(directions, where, message):
    with pytest.raises(AxisError, match=message):
        directions.at(**where)


def test_consecutive_labels_are_named_as_a_range():
    directions = Directions(torch.ones(1, 4, 1, 2), ("r",), (0, 1, 2, 3), (-1,))
    with pytest.raises(AxisError, match=r"layers 0\.\.3 \(site resid_pre\)"):
        directions.at(layer=4)


def test_numbers_from_arrays_are_labels_too(directions, unchecked):
    found = directions.at(layer=np.int64(5), position=np.int64(-1))
    assert torch.equal(found.values, directions.at(layer=5, position=-1).values)


def test_one_vector(directions):
    with pytest.raises(AxisError, match=r"expected one vector, found 12: .*Choose with \.at\("):
        _ = directions.vector
    assert len(directions) == 12
    assert directions.d_model == 4


@pytest.mark.parametrize(
    ("shape", "names", "layers", "positions", "message"),
    [
        ((1, 2, 1, 4), ("r",), (0,), (-1,), r"values of shape \(1, 2, 1, 4\) do not fit"),
        ((2, 1, 1, 4), ("r", "r"), (0,), (-1,), "a name appears twice"),
        ((1, 2, 1, 4), ("r",), (3, 3), (-1,), "a layer appears twice"),
        ((1, 1, 2, 4), ("r",), (0,), (-1, -1), "a position appears twice"),
        ((1, 1, 1, 4), ("r",), (0,), (0,), "positions count from the end and are negative"),
    ],
)
def test_labels_that_do_not_fit(shape, names, layers, positions, message):
    with pytest.raises(AxisError, match=message):
        Directions(torch.ones(shape), names, layers, positions)


def test_directions_are_frozen(directions):
    with pytest.raises(dataclasses.FrozenInstanceError):
        directions.site = "resid_pre"
    assert directions != dataclasses.replace(directions)


def test_unit_is_a_copy_of_length_one(directions):
    before = directions.values.clone()
    unit = directions.unit()
    torch.testing.assert_close(unit.norms, torch.ones(2, 3, 2))
    cosines = torch.cosine_similarity(unit.values, directions.values, dim=-1)
    torch.testing.assert_close(cosines, torch.ones(2, 3, 2))
    unit.values.zero_()
    assert torch.equal(directions.values, before)
    assert unit.provenance == directions.provenance


@given(st.floats(1e-4, 1e4))
def test_unit_is_scale_free_and_idempotent(scale):
    values = torch.tensor([[[[3.0, -4.0]]]])
    first = Directions(values, ("r",), (0,), (-1,)).unit()
    scaled = Directions(scale * values, ("r",), (0,), (-1,)).unit()
    torch.testing.assert_close(scaled.values, first.values)
    torch.testing.assert_close(scaled.unit().values, first.values)


@pytest.mark.parametrize("noise", [0.0, 1e-9, float("nan"), float("inf")])
def test_what_points_nowhere_is_marked_and_never_normalised(noise):
    values = torch.ones(1, 3, 1, 4)
    values[0, 1] *= noise
    directions = Directions(values, ("r",), (0, 1, 2), (-1,))
    assert directions.degenerate.flatten().tolist() == [False, True, False]
    with pytest.raises(AxisError, match="r at layer 1, position -1 is zero"):
        directions.unit()
    directions.at(layer=[0, 2]).unit()


def test_short_is_not_degenerate():
    directions = Directions(torch.full((1, 1, 1, 4), 1e-8), ("r",), (0,), (-1,))
    assert not directions.degenerate.any()
    assert Directions(torch.zeros(1, 1, 1, 4), ("r",), (0,), (-1,)).degenerate.all()


def test_the_mean_difference_at_layer_0_is_degenerate_after_the_instruction(specimen):
    positive = collect_activations(specimen.model, ["How far is the sea?", "hi there", "Why?"])
    negative = collect_activations(specimen.model, ["42 plus 7", "Is tea hot!!", "ok"])
    directions = mean_difference(positive, negative)
    marked = directions.degenerate[0]
    # Learned positions make equal tokens differ where prompts differ in length.
    after = slice(1, None)
    assert marked[0, after].all() == (specimen.name != "gpt2")
    assert not marked[1:].any()
    assert not marked[0, 0], "the last token of the instruction differs between prompts"


def test_save_and_load_are_inverse(directions, tmp_path):
    path = directions.save(tmp_path / "d.safetensors")
    found = Directions.load(path)
    assert torch.equal(found.values, directions.values)
    for field in ("names", "layers", "positions", "site", "provenance"):
        assert getattr(found, field) == getattr(directions, field)
    assert found.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_half_precision_and_slices_are_saved_in_float32(directions, tmp_path):
    half = dataclasses.replace(directions, values=directions.values.bfloat16()).at(layer=[5, 1])
    found = Directions.load(half.save(tmp_path / "d.safetensors"))
    assert found.values.dtype == torch.float32
    assert torch.equal(found.values, half.values.float())


def test_loaded_directions_can_be_written_to(directions, tmp_path):
    found = Directions.load(directions.save(tmp_path / "d.safetensors"))
    found.values.add_(1)


def test_another_kind_or_an_incomplete_file(directions, tmp_path):
    path = directions.save(tmp_path / "d.safetensors")
    artifact = load_artifact(path, kind="directions")
    save_artifact(path, kind="activations", tensors=artifact.tensors, manifest={})
    with pytest.raises(ArtifactError, match="is of kind 'activations', not 'directions'"):
        Directions.load(path)
    for change in ({"names": None}, {"layers": [0]}, {"site": ...}):
        manifest = {**artifact.manifest, **change}
        manifest = {key: value for key, value in manifest.items() if value is not ...}
        save_artifact(path, kind="directions", tensors=artifact.tensors, manifest=manifest)
        with pytest.raises(ArtifactError, match="does not hold complete directions"):
            Directions.load(path)
    save_artifact(path, kind="directions", tensors={}, manifest=artifact.manifest)
    with pytest.raises(ArtifactError, match="does not hold complete directions"):
        Directions.load(path)
