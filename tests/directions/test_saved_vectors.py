"""Vectors that others saved: read with their layer, or refused with what they could be."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import workbench as wb
from workbench.errors import ArtifactError, AxisError

D = 6


def ramp(*shape, dtype=torch.float32):
    """Numbers that are all different, so that a wrong axis is seen."""
    return torch.arange(torch.Size((*shape, D)).numel()).reshape(*shape, D).to(dtype)


def write(path, held):
    """Whatever its ending asks for."""
    kind = path.suffix
    if kind == ".safetensors":
        save_file({name: each.contiguous() for name, each in held.items()}, str(path))
    elif kind == ".npy":
        np.save(path, held, allow_pickle=True)
    elif kind == ".npz":
        np.savez(path, **held)
    elif kind in (".svec", ".json"):
        path.write_text(held if isinstance(held, str) else json.dumps(held))
    else:
        torch.save(held, path)
    return path


def load(tmp_path, file, held, **asked):
    return wb.load_published(write(tmp_path / file, held), **asked).directions


N = tuple(range(29))


@pytest.mark.parametrize(
    ("shape", "asked", "layers", "positions"),
    [
        ((), {"layer": 5}, (5,), (-1,)),
        ((1,), {"layer": np.int64(5), "position": -3}, (5,), (-3,)),
        ((1, 1), {"layer": 0}, (0,), (-1,)),
        ((29,), {"axes": "layer"}, N, (-1,)),
        ((29,), {"position": -1}, N, (-1,)),
        ((28,), {"axes": "layer", "read_at": "output"}, N[1:], (-1,)),
        ((28, 1), {"read_at": "output"}, N[1:], (-1,)),
        ((3,), {"layer": 4, "position": (-3, -2, -1)}, (4,), (-3, -2, -1)),
        ((29, 1), {}, N, (-1,)),
        ((1, 29), {}, N, (-1,)),
        ((28,), {"layer": range(1, 29)}, N[1:], (-1,)),
        ((3,), {"axes": "position", "layer": 4}, (4,), (-3, -2, -1)),
        ((2, 29), {"axes": "position layer"}, N, (-2, -1)),
        ((2, 29), {"position": (-5, -4)}, N, (-5, -4)),
        ((2, 29), {"layer": (3, 4), "axes": ("layer", "position")}, (3, 4), tuple(range(-29, 0))),
    ],
)
@pytest.mark.parametrize("name", ["v.pt", "v.npy"])
def test_an_array_is_read_by_its_shape_and_what_is_asked(
    tmp_path, name, shape, asked, layers, positions
):
    held = ramp(*shape)
    found = load(tmp_path, name, held.numpy() if name == "v.npy" else held, **asked)
    assert (found.names, found.layers, found.positions) == (("v",), layers, positions)
    assert found.site == "resid_pre"
    by_layer = held.reshape(-1, D) if len(layers) * len(positions) == max((1, *shape)) else None
    if by_layer is not None:
        assert torch.equal(found.values.reshape(-1, D), by_layer)
    else:  # two axes: which one came first is what was asked
        expected = held if asked.get("axes") == ("layer", "position") else held.transpose(0, 1)
        assert torch.equal(found.values[0], expected)


@pytest.mark.parametrize(
    ("held", "asked", "message"),
    [
        (ramp(), {}, "holds one vector and not its layer or position. Pass layer=l where it is"),
        (ramp(2, 3), {}, r"read two ways: 2 layers and 3 positions \(pass axes='layer position'\), "
         r"or 3 layers and 2 positions \(pass axes='position layer'\)"),
        (ramp(29), {}, r"\(29, d_model\), which can be read three ways: 29 layers and one position "
         r"\(pass axes='layer'\), or one layer and 29 positions \(pass axes='position', layer=…\), "
         r"or 29 vectors of one place \(pass axes='name', layer=…\)\. There are more rows than"),
        (ramp(2), {"read_at": "output"}, "can be read three ways"),
        ([ramp(), ramp()], {}, "can be read three ways"),
        ({"v": ramp(2)}, {}, "can be read three ways"),
        ({"a": ramp(2), "b": ramp(2)}, {}, "can be read three ways"),
        (ramp(29), {"layer": 5}, r"29 layers and one position .* or one layer and 29 positions .* "
         r"use \.directions\.at\(layer"),
        (ramp(29, 1), {"layer": 5}, r"or one layer and 29 positions \(pass axes='position layer'"),
        (ramp(3), {"axes": "position"}, r"\(pass axes='position', layer=…\)"),
        (ramp(3), {"axes": "layer position"}, r"has the shape \(3, d_model\), and axes= names 2"),
        (ramp(2, 3, 4), {}, r"shape \(2, 3, 4, d_model\): expected \(d_model\), "),
        (ramp(300), {}, "no model has 300 layers"),
        (ramp(3) * torch.nan, {}, "not finite: 18 of its 18 numbers"),
        (ramp(3).long(), {}, "no floating tensor but numbers of type torch.int64"),
        (ramp(3) * 1j, {}, "no floating tensor but numbers of type torch.complex64"),
        (torch.ones(0, D), {}, r"holds no vectors: a tensor of shape \(0, 6\)"),
        (torch.tensor(1.0), {}, r"holds no vectors: a tensor of shape \(\)"),
        ([ramp(), torch.ones(2)], {}, r"vectors of several shapes: \(2,\), \(6,\)"),
        ({"1": ramp(), "-1": ramp()}, {}, "a vector at layer '-1'. Expected 0-based numbers"),
        ({"1": ramp(), 1: ramp()}, {}, "two vectors of layer 1"),
        ({"1": ramp(), "bias": ramp()}, {}, "some are layers, and 'bias' is none"),
        ({"1": ramp(), "2": ramp(2)}, {}, r"expected one vector \(d_model\) at every layer"),
        ({"1": ramp(), "2": torch.ones(3)}, {}, "found widths 3, 6"),
        ({"model.layers.1.input_layernorm": ramp()}, {}, "was read at input_layernorm: expected"),
        ({"1": ramp(), "2": ramp()}, {"layer": 3}, "vectors of 2 layers, and layer= gives 1"),
        ({"a": ramp(), "b": ramp(2)}, {}, r"several tensors: a \(6,\), b \(2, 6\)\. Choose"),
        ({"a": ramp(), "b": ramp()}, {"name": "c"}, "no tensor 'c': a, b"),
        ({"a": ramp(), "b": ramp()}, {}, "one vector of each name and not its layer"),
        ({3: ramp()}, {"layer": 5}, r"says layer 3, .* \(pass layer=4\), and layer= gives 5"),
        ({3: ramp(), 4: ramp()}, {"name": "3", "layer": 5}, "says layer 3, .* layer= gives 5"),
        ({3: ramp(), 4: ramp()}, {"layer": [3, 5]}, "says layers 3, 4, .* layer= gives 3, 5"),
        ({"blocks.3.hook_resid_post": ramp()}, {"layer": 3}, "which is layer=4, and layer= gives"),
        ({"3": ramp(), "pos": -2}, {"position": -3}, "says position -2, and position= gives -3"),
        ({"v": ramp(), "site": "mlp_out", "layer": 2}, {"layer": 3}, "is layer=2, and layer= giv"),
        ({"v": ramp(), "site": "mlp_out"}, {"site": "attn_out"}, "says site mlp_out, and site= gi"),
        ({"v": ramp(), "layer": 2, "layer_idx": 3}, {}, "says two things of the layer"),
        ({"v": ramp(), "layer": -1}, {}, r"'layer': -1, is not known here\. Pass layer=\."),
        ({"vector": ramp(), "layer": 7}, {"layer": 3}, "says layer 7, .* and layer= gives 3"),
        ({"v": {"1": ramp()}, "site": "mlp"}, {}, r"'site': 'mlp', is not known .* Pass site=\."),
        ({"v": ramp(), "pos": 3}, {"layer": 2}, r"'pos': 3, is not known here\. Pass position=\."),
        ({"layers": [3, 4], "v": ramp(3)}, {}, r"three ways: .* The file itself says layer 3, 4"),
        ({"layers.5": ramp()}, {}, r"two ways: .* block 5 \(pass read_at='input'\), .* output of"),
        ({"direction.layer_5": ramp()}, {}, "can be read two ways"),
        ({"1": ramp(), "2": None}, {}, "floating vector .* at layer '2', found a NoneType"),
        ({"a": {1: ramp()}, "b": {1: ramp()}}, {}, "a dict of dicts with keys 'a', 'b'"),
        ({"1.hook_resid_post": ramp()}, {"read_at": "input"}, "by itself on which side"),
        (ramp(), {"read_at": "output"}, "one vector and no number that counts blocks"),
        (torch.zeros(D), {"layer": 3}, "holds nothing that points anywhere: v is zero"),
        (ramp() * 1e-30, {"layer": 3}, "holds nothing that points anywhere"),
        (ramp() * 1e30, {"layer": 3}, "holds nothing that points anywhere"),
        ({"3": torch.zeros(D)}, {}, "holds nothing that points anywhere"),
    ],
)  # fmt: skip
def test_what_is_not_clear_is_refused_in_one_line(tmp_path, held, asked, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        load(tmp_path, "v.pt", held, **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "site", "shift"),
    [
        ("{}", "resid_pre", 0),
        ("layer_{}", "resid_pre", 0),
        ("gpt_neox.layers.{}", "resid_pre", 1),
        ("model.layers.{}", "resid_pre", 1),
        ("transformer.h.{}", "resid_pre", 1),
        ("L{}", "resid_pre", 0),
        ("blocks.{}.hook_resid_pre", "resid_pre", 0),
        ("blocks.{}.hook_resid_post", "resid_pre", 1),
        ("blocks.{}.hook_attn_out", "attn_out", 0),
        ("model.layers.{}.mlp", "mlp_out", 0),
    ],
)
@pytest.mark.parametrize("name", ["v.pt", "v.safetensors", "v.npz", "v.json"])
def test_layers_as_text_are_layers(tmp_path, name, key, site, shift):
    rows = {key.format(layer): ramp(2)[row] + 0.5 for row, layer in enumerate((10, 2))}
    if name in ("v.npz", "v.json"):
        rows = {own: row.numpy() for own, row in rows.items()}
    if name == "v.json":
        rows = {own: row.tolist() for own, row in rows.items()}
    found = load(tmp_path, name, rows)
    assert (found.layers, found.site) == ((2 + shift, 10 + shift), site)
    assert found.values.dtype == torch.float32
    assert found.at(layer=10 + shift).vector.tolist() == (ramp(2)[0] + 0.5).tolist()
    own = [2 + shift, 10 + shift]
    relabelled = load(tmp_path, name, rows, layer=own, position=-4, name="refusal")
    assert (relabelled.layers, relabelled.positions) == (tuple(own), (-4,))
    assert relabelled.names == ("refusal",)
    assert relabelled.provenance["layer"] == "given by the reader"
    if "_" not in key.partition(".")[2] and not key.endswith("mlp"):
        for side, add in (("input", 0), ("output", 1)):
            told = load(tmp_path, name, rows, read_at=side)
            assert told.layers == (2 + add, 10 + add)
            assert told.provenance["layer"].startswith(f"given by the reader: the {side} of block")


@pytest.mark.parametrize("key", ["layer.{}", "layers.{}", "blocks.{}", "h.{}"])
def test_a_number_after_a_dot_alone_takes_the_side(tmp_path, key):
    rows = {key.format(layer): ramp() + layer for layer in (2, 10)}
    for side, add in (("input", 0), ("output", 1)):
        assert load(tmp_path, "v.pt", rows, read_at=side).layers == (2 + add, 10 + add)
    assert load(tmp_path, "v.pt", rows, layer=[3, 11]).layers == (3, 11)


@pytest.mark.parametrize(
    ("said", "asked", "layer", "position", "site"),
    [
        ({"layer": 5, "position": -3}, {}, 5, -3, "resid_pre"),
        ({"layer": 5, "position": -3}, {"layer": 5, "position": -3}, 5, -3, "resid_pre"),
        ({"layer": 5}, {"layer": 6}, 6, -1, "resid_pre"),
        ({"layer_idx": 5, "pos": -3}, {"read_at": "output"}, 6, -3, "resid_pre"),
        ({"layer": 5, "hook_name": "hook_resid_post"}, {}, 6, -1, "resid_pre"),
        ({"layers": [5], "site": "mlp_out"}, {}, 5, -1, "mlp_out"),
        ({"position": -3, "site": "resid_post"}, {"layer": 4}, 4, -3, "resid_pre"),
        ({"pos": 3, "layer": 5}, {"position": -2}, 5, -2, "resid_pre"),
    ],
)
@pytest.mark.parametrize("name", ["v.pt", "v.safetensors", "v.json"])
def test_what_a_file_says_of_its_place_is_read(tmp_path, name, said, asked, layer, position, site):
    path = tmp_path / name
    if name == "v.safetensors":
        metadata = {key: str(each) for key, each in (said | {"format": "pt", "model": "m"}).items()}
        save_file({"direction": ramp()}, str(path), metadata=metadata)
    else:
        vector = (ramp() + 0.5).tolist() if name == "v.json" else ramp()
        write(path, {**said, "model": "m", "direction": vector})
    found = wb.load_published(path, **asked).directions
    assert (found.layers, found.positions, found.site) == ((layer,), (position,), site)
    assert found.provenance["their_model"] == "m"
    if "position" in said:
        assert found.provenance["position"] == "as the file says" or "position" in asked
    if not asked and "layer" in said:
        assert found.provenance["layer"].startswith("as the file says")


def test_layers_and_positions_that_a_file_lists_are_those_of_its_rows(tmp_path):
    held = {"layers": torch.tensor([3, 4]), "v": ramp(2)}
    assert load(tmp_path, "v.pt", held).layers == (3, 4)
    assert load(tmp_path, "v.pt", held, read_at="output").layers == (4, 5)
    found = load(tmp_path, "v.pt", {"layer": 7, "positions": [-4, -2], "v": ramp(2)})
    assert (found.layers, found.positions) == ((7,), (-4, -2))
    assert load(tmp_path, "v.pt", {"3": ramp(), "site": "resid_post"}).layers == (4,)


def test_number_keys_and_text_keys_mean_the_same(tmp_path):
    rows = {3: ramp(), 1: ramp() + 1}
    numbers = load(tmp_path, "a.pt", rows)
    text = load(tmp_path, "b.pt", {str(layer): row for layer, row in rows.items()})
    assert numbers.layers == text.layers == (1, 3)
    assert "where it is the output of block l" in numbers.provenance["layer"]
    assert torch.equal(numbers.values, text.values)


def test_names_that_are_no_layers_are_names(tmp_path):
    held = {"refusal": ramp(), "harm": ramp() + 1}
    both = load(tmp_path, "v.safetensors", held, layer=3)
    assert (sorted(both.names), both.layers) == (["harm", "refusal"], (3,))
    assert both.at(name="harm").vector.tolist() == held["harm"].tolist()
    one = load(tmp_path, "v.safetensors", {**held, "W": ramp(4)}, layer=3, name="harm")
    assert one.names == ("harm",)
    layered = load(tmp_path, "v.pt", {"evil": ramp(4), "kind": ramp(4), "model": "m"}, axes="layer")
    assert (layered.names, layered.layers) == (("evil", "kind"), (0, 1, 2, 3))


def test_rows_can_be_directions_of_one_place(tmp_path):
    found = load(tmp_path, "v.pt", ramp(3), axes="name", layer=2)
    assert (found.names, found.layers) == (("v 0", "v 1", "v 2"), (2,))
    assert found.at(name="v 1").vector.tolist() == ramp(3)[1].tolist()
    named = load(tmp_path, "v.npz", {"x": ramp(2).numpy()}, axes="name", layer=2, name=("a", "b"))
    assert named.names == ("a", "b")
    with pytest.raises(ArtifactError, match="has 3 rows, and name= gives 2"):
        load(tmp_path, "v.pt", ramp(3), axes="name", layer=2, name=("a", "b"))


def test_the_note_says_which_blocks_rows_can_belong_to(tmp_path):
    note = load(tmp_path, "v.pt", ramp(8), axes="layer").provenance["layer"]
    assert "Of a model of 8 blocks these are all inputs" in note
    assert "of one of 7 blocks row 7 follows the last" in note
    assert "outputs of blocks 0..7 pass read_at='output'" in note
    told = load(tmp_path, "v.pt", ramp(8), axes="layer", read_at="output").provenance["layer"]
    assert told == (
        "given by the reader: row l is the output of block l, which is resid_pre of layer l + 1"
    )


def test_zeros_among_others_are_noted(tmp_path):
    found = load(tmp_path, "v.pt", {0: torch.zeros(D), 1: ramp()})
    assert "layers [0] are zero but for rounding" in found.provenance["zero"]


def test_a_vector_beside_a_run_of_arditi_is_not_its_choice(tmp_path):
    (tmp_path / "direction_metadata.json").write_text('{"pos": -2, "layer": 1}')
    assert load(tmp_path, "direction.pt", ramp()).layers == (1,)
    with pytest.raises(ArtifactError, match="holds one vector and not its layer"):
        load(tmp_path, "other.pt", ramp())


def test_what_a_run_of_arditi_holds_is_told_by_its_name(tmp_path):
    grid = ramp(2, 3)
    found = load(tmp_path, "mean_diffs.pt", grid)
    assert (found.names, found.layers, found.positions) == (("refusal",), (0, 1, 2), (-2, -1))
    assert torch.equal(found.values[0].transpose(0, 1), grid)
    with pytest.raises(
        ArtifactError, match=r"29 positions of layer 0\. Where they are layers pass"
    ):
        load(tmp_path, "mean_diffs.pt", ramp(29, 1))
    layers = load(tmp_path, "mean_diffs.pt", ramp(29, 1), axes="layer position")
    assert layers.layers == N


def test_persona_vectors_are_rows_of_hidden_states(tmp_path):
    found = load(tmp_path, "evil_response_avg_diff.pt", ramp(29))
    assert (found.names, found.layers, found.positions) == (("evil",), N, (-1,))
    assert "only a label" in found.provenance["position"]
    assert "final norm" in found.provenance["last_layer"]
    last = load(tmp_path, "evil_prompt_last_diff.pt", ramp(29), position=-4)
    assert last.positions == (-4,) and last.provenance["position"].startswith("the last token")
    with pytest.raises(ArtifactError, match=r"by itself which layers .* \.directions\.at\(layer=…"):
        load(tmp_path, "evil_response_avg_diff.pt", ramp(29), layer=20)


def svec(**changed):
    rows = {"10": [0.5] * D, "2": [0.25] * D}
    return {"model_type": "llama", "directions": rows, "explained_variances": {"2": 0.1}} | changed


def test_activation_steering_is_placed_where_it_acts(tmp_path):
    found = load(tmp_path, "refusal.svec", svec())
    assert (found.names, found.layers, found.positions) == (("refusal",), (2, 10), (-1,))
    assert found.at(layer=2).vector.tolist() == [0.25] * D
    assert found.provenance["architecture"] == "llama"
    assert "read at the output of block l" in found.provenance["layer"]
    assert load(tmp_path, "r.svec", svec(), position=-3).positions == (-3,)


@pytest.mark.parametrize(
    ("held", "asked", "message"),
    [
        (svec(), {"layer": 3}, "by itself which layers its vectors belong to"),
        (svec(directions={}), {}, "holds no vectors"),
        (svec(directions={"2": [0.5], "3": [0.5, 0.5]}), {}, "found widths 1, 2"),
        (svec(directions={"2": [float("nan")]}), {}, "not finite: 1 of its 1"),
        (svec(directions={"2": ["a"]}), {}, "expected a floating vector .* at layer 2, found list"),
        (svec(directions={"-1": [0.5]}), {}, "Expected 0-based numbers"),
        ("{", {}, "is broken"),
        ([], {}, "no floating tensor and no vectors by layer but a list"),
    ],
)
def test_what_is_no_svec_is_refused_in_one_line(tmp_path, held, asked, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        load(tmp_path, "v.svec", held, **asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "held"),
    [("v.npy", {"directions": {0: np.ones(D)}}), ("v.npz", {"v": np.array([{}], dtype=object)})],
)
def test_pickled_arrays_are_named_and_not_opened(tmp_path, name, held):
    with pytest.raises(ArtifactError, match=r"pickled Python object.*not opened.*np\.savez"):
        load(tmp_path, name, held)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a torch file: it is empty"),
        (b"e\n", "not a torch file: it begins with b'e.n', and none that torch"),
        (b"<html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS, so fetch"),
        (b"\x80\x02", "not a torch file: it is cut off or damaged"),
    ],
)
def test_what_torch_did_not_write_is_told_by_what_it_is(tmp_path, content, message):
    (tmp_path / "v.pt").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        wb.load_published(tmp_path / "v.pt")


@pytest.mark.parametrize("name", ["v.npy", "v.npz", "v.safetensors", "v.pt", "v.json"])
def test_what_is_broken_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(ArtifactError, match="is broken") as caught:
        wb.load_published(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64,) * 2],
)
def test_precision_is_kept_or_widened_and_gradients_are_not(tmp_path, dtype, kept):
    held = torch.nn.Parameter(ramp(2, 1, dtype=dtype))
    found = load(tmp_path, "v.pt", held)
    assert found.values.dtype == kept and not found.values.requires_grad
    if dtype != torch.float64:
        assert load(tmp_path, "v.safetensors", {"v": held.detach()}).values.dtype == kept


def test_ones_own_directions_are_read_too(tmp_path):
    own = wb.Directions.from_vector(ramp(), layer=4, name="mine")
    found = wb.load_published(own.save(tmp_path / "own.safetensors"))
    assert (found.directions.names, found.directions.layers) == (("mine",), (4,))
    with pytest.raises(ArtifactError, match="by itself which layers"):
        wb.load_published(tmp_path / "own.safetensors", layer=3)
    others = write(tmp_path / "others.safetensors", {"v": ramp()})
    with pytest.raises(ArtifactError, match=r"read with wb\.load_published"):
        wb.Directions.load(others)


def test_a_vector_of_others_compares_and_ablates(tmp_path, zoo):
    model = zoo["llama"].model
    vector = torch.randn(model.d_model, generator=torch.Generator().manual_seed(0))
    path = write(tmp_path / "v.safetensors", {"r": vector})
    found = wb.load_published(path, layer=1).directions
    own = wb.Directions.from_vector(vector, layer=1)
    tokens = model.tokens(["Tell me a story."])
    with wb.intervene(model, wb.Ablate(found)):
        expected = model.forward(tokens)
    with wb.intervene(model, wb.Ablate(own)):
        assert torch.equal(model.forward(tokens), expected)
    layers = write(tmp_path / "many.safetensors", {"1": vector, "2": -vector})
    compared = wb.compare_directions(layers, over="layer")
    assert compared.cosines["cosine"].min().item() == pytest.approx(-1)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"site": "resid_post"}, "no site 'resid_post': resid_pre.* resid_pre of layer l \\+ 1"),
        ({"axes": "name layer"}, "expected the axes"),
        ({"read_at": "middle"}, "no side 'middle' of a block: read_at='input' or 'output'"),
        ({"read_at": "output", "layer": 3}, "Pass one of layer= and read_at="),
        ({"read_at": "output", "site": "mlp_out"}, "Pass one of site= and read_at="),
        ({"axes": "row"}, "expected the axes before d_model in their order"),
        ({"layer": -1}, "layers are numbered from 0"),
        ({"layer": 1, "position": 3}, "no position 3: positions are negative"),
        ({"layer": "5"}, "found '5'. Pass layer=5"),
        ({"layer": 5.0}, "found 5.0. Pass layer=5"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path, asked, message):
    with pytest.raises(AxisError, match=message):
        load(tmp_path, "v.pt", ramp(), **asked)


@pytest.mark.parametrize(
    ("vector", "place", "message"),
    [
        (ramp(2), {}, r"takes one vector \[d_model\], found shape \(2, 6\)"),
        (torch.ones(0), {}, r"found shape \(0,\)"),
        ([1, 2], {}, "of floating numbers, found torch.int64"),
        (ramp() * 1j, {}, "of floating numbers, found torch.complex64"),
        (["a"], {}, "of numbers, found a list"),
        (None, {}, "of numbers, found a NoneType"),
        ([1.0, np.nan], {}, "1 of its 2 numbers are NaN or infinite"),
        (torch.zeros(D), {}, "zero or not finite, so it points nowhere: its length is 0"),
        (ramp() * 1e-30, {}, "its length is 7.42e-30, and 1e-12, or"),
        (ramp() * 1e30, {}, r"too long: its length is 7.42e\+30, and from 1.8e\+19 .* float32"),
        (np.ma.masked_array([1.0, 2.0], mask=[False, True]), {}, "an array with masked numbers"),
        (ramp(), {"layer": -1}, "layers are numbered from 0"),
        (ramp(), {"layer": 1.5}, "layer must be a whole number, found 1.5"),
        (ramp(), {"position": 0}, "positions count from the end and are negative"),
        (ramp(), {"site": "resid_post"}, "The output of block l is resid_pre of layer l"),
    ],
)
def test_from_vector_takes_one_vector_with_its_place(vector, place, message):
    with pytest.raises(AxisError, match=message):
        wb.Directions.from_vector(vector, **{"layer": 2, **place})


def test_from_vector_copies_and_labels():
    array = np.ones(D, dtype=np.float16)
    array.flags.writeable = False
    made = wb.Directions.from_vector(
        array, layer=np.int64(2), position=-2, site="attn_out", name="r", provenance={"source": "x"}
    )
    assert (made.names, made.layers, made.positions, made.site) == (("r",), (2,), (-2,), "attn_out")
    assert made.values.dtype == torch.float32 and type(made.layers[0]) is int
    assert dict(made.provenance) == {"source": "x"}
    held = ramp().requires_grad_()
    made = wb.Directions.from_vector(held, layer=0)
    assert not made.values.requires_grad
    assert made.values.data_ptr() != held.data_ptr()
