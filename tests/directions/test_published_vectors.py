"""Control vectors and steering vectors: read as they were written, placed where they act."""

import contextlib
import os
import pickle
import sys
import types
from dataclasses import dataclass

import gguf
import numpy as np
import pytest
import torch

import workbench as wb
from workbench.errors import ArtifactError

WIDTH = 8
ONES = torch.ones(WIDTH)


def vectors(layers, width=WIDTH, seed=0):
    rng = np.random.default_rng(seed)
    return {layer: rng.normal(size=width).astype(np.float32) for layer in layers}


def write_gguf(
    path, arrays, *, signed=False, architecture="controlvector", hint="llama", others=()
):
    """A control vector, written field by field as its two writers do."""
    writer = gguf.GGUFWriter(path, architecture)
    if hint:
        writer.add_string("controlvector.model_hint", hint)
    count = writer.add_int32 if signed else writer.add_uint32
    count("controlvector.layer_count", len(arrays))
    for layer, array in arrays.items():
        writer.add_tensor(f"direction.{layer}", array)
    for name in others:
        writer.add_tensor(name, np.ones(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@contextlib.contextmanager
def project(qualified, fields):
    """A module of another project with one dataclass, there while a file is written."""
    module, name = qualified.rsplit(".", 1)
    kind = dataclass(type(name, (), {"__annotations__": fields, "__module__": module}))
    made = {module.rsplit(".", 1)[0]: types.ModuleType("p"), module: types.ModuleType("m")}
    setattr(made[module], name, kind)
    sys.modules.update(made)
    try:
        yield kind
    finally:
        for each in made:
            del sys.modules[each]


def save_repeng(path, arrays, **saving):
    with project("repeng.extract.ControlVector", {"model_type": str, "directions": dict}) as kind:
        torch.save(kind("mistral", arrays), path, **saving)
    return path


def save_steering(path, arrays, layer_type="decoder_block", **saving):
    name = "steering_vectors.steering_vector.SteeringVector"
    tensors = {layer: torch.from_numpy(array) for layer, array in arrays.items()}
    with project(name, {"layer_activations": dict, "layer_type": str}) as kind:
        torch.save(kind(tensors, layer_type), path, **saving)
    return path


def assert_holds(directions, arrays, shift=1):
    assert directions.layers == tuple(layer + shift for layer in sorted(arrays))
    assert directions.positions == (-1,)
    for layer, array in arrays.items():
        vector = directions.at(layer=layer + shift).vector
        assert vector.dtype == torch.float32
        assert vector.tolist() == array.tolist()


def test_a_control_vector_of_repeng_is_read_in_layer_order(tmp_path):
    arrays = vectors([5, 4, 3, 1])  # repeng starts at the last layer
    found = wb.load_published(write_gguf(tmp_path / "honesty.gguf", arrays))
    assert_holds(found.directions, arrays)
    assert (found.directions.names, found.directions.site) == (("honesty",), "resid_pre")
    assert found.provenance["source"].startswith("repeng")
    assert found.provenance["architecture"] == "llama"
    assert "final norm" in found.provenance["last_layer"]
    assert "model" not in found.provenance  # an architecture names no model


def test_a_control_vector_of_llama_cpp_says_that_it_was_read_one_block_earlier(tmp_path):
    arrays = vectors([1, 2, 3])
    found = wb.load_published(write_gguf(tmp_path / "v.gguf", arrays, signed=True))
    assert_holds(found.directions, arrays)
    assert "cvector-generator" in found.provenance["source"]
    assert "read one block earlier" in found.provenance["layer"]
    assert found.provenance["position"].startswith("none")


def test_a_control_vector_outlives_its_file(tmp_path):
    arrays = vectors([1])
    path = write_gguf(tmp_path / "v.gguf", arrays)
    directions = wb.load_published(path).directions
    path.unlink()
    assert_holds(directions, arrays)
    kept = wb.Directions.load(directions.save(tmp_path / "kept.safetensors"))
    assert_holds(kept, arrays)
    assert kept.provenance == directions.provenance


@pytest.mark.parametrize("dtype", ["f2", "f8"])
def test_other_precisions_are_kept_or_widened(tmp_path, dtype):
    arrays = {1: np.array([0.1, 0.2], dtype=dtype)}
    values = wb.load_published(write_gguf(tmp_path / "v.gguf", arrays)).directions.vector
    assert values.dtype == (torch.float64 if dtype == "f8" else torch.float32)
    assert values.tolist() == arrays[1].tolist()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_objects_are_read_without_their_projects(tmp_path, zipped):
    arrays = vectors([0, 2, 1])
    layout = {"_use_new_zipfile_serialization": zipped}
    one = save_repeng(tmp_path / "r.pt", arrays, **layout)
    two = save_steering(tmp_path / "s.pt", arrays, **layout)
    assert "repeng" not in sys.modules and "steering_vectors" not in sys.modules
    assert_holds(wb.load_published(one).directions, arrays)
    assert_holds(wb.load_published(two).directions, arrays)
    assert wb.load_published(one).provenance["architecture"] == "mistral"
    assert wb.load_published(two).provenance["layer_type"] == "decoder_block"


def test_dicts_of_the_fields_of_either_are_told_apart_and_bare_numbers_are_layers(tmp_path):
    arrays = vectors([3, 1])
    tensors = {layer: torch.from_numpy(array) for layer, array in arrays.items()}
    torch.save({"directions": arrays, "model_type": "llama"}, tmp_path / "r.pt")
    torch.save({"layer_activations": tensors}, tmp_path / "s.pt")
    repeng, steering = (wb.load_published(tmp_path / name) for name in ("r.pt", "s.pt"))
    assert repeng.provenance["source"].startswith("repeng")
    assert steering.provenance["source"].startswith("steering-vectors")
    assert steering.provenance["layer_type"].startswith("not in the file")
    assert_holds(repeng.directions, arrays)
    assert_holds(steering.directions, arrays)
    for bare in (arrays, tensors, {"directions": arrays}):
        torch.save(bare, tmp_path / "b.pt")
        assert_holds(wb.load_published(tmp_path / "b.pt").directions, arrays, shift=0)
        told = wb.load_published(tmp_path / "b.pt", read_at="output")
        assert_holds(told.directions, arrays)


@pytest.mark.parametrize("kind", ["decoder_block", "self_attn", "mlp", "repeng", "gguf"])
def test_adding_a_direction_at_its_own_layer_does_what_the_project_does(zoo, tmp_path, kind):
    specimen, layer = zoo["llama"], 1
    tokens = specimen.model.tokens(["Tell me a story.", "Hi"])
    array = vectors([layer], width=specimen.model.d_model)
    if kind == "gguf":
        path = write_gguf(tmp_path / "v.gguf", array)
    elif kind == "repeng":
        path = save_repeng(tmp_path / "v.pt", array)
    else:
        path = save_steering(tmp_path / "v.pt", array, kind)
    site = {"self_attn": "attn_out", "mlp": "mlp_out"}.get(kind)
    module = specimen.part(layer, site) if site else specimen.blocks[layer]
    vector = torch.from_numpy(array[layer])

    def add(module, args, value):
        return (value[0] + vector, *value[1:]) if isinstance(value, tuple) else value + vector

    handle = module.register_forward_hook(add)
    try:
        expected, _ = specimen.read(tokens.ids, tokens.mask)
    finally:
        handle.remove()
    plain = specimen.model.forward(tokens)
    with wb.intervene(specimen.model, wb.Add(wb.load_published(path).directions)):
        logits = specimen.model.forward(tokens)
    torch.testing.assert_close(logits, expected[:, -1], atol=2e-4, rtol=0)
    assert (logits - plain).abs().max() > 0.01


def test_vectors_that_were_being_trained_are_read_as_numbers(tmp_path):
    torch.save({1: ONES.clone().requires_grad_(), 2: ONES.bfloat16()}, tmp_path / "v.pt")
    values = wb.load_published(tmp_path / "v.pt").directions.values
    assert not values.requires_grad
    assert values.dtype == torch.float32


class _Runs:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return (os.system, (self.command,))


@pytest.mark.parametrize("inside", ["alone", "repeng", "dict"])
@pytest.mark.parametrize("layout", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_asks_for_the_shell_is_named_and_not_run(tmp_path, inside, layout):
    marker = tmp_path / "ran"
    hostile = _Runs(f"touch {marker}")
    path = tmp_path / "v.pt"
    if inside == "repeng":
        save_repeng(path, {1: hostile}, _use_new_zipfile_serialization=layout == "zip")
    else:
        held = hostile if inside == "alone" else {1: hostile}
        if layout == "plain pickle":
            path.write_bytes(pickle.dumps(held, protocol=2))
        else:
            torch.save(held, path, _use_new_zipfile_serialization=layout == "zip")
    with pytest.raises(ArtifactError, match=rf"asks for {os.name}\.system, .* not run") as caught:
        wb.load_published(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_class_that_is_not_on_the_list_is_named(tmp_path):
    with project("repeng.control.ControlModel", {"model": int}) as kind:
        torch.save(kind(1), tmp_path / "v.pt")
    with pytest.raises(ArtifactError, match=r"asks for repeng\.control\.ControlModel, "):
        wb.load_published(tmp_path / "v.pt")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({}, "no vectors by layer but an empty dict"),
        (["a"], "no vectors by layer but a list"),
        (ONES.long(), r"no floating tensor but numbers of type torch\.int64"),
        (ONES * 1j, r"no floating tensor but numbers of type torch\.complex64"),
        ({"weight": "a"}, "no vectors but a dict with keys 'weight'"),
        ({1: ONES, "layer_type": "mlp"}, "says of its vectors, 'layer_type': 'mlp', is not known"),
        ({"directions": {1: ONES}, "layer_activations": {1: ONES}}, "a dict of dicts with keys"),
        ({"layer_activations": ONES, "layer_type": "mlp"}, "no vectors by layer but a Tensor"),
        ({"layer_activations": {}, "layer_type": "mlp"}, "no vectors by layer"),
        ({"layer_activations": {1: ONES}, "layer_type": "input_layernorm"}, "is no site here"),
        ({"layer_activations": {1: ONES}, "layer_type": [1]}, "is no site here"),
        ({-1: ONES}, "a vector at layer -1. Expected 0-based numbers"),
        ({True: ONES}, "holds one vector and not its layer"),
        ({1: ONES, 2: torch.ones(WIDTH + 1)}, r"found widths 8, 9\."),
        ({1: torch.ones(2, WIDTH)}, r"\(d_model\) at every layer, found \(2, 8\)"),
        ({1: ONES.long()}, r"no floating tensor but numbers of type torch\.int64"),
        ({1: "a"}, "holds no vectors but a dict with keys 1"),
        ({1: ONES, 2: "a"}, "expected a floating vector .* at layer 2, found a str"),
        ({1: ONES, 2: ONES * torch.nan}, "not finite: 8 of its 8 numbers"),
        ({"layer_activations": {1: ONES.long()}}, r"at layer 1, found torch\.int64 of shape"),
        ({"layer_activations": {1: torch.ones(2, WIDTH)}}, r"found torch\.float32 of shape \(2"),
    ],
)
def test_what_is_no_steering_vector_is_refused_in_one_line(tmp_path, held, message):
    torch.save(held, tmp_path / "v.pt")
    with pytest.raises(ArtifactError, match=message) as caught:
        wb.load_published(tmp_path / "v.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({1: np.ones(4)}, {"architecture": "llama"}, "architecture 'llama': expected 'control"),
        ({}, {"others": ["control.1"]}, r"without a tensor direction\.<layer>"),
        ({"one": np.ones(4)}, {}, r"without a tensor direction\.<layer>"),
        ({1: np.ones(4), 2: np.ones(5)}, {}, "found widths 4, 5"),
        ({1: np.ones((2, 4))}, {}, r"found float64 of shape \(2, 4\)"),
        ({1: np.ones(4, dtype=np.int8)}, {}, "found int8"),
        ({1: np.array([1, np.nan])}, {}, "vector at layer 1 is not finite"),
        ({1: np.array([1, np.inf])}, {}, "vector at layer 1 is not finite"),
    ],
)
def test_what_is_no_control_vector_is_refused_in_one_line(tmp_path, arrays, options, message):
    path = write_gguf(tmp_path / "v.gguf", arrays, **options)
    with pytest.raises(ArtifactError, match=message) as caught:
        wb.load_published(path)
    assert "\n" not in str(caught.value)


def test_a_truncated_control_vector_is_refused_wherever_it_ends(tmp_path):
    path = write_gguf(tmp_path / "v.gguf", vectors([1, 2]))
    whole = path.read_bytes()
    padding = len(whole) - gguf.GGUFReader(path).tensors[-1].data_offset - 4 * WIDTH
    for end in range(0, len(whole) - padding, 7):
        path.write_bytes(whole[:end])
        with pytest.raises(ArtifactError) as caught:
            wb.load_published(path)
        assert "broken or not a GGUF file" in str(caught.value), end
        assert "\n" not in str(caught.value)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ArtifactError, match="broken or not a GGUF file"):
        wb.load_published(path)


def test_without_gguf_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "v.gguf", vectors([1]))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ArtifactError, match=r"pip install 'refusal-workbench\[gguf\]'"):
        wb.load_published(path)


def test_all_formats_are_named_where_none_fits(tmp_path):
    (tmp_path / "v.txt").write_text("r")
    with pytest.raises(ArtifactError, match=r"repeng or llama\.cpp .* steering-vectors"):
        wb.load_published(tmp_path / "v.txt")
